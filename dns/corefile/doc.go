// Package corefile reads a Corefile, the configuration of CoreDNS, into a checked and typed Config.
//
// The grammar is that of github.com/coredns/caddy/caddyfile, which CoreDNS itself uses: tokens,
// server blocks, snippets, import, environment variables. This package gives each directive the
// meaning, the defaults, the limits and the error texts that CoreDNS gives it, and sorts the
// directives of a block into CoreDNS's fixed order of plugins.
//
// A directive that CoreDNS does not know is an error, and so is one that CoreDNS knows and Fairway
// does not: silently leaving out an acl would be a hole. Each error names the file, the line and
// the plugin.
//
// It deliberately does not serve, open sockets, resolve names or talk to an API server. It reads
// files only where the meaning of the Corefile depends on them: imports, resolv.conf files of
// forward and autopath, and whether a named file is there at all. It owns no kernel object. To see
// what it makes of a Corefile: fairway dns check Corefile.
package corefile
