package proxiertest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A seen is an endpoint as the oracle reads it from a slice.
type seen struct {
	at                          netip.AddrPort
	local                       bool
	ready, serving, terminating bool
	zones, nodes                []string
}

// endpoints returns the addresses that connections to a port of svc may use when the whole
// cluster counts, and when only this node does (S-23 to S-32, S-40).
func (o *oracle) endpoints(svc *corev1.Service, port *corev1.ServicePort, v6 bool) (cluster, local []netip.AddrPort) {
	all := o.seen(svc, port, v6)
	ready := func(e seen) bool { return e.ready }
	leaving := func(e seen) bool { return e.serving && e.terminating }
	here := func(f func(seen) bool) func(seen) bool { return func(e seen) bool { return e.local && f(e) } }

	near := o.nearest(pick(all, ready))
	if len(near) == 0 {
		near = pick(all, leaving)
	}
	own := pick(all, here(ready))
	if len(own) == 0 {
		own = pick(all, here(leaving))
	}
	return addrs(near), addrs(own)
}

// seen reads every usable endpoint of a port from all slices of svc.
func (o *oracle) seen(svc *corev1.Service, port *corev1.ServicePort, v6 bool) []seen {
	var out []seen
	want := discoveryv1.AddressTypeIPv4
	if v6 {
		want = discoveryv1.AddressTypeIPv6
	}
	for _, slice := range slicesByName(o.Slices) {
		_, headless := slice.Labels["service.kubernetes.io/headless"]
		if headless || slice.Namespace != svc.Namespace || slice.AddressType != want ||
			slice.Labels[discoveryv1.LabelServiceName] != svc.Name {
			continue
		}
		number := slicePort(slice, port)
		if number == 0 {
			continue
		}
		for i := range slice.Endpoints {
			ep := &slice.Endpoints[i]
			if len(ep.Addresses) == 0 {
				continue
			}
			addr := sloppyAddr(ep.Addresses[0])
			if !addr.IsValid() || addr.Is6() != v6 || !o.usableEndpoint(svc, ep, addr) {
				continue
			}
			s := seen{
				at:          netip.AddrPortFrom(addr, number),
				local:       o.Node != nil && ep.NodeName != nil && *ep.NodeName != "" && *ep.NodeName == o.Node.Name,
				ready:       ep.Conditions.Ready == nil || *ep.Conditions.Ready,
				serving:     ep.Conditions.Serving == nil || *ep.Conditions.Serving,
				terminating: ep.Conditions.Terminating != nil && *ep.Conditions.Terminating,
			}
			if ep.Hints != nil {
				for _, z := range ep.Hints.ForZones {
					s.zones = append(s.zones, z.Name)
				}
				for _, n := range ep.Hints.ForNodes {
					s.nodes = append(s.nodes, n.Name)
				}
			}
			at := slices.IndexFunc(out, func(x seen) bool { return x.at == s.at })
			switch {
			case at < 0:
				out = append(out, s)
			case !s.terminating: // a new pod has taken over the address
				out[at] = s
			}
		}
	}
	return out
}

// slicePort is the number that a slice gives to a Service's port, 0 if none (S-25). Named target
// ports may have another number in every slice.
func slicePort(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort) uint16 {
	want := port.Protocol
	if want == "" {
		want = corev1.ProtocolTCP
	}
	for _, p := range slice.Ports {
		have := corev1.ProtocolTCP
		if p.Protocol != nil {
			have = *p.Protocol
		}
		if p.Name != nil && *p.Name == port.Name && have == want && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port)
		}
	}
	return 0
}

// nearest applies the hints of ready endpoints (S-40): all of them must carry a hint of a level,
// and one must name this node or its zone, or that level is not used.
func (o *oracle) nearest(ready []seen) []seen {
	if o.Node == nil {
		return ready
	}
	zone := o.Node.Labels[corev1.LabelTopologyZone]
	for _, level := range []struct {
		mine  string
		hints func(seen) []string
	}{
		{o.Node.Name, func(e seen) []string { return e.nodes }},
		{zone, func(e seen) []string { return e.zones }},
	} {
		hinted := pick(ready, func(e seen) bool { return len(level.hints(e)) > 0 })
		mine := pick(ready, func(e seen) bool { return slices.Contains(level.hints(e), level.mine) })
		if level.mine != "" && len(hinted) == len(ready) && len(mine) > 0 {
			return mine
		}
	}
	return ready
}

