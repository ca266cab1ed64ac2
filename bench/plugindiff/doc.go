// Package plugindiff compares Fairway's plugins with those of real CoreDNS, both running under the
// same Corefiles, query by query: rewrite, template, hosts, file, acl, autopath, dns64, view and
// the small ones. What kubernetes, forward and cache answer is bench/dnsdiff's to compare.
//
// Queries whose answers differ on purpose are marked with the reason, which is on the page
// docs/dns-differences.md; a mark that no answer needs is a fault too. The programs and namespaces
// are bench/nameserver's.
package plugindiff
