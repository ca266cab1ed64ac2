// Package poll reads a file again when it has changed: the hosts file, zone files and weights.
//
// It compares size and modification time, of what a symbolic link points to, so it sees the swap
// by which a ConfigMap is updated. It does not use inotify: these files may be on any file system,
// and the periods are CoreDNS's. The package owns no kernel object.
package poll
