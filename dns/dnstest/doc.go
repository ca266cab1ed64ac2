// Package dnstest compares answers with those of CoreDNS: recorded ones (dns/testdata/coredns) and
// those of a CoreDNS that runs beside.
//
// Both are brought into one form, [Answer], in which order, compression and the serial of an SOA
// do not count. [Compare] says what differs. What differs on purpose is in [Rules], each with the
// row of docs/dns-differences.md that tells users about it; [Explain] finds the rule.
//
// For tests only. It owns no kernel object.
package dnstest
