// Package basic holds the plugins that need neither files nor state: any, bufsize, cancel, chaos,
// header, local, minimal, nsid and whoami. Each is a file of its own.
//
// All of them pass on what does not concern them. debug is not here: it says how the server treats
// a panic and what it logs, and no query is answered differently. The package owns no kernel
// object.
package basic
