// Package dns64 is the plugin dns64: AAAA records made of A records (RFC 6147), for clients behind
// a NAT64.
//
// Without allow_ipv4 it acts only for clients that ask over IPv6. The A records come from the whole
// chain of the block, with all its rules. Beyond CoreDNS it leaves alone what a validating client
// asks for (DO and CD), does not count IPv4-mapped addresses as IPv6 (5.1.4), and if there is no A
// record either, gives the reply to the AAAA question unchanged.
//
// It does not answer PTR for its prefix. The package owns no kernel object.
package dns64