// usableEndpoint: nobody may make the node talk to itself, to its neighbours on the link or to
// the Service itself through a slice (CVE-2021-25737). An endpoint of a node may well have the
// address that its Service has for the outside: the node's.
func (o *oracle) usableEndpoint(svc *corev1.Service, ep *discoveryv1.Endpoint, a netip.Addr) bool {
	own := clusterIPs(svc)
	if ep.NodeName == nil {
		own = slices.Concat(own, o.externalIPs(svc), o.loadBalancerIPs(svc))
	}
	return !special(a) && !slices.Contains(own, a)
}

// externalIPs are those of svc's that it may have: none that already means something in the
// cluster (CVE-2020-8554).
func (o *oracle) externalIPs(svc *corev1.Service) (out []netip.Addr) {
	if o.config.DenyExternalIPs {
		return nil
	}
	for _, a := range sloppyAddrs(svc.Spec.ExternalIPs) {
		if o.usableVIP(svc, a) && !slices.Contains(o.nodeAddrs(), a) && !o.isAPIServer(a) && !inAny(clusterCIDRs, a) {
			out = append(out, a)
		}
	}
	return out
}

// loadBalancerIPs are the addresses that the load balancer delivers to the node unchanged (S-15,
// S-16). The status is written by a controller that may be trusted with what externalIPs may not:
// some put the nodes' own addresses there, and some clusters are flat.
func (o *oracle) loadBalancerIPs(svc *corev1.Service) (out []netip.Addr) {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	flat := slices.ContainsFunc(o.nodeAddrs(), func(a netip.Addr) bool { return inAny(clusterCIDRs, a) })
	for _, in := range svc.Status.LoadBalancer.Ingress {
		a, proxied := sloppyAddr(in.IP), in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP
		if !proxied && o.usableVIP(svc, a) && (flat || !inAny(clusterCIDRs, a)) {
			out = append(out, a)
		}
	}
	return out
}

func (o *oracle) usableVIP(svc *corev1.Service, a netip.Addr) bool {
	if special(a) || !hasFamily(svc, a) {
		return false
	}
	for _, c := range o.ServiceCIDRs {
		if inAny(c.Spec.CIDRs, a) {
			return false
		}
	}
	return true
}

// special addresses never belong to a Service nor to an endpoint.
func special(a netip.Addr) bool {
	return !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() ||
		a.IsLinkLocalUnicast() || a.Is4In6() || a.Zone() != "" || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (o *oracle) nodeAddrs() []netip.Addr {
	var out []netip.Addr
	if o.Node != nil {
		for _, a := range o.Node.Status.Addresses {
			if ip := sloppyAddr(a.Address); ip.IsValid() {
				out = append(out, ip)
			}
		}
	}
	return out
}

// sloppyAddr reads an address as Kubernetes always has: leading zeros are decimal (S-10).
// What is no address, or has a zone, gives the zero Addr.
func sloppyAddr(text string) netip.Addr {
	if parts := strings.Split(text, "."); len(parts) == 4 && !strings.Contains(text, ":") {
		for i, p := range parts {
			n, err := strconv.ParseUint(p, 10, 8)
			if err != nil {
				return netip.Addr{}
			}
			parts[i] = strconv.FormatUint(n, 10)
		}
		text = strings.Join(parts, ".")
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a
}

func sloppyPrefix(text string) (netip.Prefix, bool) {
	addr, bits, ok := strings.Cut(text, "/")
	a := sloppyAddr(addr)
	n, err := strconv.ParseUint(bits, 10, 8)
	if !ok || err != nil || !a.IsValid() || int(n) > a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, int(n)).Masked(), true
}

func sloppyAddrs(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, sloppyAddr(t))
	}
	return out
}

func inAny(ranges []string, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(text string) bool {
		p, ok := sloppyPrefix(text)
		return ok && p.Contains(a)
	})
}

func pick(in []seen, keep func(seen) bool) []seen {
	var out []seen
	for _, e := range in {
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}

func addrs(in []seen) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range in {
		out = append(out, e.at)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

func slicesByName(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return out
}
