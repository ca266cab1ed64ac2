// Package restore is the text format that iptables-save prints and iptables-restore reads: a
// model of it, a parser, a writer, and a way to run the two programs.
//
// A rule is kept as the text that follows "-A CHAIN ", exactly as iptables-save prints it. That
// text is canonical: iptables 1.8 prints the same for the nft and for the legacy variant of every
// rule that Fairway writes, so two rules are equal if their texts are. Packet and byte counters
// are dropped.
//
// The package knows nothing of Services, and does not interpret rules; see iptables/trace for
// that. It owns no kernel object.
//
// By hand: iptables-nft-save, iptables-legacy-save, and the same with ip6tables.
package restore
