// Package loop finds upstreams that forward back to this server: the plugin loop of a Corefile.
//
// Each upstream of the block's forward directives is asked for a name that nobody can guess. If
// that name comes in as a query, the upstream sends us what we send it. CoreDNS then ends its
// process. Here the upstream is isolated: it is not asked any more, an error says so, and all other
// names are answered as before. It is asked again every half minute, and put back into use once
// the name stays away. So a packet can never end the process, not even one with the right name
// (CVE-2026-26018).
//
// Upstreams that come later, from a changed resolv.conf, are looked at within half a minute.
//
// The package opens no socket: the plugin forward asks. It owns no kernel object. To look at it:
// the log, and the metric fairway_dns_forward_isolated.
package loop
