// Package dnsbench measures what answers cost: Fairway's resolver beside CoreDNS under kubeadm's
// Corefile, on the same objects from the same list/watch server, with NSD and Unbound, which serve
// the same names from a zone file, as the limit of what is possible.
//
// All of them run at once, each in a namespace of its own (bench/nameserver), and are asked in
// turns by dnsperf of Debian, so that what disturbs the machine disturbs all. CPU time is read
// from the kernel's accounting of the process. It owns scratch files, and nothing in the kernel
// but those namespaces.
//
// It does not judge: the page that it writes gives the ratios, and whoever reads it the verdict.
// By hand: make bench-dns.
package dnsbench
