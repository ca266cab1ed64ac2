// Package scale measures how proxies cope with many Services, side by side: the time from the
// start of the process until every Service works, the time from one change of an endpoint until
// packets follow it, what comes of many changes in a row, and what it costs: CPU time of the proxy
// and of the kernel on its behalf, system calls, memory, and what is in the kernel's tables.
//
// A proxy and the tools it runs are counted by a control group of their own (process.Group). What
// the kernel does later in threads of its own (nftables frees what was replaced), and what the
// rules cost the packets, are not in it.
//
// Every subject runs alone, in a lab of namespaces made for it, on the same objects from the
// same list/watch server; runs of the subjects alternate. What counts is what packets see: a
// client in a pod connects to Services until a server answers. Endpoints are addresses of one pod
// that has them all, and that answers with the address it was reached by.
//
// The package deliberately measures no data path: latency and throughput are not its subject. It
// owns the lab's namespaces, the subjects' processes, a control group fairway-bench-..., and a
// scratch directory, all of which it removes on every way out. By hand, while it runs: ip netns;
// ip netns exec fw...-node-1 iptables-save; cat /sys/fs/cgroup/fairway-bench-*/cpu.stat.
package scale
