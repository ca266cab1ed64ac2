package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// A claimed is an address other than a cluster IP that a Service wants.
type claimed struct {
	addr netip.Addr
	kind proxier.Kind // ExternalIP or LoadBalancer
}

// forbidden says why no Service may have the address a as one of kind, or "" if it may
// (CVE-2020-8554: whoever writes a Service could take over the address of something else).
//
// The status of a load balancer is written by a trusted controller, so it may name what an
// ordinary user's externalIPs may not: an address of this node (the service load balancer of k3s
// does, see [environment.forbiddenPort]), and an address in the pods' range where pods, nodes and
// load balancers share one range (the flat networks of some clouds do).
func (e *environment) forbidden(a netip.Addr, kind proxier.Kind) string {
	if why := notUnicast(a); why != "" {
		return why
	}
	if slices.Contains(metadata, a) {
		return "an address of cloud metadata"
	}
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	if kind != proxier.LoadBalancer {
		if e.isNode(a) {
			return "an address of this node"
		}
		if slices.ContainsFunc(e.apiServers, func(s netip.AddrPort) bool { return s.Addr() == a }) {
			return "an address of the API server"
		}
	}
	if kind == proxier.ClusterIP {
		return ""
	}
	if slices.ContainsFunc(e.serviceCIDRs, contains) {
		return "in the range of cluster IPs"
	}
	if i := slices.IndexFunc(e.podRanges, contains); i >= 0 {
		if kind == proxier.ExternalIP || !slices.ContainsFunc(e.addresses, e.podRanges[i].Contains) {
			return "in the range of pods"
		}
	}
	return ""
}

// forbiddenPort says why no load balancer may have a port of an address that it may have: the
// node and the API server must stay reachable.
func (e *environment) forbiddenPort(k proxier.FrontendKey) string {
	if k.Protocol != proxier.TCP {
		return ""
	}
	if slices.Contains(e.apiServers, netip.AddrPortFrom(k.Addr, k.Port)) {
		return "where the API server listens"
	}
	if k.Port == e.kubelet && e.isNode(k.Addr) {
		return "where the kubelet listens"
	}
	return ""
}

// externalAddresses returns the addresses beyond cluster IPs that the Service gets, and notes
// them in svc (S-15, S-16, S-20).
func (b *builder) externalAddresses(svc *proxier.Service) []claimed {
	var out []claimed
	for _, s := range b.spec.ExternalIPs {
		a, ok := b.address("externalIP", s)
		if !ok || slices.Contains(svc.ExternalIPs, a) || !b.allowExternalIP(a, svc) {
			continue
		}
		svc.ExternalIPs = append(svc.ExternalIPs, a)
		out = append(out, claimed{a, proxier.ExternalIP})
	}
	ingress := b.g.Service.Status.LoadBalancer.Ingress
	if len(ingress) > 0 && svc.Type != string(corev1.ServiceTypeLoadBalancer) {
		b.problem(ReasonInvalidField, "status.loadBalancer has no effect with type %s", svc.Type)
		return out
	}
	for i := range ingress {
		if ingress[i].IP == "" {
			continue // a host name; its addresses are not the cluster's to know
		}
		a, ok := b.address("load balancer address", ingress[i].IP)
		if !ok {
			continue
		}
		if !slices.Contains(svc.LoadBalancer, a) {
			svc.LoadBalancer = append(svc.LoadBalancer, a)
		}
		// An address may be listed once with each mode: it is the node's to handle if one says so.
		if !b.isVIP(&ingress[i]) || slices.Contains(out, claimed{a, proxier.LoadBalancer}) {
			continue
		}
		if why := b.env.forbidden(a, proxier.LoadBalancer); why != "" {
			b.problem(ReasonForbiddenAddress, "load balancer address %s is %s", a, why)
			continue
		}
		if !b.familyFits("load balancer address", a, svc) {
			continue
		}
		// An external IP that is also the load balancer's is the latter: that may restrict clients.
		out = slices.DeleteFunc(out, func(c claimed) bool { return c.addr == a })
		out = append(out, claimed{a, proxier.LoadBalancer})
	}
	return out
}

