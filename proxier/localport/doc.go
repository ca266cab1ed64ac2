// Package localport serves TCP NodePorts on the loopback addresses, where the data planes do not.
//
// kube-proxy's iptables mode answers 127.0.0.1:nodePort by address translation, for which it sets
// net.ipv4.conf.all.route_localnet. That makes every service on the node's loopback interface
// reachable from its neighbours in the network (CVE-2020-8558) unless yet another rule guards it.
// Fairway never sets it. As KEP-6032 proposes, a [Forwarder] listens on loopback instead and
// copies between the client and an endpoint.
//
// # What a client sees
//
// Connections are spread at random over the endpoints that the NodePort has for connections that
// come from the node itself; with session affinity they go to one endpoint. The endpoint sees an
// address of the node, as it does with masquerade. Without endpoints nothing listens, so that
// connecting is refused. Half-closed connections work; a reset on one side becomes a reset on the
// other. A connection outlives changes of its Service, as it does in the kernel, but not the
// process.
//
// # What it does not do
//
// UDP and SCTP are not forwarded. A port that another process holds is left to it: that is
// reported by [Forwarder.Problems], and tried again. Loopback addresses other than the configured
// ones are not served.
//
// # Kernel objects
//
// Listening sockets only. To look by hand: ss -ltnp.
package localport
