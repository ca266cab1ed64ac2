package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// A Protocol is a transport protocol, numbered as in the IP header.
type Protocol uint8

// The protocols a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns TCP, UDP or SCTP.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// A Kind tells where a frontend's address comes from. It is for people; backends treat all
// kinds alike, but for the unspecified address of a NodePort.
type Kind uint8

// The kinds of frontend.
const (
	ClusterIP Kind = iota
	NodePort
	ExternalIP
	LoadBalancer
)

// String returns the kind as Kubernetes writes it.
func (k Kind) String() string {
	switch k {
	case ClusterIP:
		return "ClusterIP"
	case NodePort:
		return "NodePort"
	case ExternalIP:
		return "ExternalIP"
	case LoadBalancer:
		return "LoadBalancer"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// A FrontendKey is an address:port/protocol that this node accepts connections for.
type FrontendKey struct {
	// Addr is unspecified (0.0.0.0 or ::) for a NodePort, which stands for every local address
	// of the family that Node.NodePorts contains. Never an IPv4-mapped IPv6 address.
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
}

// String returns address:port/protocol.
func (k FrontendKey) String() string {
	return netip.AddrPortFrom(k.Addr, k.Port).String() + "/" + k.Protocol.String()
}

// Compare orders by address (IPv4 first), port and protocol.
func (k FrontendKey) Compare(o FrontendKey) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Protocol, o.Protocol))
}

// IsNodePort reports whether the key stands for a port on the node's own addresses.
func (k FrontendKey) IsNodePort() bool { return k.Addr.IsUnspecified() }

// An Origin is where a new connection comes from.
type Origin uint8

// The origins. A packet is FromPod if Node.Pods matches it; else FromNode if its source address
// is one of the node's; else FromOutside. Pods are tested first.
const (
	FromPod Origin = iota
	FromNode
	FromOutside
	Origins // how many there are
)

// String returns pod, node or outside.
func (o Origin) String() string {
	switch o {
	case FromPod:
		return "pod"
	case FromNode:
		return "node"
	case FromOutside:
		return "outside"
	}
	return fmt.Sprintf("Origin(%d)", uint8(o))
}

// A Verdict is what happens to a connection that no endpoint can take.
type Verdict uint8

// The verdicts. Reject answers with a TCP reset or an ICMP port-unreachable; Drop is silent.
const (
	Reject Verdict = iota
	Drop
)

// String returns reject or drop.
func (v Verdict) String() string {
	if v == Drop {
		return "drop"
	}
	return "reject"
}

// A Balance is how a frontend chooses among its endpoints.
type Balance uint8

// The ways to balance. A backend that lacks one uses Random; resolve never reports that, the
// backend's documentation does.
const (
	Random Balance = iota
	RoundRobin
	LeastConnections
	Maglev
	Weighted
)

// String returns the value of the annotation fairway.dev/balance.
func (b Balance) String() string {
	return [...]string{"random", "round-robin", "least-connections", "maglev", "weighted"}[b]
}

// A Frontend is an address and port that this node load-balances, with every policy decision
// already taken.
type Frontend struct {
	FrontendKey
	Kind  Kind
	Owner ServicePortName
	// Sources are the clients that are let in, sorted; others are dropped silently. Nil lets
	// anyone in. They are of the frontend's family.
	Sources []netip.Prefix
	// From says what happens to a new connection, by the origin of its first packet.
	From [Origins]Route
	// StandIn, if not nil, takes new connections as long as a process on this node has a socket bound
	// to the frontend's own address and port, and From takes them otherwise: whatever way the process
	// ends, they go elsewhere from that moment. It has endpoints, which are of this node. A backend
	// leaves to From the connections whose kernel path cannot ask for a socket; one whose kernel
	// cannot ask at all lets StandIn take them always.
	StandIn *Pool
	// Affinity is how long a client address sticks to an endpoint after its last new
	// connection; 0 for not at all. All frontends of one Owner have the same.
	Affinity time.Duration
	Balance  Balance
}

// A Route is where connections of one origin go.
type Route struct {
	Pool *Pool // never nil
	// Masquerade replaces the client's address by one of the node's. A connection of an
	// endpoint to itself (hairpin) is masqueraded whatever this says.
	Masquerade bool
}

// A Pool is a set of endpoints to choose from. Frontends of one Owner and address family share
// their pools, by pointer.
type Pool struct {
	Owner ServicePortName
	// Scope tells the pools of one owner apart.
	Scope Scope
	// Endpoints are of one family, distinct in address and port, and sorted by them.
	Endpoints []*Endpoint
	// Empty is what happens to a connection while there are no Endpoints.
	Empty Verdict
}

// A Scope names a pool within its owner and family.
type Scope uint8

// The scopes: endpoints of the whole cluster, of this node only, or the servers of this node that
// stand in for all others, which are in pools of Frontend.StandIn alone.
const (
	Everywhere Scope = iota
	ThisNode
	StandsIn
	Scopes // how many there are
)

// String returns everywhere, this-node or stands-in.
func (s Scope) String() string {
	return [...]string{"everywhere", "this-node", "stands-in"}[s]
}