// isVIP reports whether packets for a load balancer's address may be handled on the node
// (KEP-1860); otherwise they must go out to the load balancer.
func (b *builder) isVIP(in *corev1.LoadBalancerIngress) bool {
	if in.IPMode == nil {
		return true
	}
	switch *in.IPMode {
	case corev1.LoadBalancerIPModeVIP:
		return true
	case corev1.LoadBalancerIPModeProxy:
		return false
	}
	b.problem(ReasonInvalidField, "ipMode has no value %s: load balancer address %s is not handled", addrText(string(*in.IPMode)), addrText(in.IP))
	return false
}

func (b *builder) allowExternalIP(a netip.Addr, svc *proxier.Service) bool {
	o := b.env.opts
	switch {
	case o.DenyExternalIPs:
		b.problem(ReasonExternalIPDenied, "externalIP %s: external IPs are switched off", a)
		return false
	case len(o.ExternalIPRanges) > 0 && !slices.ContainsFunc(o.ExternalIPRanges, func(p netip.Prefix) bool { return p.Contains(a) }):
		b.problem(ReasonExternalIPDenied, "externalIP %s is outside the ranges that are allowed", a)
		return false
	}
	if why := b.env.forbidden(a, proxier.ExternalIP); why != "" {
		b.problem(ReasonForbiddenAddress, "externalIP %s is %s", a, why)
		return false
	}
	return b.familyFits("externalIP", a, svc)
}

// familyFits reports a problem if the Service has no cluster IP of a's family: then it has no
// endpoints of that family either.
func (b *builder) familyFits(field string, a netip.Addr, svc *proxier.Service) bool {
	if slices.ContainsFunc(svc.ClusterIPs, func(c netip.Addr) bool { return c.Is6() == a.Is6() }) {
		return true
	}
	if svc.Ignored == "" {
		b.problem(ReasonWrongFamily, "%s %s: the Service has no cluster IP of family %s", field, a, familyName(a.Is6()))
	}
	return false
}

// A guard is who may use the load balancer addresses of one family.
type guard struct {
	sources []netip.Prefix // nil: anyone
	broken  bool           // nobody can be meant: no range is readable
}

// guards reads spec.loadBalancerSourceRanges (S-50). A range of length 0 lets in everyone of its
// family, and so does a list that names the other family only.
func (b *builder) guards() [2]guard {
	var out [2]guard
	var open [2]bool
	bad := false
	for _, s := range b.spec.LoadBalancerSourceRanges {
		s = strings.TrimSpace(s)
		p, zeros, err := parsePrefix(s)
		if err != nil {
			bad = true
			b.problem(ReasonInvalidSourceRange, "source range %s %v", addrText(s), err)
			continue
		}
		if zeros {
			b.problem(ReasonAmbiguousAddress, "source range %s is read as %s", addrText(s), p)
		}
		i := index(p.Addr().Is6())
		out[i].sources = append(out[i].sources, p)
		open[i] = open[i] || p.Bits() == 0
	}
	for i := range out {
		out[i].broken = bad && len(out[i].sources) == 0
		if open[i] {
			out[i].sources = nil
		}
		out[i].sources = canonicalPrefixes(out[i].sources)
	}
	return out
}

