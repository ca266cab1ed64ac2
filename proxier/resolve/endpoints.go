package resolve

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// A candidate is an endpoint of one service port, with what decides whether this node uses it.
type candidate struct {
	*proxier.Endpoint
	hidden  bool // of a slice that proxies do not use
	standIn bool // takes the place of all others while it is there
	forNode hint
	forZone hint
}

// A listed is a candidate before it is known which endpoint pointer it gets.
type listed struct {
	proxier.Endpoint
	hidden, standIn  bool
	forNode, forZone hint
}

// endpoints reads the slices of the Group: the endpoints of a port are the union over all slices
// that have a port of that name and protocol, whatever its number (S-21, S-23). It fills in
// ports[i].Endpoints and returns the candidates of each port, in the same order.
func (b *builder) endpoints(svc *proxier.Service, ports []proxier.ServicePort, vips []claimed) [][]candidate {
	lists := make([][]listed, len(ports))
	var buf []listed
	for _, slice := range b.g.Slices {
		v6, ok := b.addressType(slice)
		if !ok {
			continue
		}
		buf = buf[:0]
		parsed := false
		for i := range slice.Ports {
			at, number := b.servicePort(slice, &slice.Ports[i], ports)
			if at < 0 {
				continue
			}
			if !parsed {
				buf, parsed = b.parseSlice(buf, slice, v6, svc, vips), true
			}
			for _, l := range buf {
				l.Port = number
				lists[at] = append(lists[at], l)
			}
		}
	}
	b.addStandIn(lists, svc, ports)
	out := make([][]candidate, len(ports))
	for i := range ports {
		var old []*proxier.Endpoint
		if b.old.service != nil {
			if p := b.old.service.Port(ports[i].Name, ports[i].Protocol); p != nil {
				old = p.Endpoints
			}
		}
		out[i] = merge(lists[i], old)
		if len(out[i]) > 0 {
			ports[i].Endpoints = make([]*proxier.Endpoint, len(out[i]))
			for j, c := range out[i] {
				ports[i].Endpoints[j] = c.Endpoint
			}
		}
	}
	return out
}

// addStandIn adds the server on this node that takes the place of a port's endpoints.
func (b *builder) addStandIn(lists [][]listed, svc *proxier.Service, ports []proxier.ServicePort) {
	if b.here == nil {
		return
	}
	for i := range ports {
		if ports[i].Port != b.here.Port || ports[i].Protocol == proxier.SCTP {
			continue
		}
		for _, a := range b.here.Addrs {
			if slices.Contains(svc.ClusterIPs, a.Addr()) {
				continue // connections to it would come back here
			}
			lists[i] = append(lists[i], listed{standIn: !b.here.Leaving, Endpoint: proxier.Endpoint{
				Addr: a.Addr(), Port: a.Port(), Local: true, NodeName: b.env.opts.NodeName, Zone: b.env.zone,
				Ready: !b.here.Leaving, Serving: true, Terminating: b.here.Leaving,
			}})
		}
	}
}

func (b *builder) sliceProblem(s *discoveryv1.EndpointSlice, reason, format string, args ...any) {
	b.rep.add("EndpointSlice", proxier.NamespacedName{Namespace: b.g.Name.Namespace, Name: s.Name}, reason, format, args...)
}

// addressType returns the family of a slice. FQDN slices are not supported by any proxy (S-09).
func (b *builder) addressType(s *discoveryv1.EndpointSlice) (v6, ok bool) {
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4:
		return false, true
	case discoveryv1.AddressTypeIPv6:
		return true, true
	}
	b.sliceProblem(s, ReasonUnsupported, "endpoints of address type %s are not used", addrText(string(s.AddressType)))
	return false, false
}

// servicePort returns which of ports a slice's port belongs to, -1 if to none, and its number. A
// port without a name or number is skipped (S-25).
func (b *builder) servicePort(s *discoveryv1.EndpointSlice, p *discoveryv1.EndpointPort, ports []proxier.ServicePort) (int, uint16) {
	if p.Name == nil {
		b.sliceProblem(s, ReasonInvalidPort, "a port without a name is not used")
		return -1, 0
	}
	var proto corev1.Protocol
	if p.Protocol != nil {
		proto = *p.Protocol
	}
	protocol, ok := protocolOf(proto)
	if !ok {
		b.sliceProblem(s, ReasonInvalidProtocol, "port %s has protocol %s", addrText(*p.Name), addrText(string(proto)))
		return -1, 0
	}
	i := slices.IndexFunc(ports, func(sp proxier.ServicePort) bool { return sp.Name == *p.Name && sp.Protocol == protocol })
	if i < 0 {
		return -1, 0
	}
	if p.Port == nil {
		b.sliceProblem(s, ReasonUnsupported, "port %s without a number is not used", addrText(*p.Name))
		return -1, 0
	}
	number := portOf(*p.Port)
	if number == 0 {
		b.sliceProblem(s, ReasonInvalidPort, "port %s has number %d", addrText(*p.Name), *p.Port)
		return -1, 0
	}
	return i, number
}

