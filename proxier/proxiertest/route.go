package proxiertest

import (
	"net/netip"

	"github.com/fairway-lb/fairway/proxier"
)

// A Packet is the first packet of a connection, as node-1 sees it before any translation.
type Packet struct {
	Src      netip.Addr
	In       string // interface it arrives on, "" if a process of the node sent it
	Dst      netip.AddrPort
	Protocol proxier.Protocol
}

// A Decision is what node-1 does with a Packet: what the oracle derives from Objects
// (Oracle(objects, config, packet)) and [Route] from a Snapshot.
type Decision struct {
	Kind DecisionKind
	// Endpoints is the set out of which one gets the connection, sorted; for Forward.
	Endpoints []netip.AddrPort
	// Masquerade is whether the endpoint sees the node's address in place of the client's. It
	// does not speak of hairpin connections, which are always masqueraded.
	Masquerade bool
	// Sticky is whether later connections of the same client go to the same endpoint.
	Sticky bool
}

// A DecisionKind is the kind of a Decision.
type DecisionKind uint8

// The kinds of decision.
const (
	NotOurs DecisionKind = iota // no frontend: the packet goes on as if there were no Services
	Forward
	Reject
	Drop
)