func index(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// sources returns the clients that may use the load balancer address vip. If the node itself may,
// so may the address itself: it can be local to the node, whose own packets to it then have it as
// their source too (S-52).
func (b *builder) sources(g guard, vip netip.Addr) []netip.Prefix {
	for _, p := range g.sources {
		if slices.ContainsFunc(b.env.addresses, p.Contains) {
			return canonicalPrefixes(append(slices.Clone(g.sources), netip.PrefixFrom(vip, vip.BitLen())))
		}
	}
	return g.sources
}

// frontends returns the frontends of a Service, sorted by key, with distinct keys.
func (b *builder) frontends(svc *proxier.Service, endpoints [][]candidate, vips []claimed, balance proxier.Balance) []*proxier.Frontend {
	guards := b.guards()
	base := router{
		masqueradeAll: b.env.opts.MasqueradeAll,
		internalLocal: b.internalLocal,
		externalLocal: b.externalLocal,
		oldPools:      poolsOf(b.old.frontends),
	}
	var out []*proxier.Frontend
	for i := range svc.Ports {
		port := &svc.Ports[i]
		for _, cluster := range svc.ClusterIPs {
			v6 := cluster.Is6()
			if !b.env.programs(v6) {
				continue
			}
			rt := base
			rt.owner = proxier.ServicePortName{NamespacedName: b.g.Name, Port: port.Name, Protocol: port.Protocol}
			var standIns []candidate
			rt.list, standIns = usable(endpoints[i], v6)
			rt.divert(v6, standIns)
			rt.tellsPods = b.env.tellsPods(v6)
			add := func(a netip.Addr, number uint16, kind proxier.Kind, sources []netip.Prefix) {
				out = append(out, &proxier.Frontend{
					FrontendKey: proxier.FrontendKey{Addr: a, Port: number, Protocol: port.Protocol},
					Kind:        kind,
					Owner:       rt.owner,
					Sources:     sources,
					From:        rt.routes(v6, kind),
					StandIn:     rt.standIn(v6, kind),
					Affinity:    svc.Affinity,
					Balance:     balance,
				})
			}
			add(cluster, port.Port, proxier.ClusterIP, nil)
			for _, v := range vips {
				if v.addr.Is6() == v6 && b.allowed(v, port, guards[index(v6)], svc) {
					var sources []netip.Prefix
					if v.kind == proxier.LoadBalancer {
						sources = b.sources(guards[index(v6)], v.addr)
					}
					add(v.addr, port.Port, v.kind, sources)
				}
			}
			if port.NodePort != 0 {
				add(unspecified(v6), port.NodePort, proxier.NodePort, nil)
			}
		}
	}
	return reuseFrontends(b.old.frontends, b.distinct(out))
}

// allowed reports whether the Service gets one port of an address.
func (b *builder) allowed(v claimed, port *proxier.ServicePort, g guard, svc *proxier.Service) bool {
	k := proxier.FrontendKey{Addr: v.addr, Port: port.Port, Protocol: port.Protocol}
	field := fmt.Sprintf("%s address %s", v.kind, k)
	if slices.Contains(svc.ClusterIPs, v.addr) {
		b.problem(ReasonForbiddenAddress, "%s is a cluster IP", field)
		return false
	}
	if v.kind != proxier.LoadBalancer {
		return true
	}
	if why := b.env.forbiddenPort(k); why != "" {
		b.problem(ReasonForbiddenAddress, "%s is %s", field, why)
		return false
	}
	if g.broken {
		b.problem(ReasonInvalidSourceRange, "%s is not handled: its source ranges name nobody", field)
		return false
	}
	return true
}

// distinct sorts the frontends and keeps one for each key: that of the port which comes first.
func (b *builder) distinct(list []*proxier.Frontend) []*proxier.Frontend {
	slices.SortStableFunc(list, func(x, y *proxier.Frontend) int { return x.Compare(y.FrontendKey) })
	out := list[:0]
	for _, f := range list {
		if n := len(out); n > 0 && out[n-1].FrontendKey == f.FrontendKey {
			b.problem(ReasonDuplicatePort, "%s of port %s belongs to port %s already", f, addrText(f.Owner.Port), addrText(out[n-1].Owner.Port))
			continue
		}
		out = append(out, f)
	}
	return out
}

func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
