package proxiertest

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// A tale is a Scenario as it is told in one address family, or in both at once.
type tale struct {
	Scenario
	name   string // "IPv4/" and the scenario's name
	v4, v6 bool
	text   func(string) string // translates the scenario's addresses
	states []*Objects          // of the cluster, after each step
}

func same(s string) string { return s }

// tales returns the scenario in each family that it is for.
func tales(s Scenario) ([]*tale, error) {
	v4 := &tale{Scenario: s, name: "IPv4/" + s.Name, v4: true, text: same}
	v6 := &tale{Scenario: s, name: "IPv6/" + s.Name, v6: true, text: toIPv6}
	var out []*tale
	switch s.Families {
	case EachFamily:
		out = []*tale{v4, v6}
	case IPv4Only:
		out = []*tale{v4}
	case IPv6Only:
		v6.text = same
		out = []*tale{v6}
	case DualStack:
		out = []*tale{{Scenario: s, name: "DualStack/" + s.Name, v4: true, v6: true, text: same}}
	}
	for _, tl := range out {
		state := initial(tl.v4, tl.v6)
		for i, step := range s.Steps {
			var err error
			if state, err = state.apply(step.Objects, tl.text); err == nil {
				state, err = state.remove(step.Delete)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: step %d %s: %w", tl.name, i+1, step.Name, err)
			}
			tl.states = append(tl.states, state)
		}
		tl.Config.NodePortAddresses = slices.Clone(s.Config.NodePortAddresses)
		for i, a := range tl.Config.NodePortAddresses {
			tl.Config.NodePortAddresses[i] = tl.text(a)
		}
	}
	return out, nil
}

// podInterfaces is the prefix of the names of the interfaces that pods of node-1 are behind.
const podInterfaces = "pod-"

// resolveOptions are those of a node with this configuration.
func resolveOptions(c Config, v4, v6 bool) resolve.Options {
	o := resolve.Options{
		NodeName:          netlab.Node1,
		MasqueradeAll:     c.MasqueradeAll,
		NodePortAddresses: c.NodePortAddresses,
		DenyExternalIPs:   c.DenyExternalIPs,
		ServiceProxyName:  c.ServiceProxyName,
		IPv4:              v4,
		IPv6:              v6,
	}
	if !c.NoDetector {
		o.Detect = resolve.Detect{Mode: c.DetectMode}
		switch c.DetectMode {
		case "":
			o.Detect.ClusterCIDRs = netlab.ClusterCIDRs
		case resolve.DetectInterfaceNamePrefix:
			o.Detect.Interface = podInterfaces
		}
	}
	return o
}

// A server is what an endpoint of the scenario, or the target of a direct flow, has to run.
type server struct {
	place string
	proto proxier.Protocol
	at    netip.AddrPort
}

// servers returns what must be started for the tale, and the pods it needs.
func (tl *tale) servers() ([]server, []string, error) {
	all, pods := map[server]bool{}, map[string]bool{}
	need := func(place string) {
		if netlab.PodNode(place) != "" {
			pods[place] = true
		}
	}
	for _, state := range tl.states {
		for _, slice := range state.Slices {
			for _, ep := range slice.Endpoints {
				for _, port := range slice.Ports {
					if len(ep.Addresses) == 0 || port.Port == nil || *port.Port < 1 || *port.Port > 65535 {
						continue
					}
					a, _ := netip.ParseAddr(ep.Addresses[0])
					if place := netlab.PlaceOf(a); place != "" {
						need(place)
						all[server{place, protocolOf(port.Protocol), netip.AddrPortFrom(a, uint16(*port.Port))}] = true
					}
				}
			}
		}
	}
	for i, step := range tl.Steps {
		for _, f := range step.Flows {
			need(f.From.ns)
			for _, name := range f.Want.names {
				need(name)
			}
			to, err := tl.address(f.To)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: flow %q: %w", tl.name, f.Name, err)
			}
			place := netlab.PlaceOf(to.Addr())
			need(place)
			if f.Want.kind == reaches && slices.Equal(f.Want.names, []string{place}) &&
				Oracle(tl.states[i], tl.Config, tl.packet(&f, to)).Kind == NotOurs {
				all[server{place, f.protocol(), to}] = true
			}
		}
	}
	return slices.Collect(maps.Keys(all)), slices.Sorted(maps.Keys(pods)), nil
}

// packet is the first packet of the flow, as node-1 sees it.
func (tl *tale) packet(f *Flow, to netip.AddrPort) Packet {
	p := Packet{Dst: to, Protocol: f.protocol()}
	source, _ := tl.source(f.From)
	switch p.Src = source.Addr(); {
	case p.Src.IsValid():
	case f.From.ns == netlab.Node1: // what the kernel chooses for most of what is elsewhere
		p.Src = netlab.Node1Uplink
	default:
		p.Src = netlab.Addr(f.From.ns)
	}
	if to.Addr().Is6() {
		p.Src = netlab.V6(p.Src)
	}
	switch {
	case f.From.ns == netlab.Node1:
	case netlab.PodNode(f.From.ns) == netlab.Node1:
		p.In = podInterfaces + f.From.ns
	case f.From.ns == netlab.Outside:
		p.In = "outside"
	default:
		p.In = "node-2"
	}
	return p
}

// address reads a Flow's To.
func (tl *tale) address(to string) (netip.AddrPort, error) {
	if i := strings.LastIndexByte(to, ':'); i > 0 {
		if a := netlab.Addr(to[:i]); a.IsValid() { // a name
			if tl.v6 && !tl.v4 {
				a = netlab.V6(a)
			}
			return netip.ParseAddrPort(net.JoinHostPort(a.String(), to[i+1:]))
		}
	}
	ap, err := netip.ParseAddrPort(to)
	if err != nil {
		return ap, err
	}
	return tl.translate(ap), nil
}

func (tl *tale) translate(a netip.AddrPort) netip.AddrPort {
	if tl.v6 && !tl.v4 {
		return netip.AddrPortFrom(netlab.V6(a.Addr()), a.Port())
	}
	return a
}

// source is the address and port that a client at p binds to; each may be zero.
func (tl *tale) source(p Place) (netip.AddrPort, error) {
	if p.source == "" {
		return netip.AddrPortFrom(netip.Addr{}, p.port), nil
	}
	a, err := netip.ParseAddr(p.source)
	return tl.translate(netip.AddrPortFrom(a, p.port)), err
}

func (f *Flow) protocol() proxier.Protocol {
	if f.Protocol == 0 {
		return proxier.TCP
	}
	return f.Protocol
}

func protocolOf(p *corev1.Protocol) proxier.Protocol {
	switch {
	case p != nil && *p == corev1.ProtocolUDP:
		return proxier.UDP
	case p != nil && *p == corev1.ProtocolSCTP:
		return proxier.SCTP
	}
	return proxier.TCP
}
