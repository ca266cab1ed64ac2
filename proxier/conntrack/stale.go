package conntrack

import (
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/proxier"
)

// A table is the part of the connection table that one dump reads.
type table struct {
	v6       bool
	protocol proxier.Protocol
}

// String returns such as "ipv4 UDP".
func (t table) String() string {
	if t.v6 {
		return "ipv6 " + t.protocol.String()
	}
	return "ipv4 " + t.protocol.String()
}

// holds reports whether flows to k are in t.
func (t table) holds(k proxier.FrontendKey) bool {
	return k.Protocol == t.protocol && k.Addr.Is6() == t.v6
}

func tracked(p proxier.Protocol) bool { return p == proxier.UDP || p == proxier.SCTP }

// A due holds the frontends whose flows may be stale, each with the Service ports that stood
// behind it when it was removed or changed hands.
type due map[proxier.FrontendKey][]*proxier.ServicePort

// note adds what became due between two snapshots; prev may be nil.
func (d due) note(prev, now *proxier.Snapshot) {
	if prev == now {
		return
	}
	for x, y := range proxier.Diff(prev, now) {
		switch {
		case x == nil:
			d.add(y.FrontendKey, nil)
		case y == nil:
			d.add(x.FrontendKey, servicePort(prev, x.Owner))
		case x.Owner != y.Owner:
			d.add(y.FrontendKey, servicePort(prev, x.Owner))
		}
	}
	if prev == nil {
		return
	}
	if lost := lostEndpoints(prev, now); len(lost) > 0 {
		for _, f := range now.Frontends {
			if lost[f.Owner] {
				d.add(f.FrontendKey, nil)
			}
		}
	}
	if !slices.Equal(prev.Node.NodePorts, now.Node.NodePorts) {
		for _, f := range now.Frontends {
			if f.IsNodePort() {
				d.add(f.FrontendKey, servicePort(prev, f.Owner))
			}
		}
	}
}

func (d due) add(k proxier.FrontendKey, past *proxier.ServicePort) {
	if !tracked(k.Protocol) {
		return
	}
	ports := d[k]
	if past != nil {
		ports = append(ports, past)
	}
	d[k] = ports
}

// tables returns the parts of the connection table that have to be read.
func (d due) tables() []table {
	var out []table
	for _, v6 := range []bool{false, true} {
		for _, p := range []proxier.Protocol{proxier.UDP, proxier.SCTP} {
			t := table{v6, p}
			for k := range d {
				if t.holds(k) {
					out = append(out, t)
					break
				}
			}
		}
	}
	return out
}

// done forgets what was due in t.
func (d due) done(t table) {
	for k := range d {
		if t.holds(k) {
			delete(d, k)
		}
	}
}

// lostEndpoints returns the Service ports of both snapshots of which an endpoint serves no more.
func lostEndpoints(prev, now *proxier.Snapshot) map[proxier.ServicePortName]bool {
	lost := map[proxier.ServicePortName]bool{}
	a, b := prev.Services, now.Services
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0].NamespacedName); {
		case c < 0:
			a = a[1:]
			continue
		case c > 0:
			b = b[1:]
			continue
		case a[0] != b[0]:
			for i := range a[0].Ports {
				was := &a[0].Ports[i]
				if !tracked(was.Protocol) {
					continue
				}
				is := b[0].Port(was.Name, was.Protocol)
				if is != nil && !keeps(was, is) {
					lost[proxier.ServicePortName{NamespacedName: a[0].NamespacedName, Port: was.Name, Protocol: was.Protocol}] = true
				}
			}
		}
		a, b = a[1:], b[1:]
	}
	return lost
}

// keeps reports whether each endpoint that could hold flows in was still can in is.
func keeps(was, is *proxier.ServicePort) bool {
	if len(was.Endpoints) == 0 {
		return true
	}
	have := holders(is)
	for _, e := range was.Endpoints {
		if holdsFlows(was.Protocol, e) && !have[e.AddrPort()] {
			return false
		}
	}
	return true
}

// holdsFlows reports whether flows of the protocol may stay with e. See the package comment for
// why SCTP differs.
func holdsFlows(p proxier.Protocol, e *proxier.Endpoint) bool {
	return e.Serving || e.Ready || p == proxier.SCTP
}