// parseSlice appends the usable endpoints of a slice, without their port.
func (b *builder) parseSlice(out []listed, s *discoveryv1.EndpointSlice, v6 bool, svc *proxier.Service, vips []claimed) []listed {
	_, hidden := s.Labels[corev1.IsHeadlessService]
	hidden = hidden && !svc.Headless
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		if len(ep.Addresses) == 0 {
			b.sliceProblem(s, ReasonInvalidAddress, "an endpoint has no address")
			continue
		}
		text := ep.Addresses[0] // the API defines the first only (S-24)
		a, zeros, err := parseAddr(text)
		if err != nil {
			b.sliceProblem(s, ReasonInvalidAddress, "endpoint %s %v", addrText(text), err)
			continue
		}
		if a.Is6() != v6 {
			b.sliceProblem(s, ReasonWrongFamily, "endpoint %s is not of family %s", a, familyName(v6))
			continue
		}
		if why := ownOrNotUnicast(a, ep, svc, vips); why != "" {
			b.sliceProblem(s, ReasonForbiddenAddress, "endpoint %s is %s", a, why)
			continue
		}
		if zeros {
			b.sliceProblem(s, ReasonAmbiguousAddress, "endpoint %s is read as %s", addrText(text), a)
		}
		out = append(out, b.parseEndpoint(a, ep, hidden))
	}
	return out
}

// ownOrNotUnicast says why connections must not go to a, or "". An endpoint that is an address of
// its own Service would be a loop. The exception is an endpoint on a node: its address is the
// node's, which is also what the Service has for external address. Many small clusters expose
// host-network pods like that.
func ownOrNotUnicast(a netip.Addr, ep *discoveryv1.Endpoint, svc *proxier.Service, vips []claimed) string {
	if why := notUnicast(a); why != "" {
		return why
	}
	if slices.Contains(svc.ClusterIPs, a) {
		return "the cluster IP of its own Service"
	}
	if ep.NodeName == nil && slices.ContainsFunc(vips, func(v claimed) bool { return v.addr == a }) {
		return "an address of its own Service"
	}
	return ""
}

func (b *builder) parseEndpoint(a netip.Addr, ep *discoveryv1.Endpoint, hidden bool) listed {
	isSet := func(p *bool, unset bool) bool {
		if p == nil {
			return unset
		}
		return *p
	}
	l := listed{hidden: hidden}
	l.Addr = a
	l.Ready = isSet(ep.Conditions.Ready, true)
	l.Serving = isSet(ep.Conditions.Serving, true) // not: as ready (S-27)
	l.Terminating = isSet(ep.Conditions.Terminating, false)
	node := b.env.opts.NodeName
	if ep.NodeName != nil {
		l.NodeName = *ep.NodeName
		l.Local = node != "" && l.NodeName == node
	}
	if ep.Zone != nil {
		l.Zone = *ep.Zone
	}
	if ep.Hostname != nil {
		l.Hostname = *ep.Hostname
	}
	if t := ep.TargetRef; t != nil && t.Kind == "Pod" && t.Name != "" {
		l.Target = t.Namespace + "/" + t.Name
	}
	if ep.Hints != nil {
		for _, h := range ep.Hints.ForNodes {
			l.forNode = l.forNode.with(h.Name, node)
		}
		for _, h := range ep.Hints.ForZones {
			l.forZone = l.forZone.with(h.Name, b.env.zone)
		}
	}
	return l
}

// merge sorts a port's endpoints and settles duplicates: the last one that is not terminating
// wins, because a pod may have got the address of one that is going; a hidden one never wins over
// one that is not. Endpoints of old with an equal value keep their pointer.
func merge(list []listed, old []*proxier.Endpoint) []candidate {
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b listed) int { return a.AddrPort().Compare(b.AddrPort()) })
	out := make([]candidate, 0, len(list))
	for i := 0; i < len(list); {
		best, j := &list[i], i+1
		for ; j < len(list) && list[j].Addr == best.Addr && list[j].Port == best.Port; j++ {
			if l := &list[j]; best.hidden != l.hidden {
				if best.hidden {
					best = l
				}
			} else if !l.Terminating {
				best = l
			}
		}
		i = j
		for len(old) > 0 && old[0].AddrPort().Compare(best.AddrPort()) < 0 {
			old = old[1:]
		}
		c := candidate{hidden: best.hidden, standIn: best.standIn, forNode: best.forNode, forZone: best.forZone}
		if len(old) > 0 && *old[0] == best.Endpoint {
			c.Endpoint = old[0]
		} else {
			ep := best.Endpoint
			c.Endpoint = &ep
		}
		out = append(out, c)
	}
	return out
}

// localReady counts the distinct ready addresses on this node over all ports, in the family that
// has more of them, so that a dual-stack pod counts once (S-71).
func localReady(ports [][]candidate) int {
	var counts [2]int
	seen := map[netip.Addr]bool{}
	for _, list := range ports {
		for _, c := range list {
			if !c.Local || !c.Ready || c.hidden || seen[c.Addr] {
				continue
			}
			seen[c.Addr] = true
			if c.Addr.Is6() {
				counts[1]++
			} else {
				counts[0]++
			}
		}
	}
	return max(counts[0], counts[1])
}
