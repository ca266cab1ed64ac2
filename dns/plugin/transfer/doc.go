// Package transfer is the plugin transfer: whole zones for secondary servers (AXFR, RFC 5936).
//
// The records come from other plugins of the block, see [Transferer]. A transfer happens over TCP
// only: a sender of UDP may be anybody, and would have the answer sent to anybody. Nobody may
// transfer anything unless a directive says so, and of several directives the one with the longest
// zone counts, label by label.
//
// IXFR is answered with the SOA if the secondary is up to date, else with the whole zone, which
// RFC 1995 allows. There is no TSIG. Changes are not notified: secondaries look at the SOA as often
// as it says. The package owns no kernel object.
package transfer
