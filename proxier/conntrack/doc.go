// Package conntrack removes connection-tracking entries that would keep datagrams away from
// where the node now sends them.
//
// The kernel decides about address translation once per flow, with the flow's first packet. A TCP
// client notices a dead peer and connects again; a UDP client that keeps its source port keeps
// its entry alive with every packet, and so goes on sending to an endpoint that is gone, or to a
// virtual address that was not translated when the flow began. After each applied change a
// [Cleaner] deletes exactly those entries; the next packet of the flow then meets the rules as
// they are now.
//
// # What is deleted
//
// Only flows whose original destination is a frontend that the change touched:
//
//   - the frontend exists, and the flow is answered by something other than a serving endpoint of
//     the frontend's Service port. That includes flows that are not translated at all, because
//     they began before the frontend existed, and every flow when no endpoint is left.
//   - the frontend was removed, and the flow is translated to an endpoint that the Service port
//     had while the frontend existed.
//
// A NodePort frontend stands for the node's own addresses only: a flow between other hosts that
// happens to use the same port number is not touched, as it would be by kube-proxy. Which
// endpoints a frontend may choose, by policy or zone, plays no part: a flow stays with an
// endpoint that serves.
//
// SCTP associations survive a change of address translation as badly as UDP flows do, but like
// TCP they may end in peace on an endpoint that stopped being ready: they are deleted only when
// their endpoint is not listed any more.
//
// # What it does not do
//
// It leaves TCP alone, and zones other than the default one, where other software keeps entries
// of its own. It does not run by itself: whoever applies snapshots calls [Cleaner.Clean].
//
// # Kernel objects
//
// It owns none. It reads the table through ctnetlink (family and protocol are filtered by the
// kernel since Linux 5.8, and here in any case), one message at a time: the table is never held
// in memory. Entries are deleted by tuple and id, so that a flow that began anew in the meantime
// survives. To look by hand: conntrack -L -p udp; to see deletions as they happen:
// conntrack -E -e DESTROY -p udp.
package conntrack
