// Package dnsclients has the tests of the resolver with the resolvers of real programs: glibc,
// musl, Go, Node.js and dig find under Fairway what they find under CoreDNS, through the search list
// that Kubernetes gives to pods. It has no other code.
//
// A client runs in the server's network namespace (bench/nameserver), and in a mount namespace in
// which /etc/resolv.conf and /etc/nsswitch.conf are a pod's. Both end with the client.
//
// systemd-resolved is not among them: its package takes over the machine's own /etc/resolv.conf. By
// hand, out of the unpacked package (dpkg -x) in namespaces of its own with DNS= set to the
// resolver, version 252 found names, NODATA and NXDOMAIN of the cluster (2026-11).
package dnsclients