// holders returns the endpoints that flows may stay with; sp may be nil.
func holders(sp *proxier.ServicePort) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	if sp == nil {
		return out
	}
	for _, e := range sp.Endpoints {
		if holdsFlows(sp.Protocol, e) {
			out[e.AddrPort()] = true
		}
	}
	return out
}

func servicePort(s *proxier.Snapshot, name proxier.ServicePortName) *proxier.ServicePort {
	if svc := s.Service(name.NamespacedName); svc != nil {
		return svc.Port(name.Port, name.Protocol)
	}
	return nil
}

func frontend(s *proxier.Snapshot, k proxier.FrontendKey) *proxier.Frontend {
	i, ok := slices.BinarySearchFunc(s.Frontends, k, func(f *proxier.Frontend, k proxier.FrontendKey) int {
		return f.Compare(k)
	})
	if !ok {
		return nil
	}
	return s.Frontends[i]
}

// A flow is one entry of the connection table, as far as it matters here.
type flow struct {
	to   netip.AddrPort // destination of the original direction: what the client asked for
	from netip.AddrPort // source of the reply direction: who answers
	zone uint16

	tuple, id []byte // attributes that name the entry in a deletion
}

// String returns who asked for what and who answers, without the client.
func (f *flow) String() string { return f.to.String() + " -> " + f.from.String() }

// A plan decides which flows of one table are stale.
type plan struct {
	table
	now       *proxier.Snapshot
	targets   map[proxier.FrontendKey]target
	nodePorts bool // some target is a NodePort: local must be set
	local     map[netip.Addr]bool
	anyAddr   netip.Addr // the address of NodePort frontends
}

// A target is a frontend whose flows are looked at.
type target struct {
	live bool                    // the frontend exists
	keep map[netip.AddrPort]bool // if it exists: who may answer
	past map[netip.AddrPort]bool // who may have answered before
}

func newPlan(d due, t table, now *proxier.Snapshot) *plan {
	p := &plan{table: t, now: now, targets: map[proxier.FrontendKey]target{}, anyAddr: netip.IPv4Unspecified()}
	if t.v6 {
		p.anyAddr = netip.IPv6Unspecified()
	}
	keep := map[proxier.ServicePortName]map[netip.AddrPort]bool{} // shared by the frontends of an owner
	for k, ports := range d {
		if !t.holds(k) {
			continue
		}
		var tg target
		if f := frontend(now, k); f != nil {
			tg.live = true
			if keep[f.Owner] == nil {
				keep[f.Owner] = holders(servicePort(now, f.Owner))
			}
			tg.keep = keep[f.Owner]
		}
		if len(ports) > 0 {
			tg.past = map[netip.AddrPort]bool{}
		}
		for _, sp := range ports {
			for _, e := range sp.Endpoints {
				tg.past[e.AddrPort()] = true
			}
		}
		p.targets[k] = tg
		p.nodePorts = p.nodePorts || k.IsNodePort()
	}
	return p
}

// stale reports whether f must be deleted.
func (p *plan) stale(f *flow) bool {
	if f.zone != 0 {
		return false
	}
	tg, ok := p.find(f.to)
	if !ok {
		return false
	}
	translated := f.from != f.to
	switch {
	case !tg.live:
		return translated && tg.past[f.from]
	case p.protocol == proxier.UDP:
		return !tg.keep[f.from]
	}
	return translated && !tg.keep[f.from]
}

// find returns the target that a flow to the address belongs to. An address of its own wins over
// the NodePort of the same number, as it does in every backend.
func (p *plan) find(to netip.AddrPort) (target, bool) {
	exact := proxier.FrontendKey{Addr: to.Addr(), Port: to.Port(), Protocol: p.protocol}
	if tg, ok := p.targets[exact]; ok {
		return tg, true
	}
	if !p.nodePorts {
		return target{}, false
	}
	nodePort := exact
	nodePort.Addr = p.anyAddr
	tg, ok := p.targets[nodePort]
	if !ok || !p.local[to.Addr()] || frontend(p.now, exact) != nil {
		return target{}, false
	}
	if tg.live && !contains(p.now.Node.NodePorts, to.Addr()) {
		tg.live = false // the port is not served on this address, or no more
	}
	return tg, true
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
