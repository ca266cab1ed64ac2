package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
)

// The node and the clients of generated snapshots.
var (
	nodeAddrs = map[bool][]netip.Addr{
		false: addrs("192.168.10.1", "192.168.20.1", "10.244.1.1", "127.0.0.1"), // 10.244.1.1 is a bridge among pods
		true:  addrs("fd00:10::1", "fd00:20::1", "fd00:244:1::1", "::1"),
	}
	podAddrs = map[bool][]netip.Addr{
		false: addrs("10.244.1.11", "10.244.1.12", "10.244.2.21", "10.245.0.7"),
		true:  addrs("fd00:244:1::11", "fd00:244:1::12", "fd00:244:2::21", "fd00:245::7"),
	}
	outsideAddrs = map[bool][]netip.Addr{
		false: addrs("192.168.20.9", "203.0.113.77"),
		true:  addrs("fd00:20::9", "2001:db8:113::77"),
	}
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// drawNode draws a node.
func drawNode(t *rapid.T) *proxier.Node {
	return &proxier.Node{
		Name: "node-1",
		Pods: rapid.SampledFrom([]proxier.PodMatch{
			{},
			{Prefixes: prefixes("10.244.0.0/16", "fd00:244::/32")},
			{Prefixes: prefixes("10.244.0.0/16", "10.245.0.0/16", "fd00:244::/32", "fd00:245::/32")},
			{Prefixes: prefixes("10.244.1.0/24")},
			{Interface: "pod-+"},
		}).Draw(t, "pods"),
		NodePorts: rapid.SampledFrom([][]netip.Prefix{
			prefixes("0.0.0.0/0", "::/0"),
			prefixes("192.168.10.0/24", "fd00:10::/64"),
			prefixes("192.168.10.1/32", "127.0.0.0/8", "::1/128"),
			nil,
		}).Draw(t, "nodePorts"),
	}
}

// drawSnapshot draws a snapshot with up to max Service ports for a node.
func drawSnapshot(t *rapid.T, node *proxier.Node, limit int) *proxier.Snapshot {
	s := &proxier.Snapshot{Revision: 1, Node: node}
	taken := map[proxier.FrontendKey]bool{}
	for i := range rapid.IntRange(0, limit).Draw(t, "owners") {
		v6 := rapid.Bool().Draw(t, "v6")
		owner := proxier.ServicePortName{
			NamespacedName: proxier.NamespacedName{Namespace: "ns", Name: fmt.Sprint("svc-", i)},
			Port:           rapid.SampledFrom([]string{"", "http"}).Draw(t, "port"),
			Protocol:       rapid.SampledFrom([]proxier.Protocol{proxier.TCP, proxier.TCP, proxier.UDP, proxier.SCTP}).Draw(t, "protocol"),
		}
		everywhere := drawPool(t, owner, v6)
		here := drawPool(t, owner, v6)
		here.Scope = proxier.ThisNode
		standIn := &proxier.Pool{Owner: owner, Scope: proxier.StandsIn}
		for _, a := range nodeAddrs[v6][:rapid.IntRange(1, 2).Draw(t, "stand-ins")] {
			standIn.Endpoints = append(standIn.Endpoints, &proxier.Endpoint{Addr: a, Port: 53, Ready: true, Local: true, NodeName: node.Name})
		}
		affinity := rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Hour}).Draw(t, "affinity")
		for range rapid.IntRange(1, 4).Draw(t, "frontends") {
			f := drawFrontend(t, owner, v6)
			if taken[f.FrontendKey] {
				continue
			}
			taken[f.FrontendKey] = true
			f.Affinity = affinity
			for o := range f.From {
				f.From[o] = proxier.Route{
					Pool:       rapid.SampledFrom([]*proxier.Pool{everywhere, everywhere, here}).Draw(t, "pool"),
					Masquerade: rapid.Bool().Draw(t, "masquerade"),
				}
			}
			if !f.IsNodePort() && f.Sources == nil && rapid.IntRange(0, 3).Draw(t, "stands in") == 0 {
				f.StandIn = standIn
			}
			if node.Pods.For(v6).IsZero() {
				f.From[proxier.FromPod] = f.From[proxier.FromOutside]
			}
			s.Frontends = append(s.Frontends, f)
		}
	}
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

func drawFrontend(t *rapid.T, owner proxier.ServicePortName, v6 bool) *proxier.Frontend {
	f := &proxier.Frontend{Owner: owner}
	f.Protocol = owner.Protocol
	f.Port = rapid.SampledFrom([]uint16{80, 443, 30080, 30081}).Draw(t, "frontendPort")
	if rapid.IntRange(0, 3).Draw(t, "isNodePort") == 0 {
		f.Kind, f.Addr = proxier.NodePort, netip.IPv4Unspecified()
		if v6 {
			f.Addr = netip.IPv6Unspecified()
		}
		return f
	}
	base := rapid.SampledFrom([]string{"10.96.0.0", "10.96.0.0", "198.51.100.0", "192.168.20.0"}).Draw(t, "base")
	if v6 {
		base = map[string]string{"10.96.0.0": "fd00:96::", "198.51.100.0": "2001:db8:100::", "192.168.20.0": "fd00:20::"}[base]
	}
	b := netip.MustParseAddr(base).AsSlice()
	b[len(b)-1] = byte(rapid.IntRange(1, 30).Draw(t, "host"))
	f.Addr, _ = netip.AddrFromSlice(b)
	if rapid.IntRange(0, 3).Draw(t, "hasSources") == 0 {
		f.Kind = proxier.LoadBalancer
		all := map[bool][]netip.Prefix{
			false: prefixes("10.244.1.0/24", "192.168.20.9/32", "192.168.10.0/24"),
			true:  prefixes("fd00:10::/64", "fd00:20::9/128", "fd00:244:1::/48"),
		}[v6]
		f.Sources = all[:rapid.IntRange(0, len(all)).Draw(t, "sources")]
	}
	return f
}

func drawPool(t *rapid.T, owner proxier.ServicePortName, v6 bool) *proxier.Pool {
	p := &proxier.Pool{Owner: owner, Empty: rapid.SampledFrom([]proxier.Verdict{proxier.Reject, proxier.Drop}).Draw(t, "empty")}
	for i, a := range podAddrs[v6] {
		if rapid.IntRange(0, 2).Draw(t, "endpoint") > 0 {
			p.Endpoints = append(p.Endpoints, &proxier.Endpoint{Addr: a, Port: 8080, Ready: true, Local: i < 2,
				NodeName: []string{"node-1", "node-1", "", ""}[i]})
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "noEndpoints") == 0 {
		p.Endpoints = nil
	}
	slices.SortFunc(p.Endpoints, func(a, b *proxier.Endpoint) int { return a.AddrPort().Compare(b.AddrPort()) })
	return p
}
