// Package netlab builds small clusters out of network namespaces: two nodes, pods behind them and
// a client outside, with real packets in a real kernel. Tests, the demo and measurements use it.
//
//	outside ------------- node-1 ------------- node-2
//	192.168.20.9..11   .20.1 | .10.1   .10.2     |
//	                   pods a to e          pods f to j
//	                  10.244.1.11..15      10.244.2.21..25
//
// node-1 is the node under test. It is also the router in the middle, so that replies of pods on
// node-2 to outside clients pass its connection table. Each pod is a namespace of its own on a
// veth pair; pods of one node reach each other through the node, as with routed CNIs. outside
// and node-2 send packets for Services' addresses to node-1.
//
// Everything has an IPv6 address as well, see [V6]. Pods run small servers in this process, which
// answer with their name and the client address they see, so that one connection tells where it
// went and whether it was masqueraded.
//
// The package owns the namespaces named fw<pid>x<n>-..., seen with "ip netns". They go away with
// [Lab.Close], and those of processes that were killed with the next [Build]. To look around by
// hand: "ip netns exec fw123x0-node-1 iptables-save".
//
// It programs no rules and knows nothing of Services. It needs root.
package netlab
