// Package scale measures how proxies cope with many Services, side by side: the time from the
// start of the process until every Service works, the time from one change of an endpoint until
// packets follow it, and memory and CPU time.
//
// Every subject runs alone, in a lab of namespaces made for it, on the same objects from the
// same list/watch server; runs of the subjects alternate. What counts is what packets see: a
// client in a pod connects to Services until a server answers. Endpoints are addresses of one pod
// that has them all, and that answers with the address it was reached by.
//
// The package deliberately measures no data path: latency and throughput are not its subject. It
// owns the lab's namespaces, the subjects' processes, and a scratch directory, all of which it
// removes on every way out. By hand, while it runs: ip netns; ip netns exec fw...-node-1
// iptables-save.
package scale
