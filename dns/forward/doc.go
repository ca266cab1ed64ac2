// Package forward asks other resolvers: the plugin forward of a Corefile.
//
// A query becomes a flight: the question is asked of one upstream after the other, in the order of
// the policy, until one answers or five seconds have passed. Whoever asks the same in the meantime
// waits for that flight and starts none. Each UDP query has a socket of its own, connected, on a
// port that the kernel picks at random, and a random id; what comes back and does not fit both and
// the question is counted and ignored, and when that happens again and again the question is asked
// over TCP. So a forger has to guess about 30 bits, for one question once, in the time of one
// answer.
//
// Queries are written anew and not passed on: with an OPT of 1232 bytes and without the client's
// options. A truncated reply is fetched again over TCP. Of a reply only what belongs to the
// question is kept, see scrub.go.
//
// An upstream is down when more than max_fails health checks in a row got no answer; checks begin
// after an error and end with the first answer. Addresses that came from a resolv.conf file are
// read again when the file changes.
//
// The package caches nothing, that is for dns/cache, and serves no sockets. It owns sockets to
// upstreams: see them with ss -unp and ss -tnp. The metrics are coredns_proxy_*,
// coredns_forward_* and fairway_dns_forward_*.
package forward
