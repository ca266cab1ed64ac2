package proxiertest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
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

// Local are the addresses of node-1 that others can reach, of both families.
func Local() []netip.Addr {
	return append(netlab.Local(netlab.Node1, false), netlab.Local(netlab.Node1, true)...)
}

// Route says what a snapshot asks a backend to do with a packet, on a node with these local
// addresses. It is the naive reading of package proxier's types: what a backend compiles, and
// what the kernel then does, must agree with it, and it with the oracle.
func Route(s *proxier.Snapshot, local []netip.Addr, p Packet) Decision {
	f := frontend(s, local, p)
	if f == nil {
		return Decision{Kind: NotOurs}
	}
	if f.Sources != nil && !contains(f.Sources, p.Src) {
		return Decision{Kind: Drop}
	}
	r := f.From[origin(s.Node, local, p)]
	switch {
	case len(r.Pool.Endpoints) == 0 && r.Pool.Empty == proxier.Drop:
		return Decision{Kind: Drop}
	case len(r.Pool.Endpoints) == 0:
		return Decision{Kind: Reject}
	}
	d := Decision{Kind: Forward, Masquerade: r.Masquerade, Sticky: f.Affinity > 0}
	for _, e := range r.Pool.Endpoints {
		d.Endpoints = append(d.Endpoints, e.AddrPort())
	}
	return d
}

// frontend finds the frontend of a packet: the one of its very address, else a NodePort.
func frontend(s *proxier.Snapshot, local []netip.Addr, p Packet) *proxier.Frontend {
	dst := p.Dst.Addr()
	key := proxier.FrontendKey{Addr: dst, Port: p.Dst.Port(), Protocol: p.Protocol}
	for _, f := range s.Frontends {
		if f.FrontendKey == key {
			return f
		}
	}
	if !slices.Contains(local, dst) || dst.IsLoopback() || !contains(s.Node.NodePorts, dst) {
		return nil
	}
	for _, f := range s.Frontends {
		if f.IsNodePort() && f.Addr.Is6() == dst.Is6() && f.Port == key.Port && f.Protocol == key.Protocol {
			return f
		}
	}
	return nil
}

// origin says where a packet comes from, as proxier.Origin defines it.
func origin(n *proxier.Node, local []netip.Addr, p Packet) proxier.Origin {
	pods := n.Pods.For(p.Src.Is6())
	prefix, wild := strings.CutSuffix(pods.Interface, "+")
	switch {
	case contains(pods.Prefixes, p.Src):
		return proxier.FromPod
	case pods.Interface != "" && (p.In == prefix || wild && p.In != "" && strings.HasPrefix(p.In, prefix)):
		return proxier.FromPod
	case slices.Contains(local, p.Src):
		return proxier.FromNode
	}
	return proxier.FromOutside
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
