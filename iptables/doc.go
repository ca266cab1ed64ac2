// Package iptables is the backend that programs iptables, in its nft and its legacy variant, for
// IPv4 and IPv6.
//
// A snapshot is compiled into chains (compile.go and the files next to it, pure), compared with
// what the kernel holds (diff.go, pure), and the chains that differ are written through
// iptables-restore --noflush (kernel.go, all of the I/O). One restore is one transaction: the
// chains of a table change together or not at all. With iptables-legacy, changes of endpoints alone
// go to the kernel without a program, which takes about four fifths of the time; see
// package xtables. So do the rules of endpoints when a node without any gets its first ones: there the
// nat table is written in two steps. Where that does not work, iptables-restore does it.
//
// # The path of a packet
//
// The first packet of a connection meets the nat table; the kernel's connection table does the
// rest. From PREROUTING or OUTPUT:
//
//	FAIRWAY-STANDIN     from PREROUTING alone: addresses for which a server of this node stands in
//	                    while it has a socket bound there, so no longer than it lives
//	FAIRWAY-SI-<hash>   those servers
//	KUBE-SERVICES       loopback addresses return; everything else tries what follows, in
//	                    FAIRWAY-PODS if a pod sent it, in FAIRWAY-MARKED if it has the mark
//	FAIRWAY-CLUSTER...  a tree over addresses and ports that masquerade all but pods (tree.go)
//	FAIRWAY-MASQ...     a tree over those that masquerade everyone
//	FAIRWAY-IP...       a tree over all others
//	KUBE-NODEPORTS      for the node's own addresses: a tree over ports
//	KUBE-FW-<hash>      clients that are let in, if not all are
//	KUBE-EXT-<hash>     which endpoints, by where the client is, if that makes a difference
//	KUBE-SVC-<hash>     one of the endpoints of the whole cluster, at random
//	KUBE-SVL-<hash>     the same, of this node
//
// and from POSTROUTING, KUBE-POSTROUTING, which masquerades what KUBE-MARK-MASQ marked, and
// hairpin connections. What the nat table did not take meets the filter table's KUBE-SERVICES,
// in INPUT, FORWARD and OUTPUT:
//
//	FAIRWAY-DENY...      a tree like the first, of addresses that refuse somebody
//	FAIRWAY-DENYPORT...  the same for NodePorts
//	KUBE-FW-<hash>       clients that are refused rather than dropped
//	FAIRWAY-VD-<hash>    how, by where the client is, if that makes a difference
//
// The filter table also holds KUBE-FORWARD (lets Service traffic be forwarded), KUBE-NODEPORTS
// (lets health checks in) and FAIRWAY-MARTIAN (keeps others from 127.0.0.0/8; never sets
// route_localnet, and never translates packets to loopback addresses).
//
// Names that start with KUBE- are kube-proxy's, and the hashes of KUBE-SVC- and KUBE-SVL- are
// computed as kube-proxy computes them. What a kube-proxy left under its names is taken over by
// the first Apply.
//
// # Why this shape
//
// Measured with 10,000 Services of 5 endpoints, on 2 cores:
//
//   - A rule per Service in one chain costs every new connection thousands of rules. The trees
//     take at most 36, at most 4 per level.
//   - On iptables-legacy every change fetches and replaces the whole table, whoever writes it, so
//     the number of chains and rules is the cost. kube-proxy's shape has a chain per endpoint, with two rules,
//     and one more that jumps there: 5 table entries per endpoint. Here an endpoint is one rule.
//     Its hairpin connections are found after translation, by one rule for all endpoints, and
//     affinity refreshes its lists in the rules that choose (masquerade.go, service.go).
//   - On iptables-nft 1.8.9 the time of a restore grows with the square of the number of chains.
//     For the same reason it is short here: 12,000 chains instead of 60,000.
//   - A rule per Service to mark clients that are not pods would be every seventh of the table.
//     A packet of theirs gets the mark before it meets the tree, and loses it behind the tree if
//     no Service took it. A mark that it came with stays (dispatch.go).
//
// # What changes touch
//
// An endpoint that comes or goes rewrites the chain of its Service port. A frontend that comes or
// goes rewrites one chain of the tree as well, seldom more than one. Both kinds of chains are
// pure functions of the snapshot, so the kernel's state does not depend on history, and a
// restart, which compares text, writes nothing. In between, the backend remembers a hash per
// chain and does not read.
//
// No other chains are compiled either (change.go): what differs between two snapshots is found by
// comparing pointers, and of the trees only the paths to entries that differ are made. There is no
// other way to compile: the first Apply is a change from nothing.
//
// The two tables cannot change in one transaction. Refusals that are new are written before the
// nat table changes, those that end are removed after (filter.go, transition).
//
// If iptables-restore refuses a script, the tables are read again, in case somebody changed our
// chains; then the hairpin rule, which needs xt_bpf, is replaced by a rule per endpoint address;
// then the Service ports that the kernel does not take are searched and left out (isolate.go).
//
// # What it does not do
//
//   - Balance: it chooses at random, whatever a frontend asks for.
//   - Affinity is kept by xt_recent, which remembers 100 clients per endpoint unless the kernel
//     module's parameter ip_list_tot says otherwise; the oldest are forgotten first.
//   - It does not lead connections that start on this node to a server that stands in for others:
//     the kernel looks for sockets (xt_socket) in PREROUTING, not in OUTPUT. Where it has no
//     xt_socket, such servers get all connections, be they there or not.
//   - It does not look at the order of our rules and others' in a built-in chain: ours are
//     inserted at the head, and stay where they are.
//   - It does not delete stale connections; see proxier/conntrack.
//   - Connections that are translated to an address of this node keep their client's address
//     even where they should be masqueraded: netfilter has no place to do it.
//   - Of a kube-proxy, it leaves what kubelet may own too (KUBE-FIREWALL), and an empty
//     KUBE-PROXY-CANARY in the mangle table, which it never looks at.
//   - With iptables before 1.6.2, which has no --random-fully, masqueraded connections that start
//     at the same time may get in each other's way.
//
// # By hand
//
// Everything is in the tables nat and filter:
//
//	iptables-save | grep 'ns/name'                     a Service's own chains, up to 1,000 frontends
//	iptables-save | grep -e '-d 10.96.0.10/32'         who leads to an address
//	iptables -t nat -nvL KUBE-SVC-XXXXXXXXXXXXXXXX     connections per endpoint
//	ls /proc/net/xt_recent                             affinity lists, one per endpoint
//	fairway render                                     what would be programmed
package iptables
