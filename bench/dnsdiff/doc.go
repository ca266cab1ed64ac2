// Package dnsdiff compares Fairway's resolver with real CoreDNS, both running, over the same
// objects under the same Corefile: random clusters, and random queries that are made from them. It
// also changes objects of a real API server at random, and compares how the answers follow.
//
// What counts as the same, and where Fairway differs on purpose, is dns/dnstest's and
// docs/dns-differences.md's to say. The programs and namespaces are bench/nameserver's. Run it by
// hand with other random numbers: go test ./bench/dnsdiff -seed N -clusters 50.
package dnsdiff
