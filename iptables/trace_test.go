package iptables

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/iptables/trace"
	"github.com/fairway-lb/fairway/proxier"
)

// A client is where a packet comes from.
type client struct {
	src netip.Addr
	in  string // interface, empty for the node itself
}

func clients(v6 bool) []client {
	var out []client
	for _, a := range nodeAddrs[v6][:3] {
		out = append(out, client{a, ""})
	}
	for _, a := range podAddrs[v6] {
		out = append(out, client{a, "pod-x"})
	}
	for _, a := range outsideAddrs[v6] {
		out = append(out, client{a, "eth0"})
	}
	return out
}

func isLocal(a netip.Addr) bool {
	return slices.Contains(nodeAddrs[a.Is6()], a)
}

// bound says which addresses have a socket.
func bound(at netip.AddrPort, _ string) bool {
	b := at.Addr().AsSlice()
	return b[len(b)-1]%2 == 0
}

// origin says where a client is, by the definition in package proxier.
func (c client) origin(n *proxier.Node) proxier.Origin {
	pods := n.Pods.For(c.src.Is6())
	prefix, wild := strings.CutSuffix(pods.Interface, "+")
	switch {
	case slices.ContainsFunc(pods.Prefixes, func(p netip.Prefix) bool { return p.Contains(c.src) }),
		c.in != "" && pods.Interface != "" && (c.in == pods.Interface || wild && strings.HasPrefix(c.in, prefix)):
		return proxier.FromPod
	case isLocal(c.src):
		return proxier.FromNode
	}
	return proxier.FromOutside
}

// expect returns what becomes of a connection, from the snapshot alone, as sorted lines.
func expect(s *proxier.Snapshot, c client, to netip.AddrPort, proto proxier.Protocol) []string {
	untouched := []string{"ACCEPT " + to.String()}
	if to.Addr().IsLoopback() {
		if to.Addr().Is4() && c.in != "" {
			return []string{"DROP"}
		}
		return untouched
	}
	find := func(a netip.Addr) *proxier.Frontend {
		for _, f := range s.Frontends {
			if (f.FrontendKey == proxier.FrontendKey{Addr: a, Port: to.Port(), Protocol: proto}) {
				return f
			}
		}
		return nil
	}
	f := find(to.Addr())
	accepts := func(p netip.Prefix) bool { return p.Contains(to.Addr()) }
	if f == nil && isLocal(to.Addr()) && slices.ContainsFunc(s.Node.NodePorts, accepts) {
		f = find(map[bool]netip.Addr{false: netip.IPv4Unspecified(), true: netip.IPv6Unspecified()}[to.Addr().Is6()])
	}
	if f == nil {
		return untouched
	}
	if f.Sources != nil && !slices.ContainsFunc(f.Sources, func(p netip.Prefix) bool { return p.Contains(c.src) }) {
		return []string{"DROP"}
	}
	r := f.From[c.origin(s.Node)]
	if f.StandIn != nil && bound(to, protocol(proto)) && c.in != "" {
		r.Pool = f.StandIn
	}
	if len(r.Pool.Endpoints) == 0 {
		switch {
		case r.Pool.Empty == proxier.Drop:
			return []string{"DROP"}
		case proto == proxier.TCP:
			return []string{"tcp-reset"}
		case to.Addr().Is6():
			return []string{"icmp6-port-unreachable"}
		}
		return []string{"icmp-port-unreachable"}
	}
	var out []string
	for _, e := range r.Pool.Endpoints {
		line := fmt.Sprintf("ACCEPT %s", e)
		if leaves := c.in == "" || !isLocal(e.Addr); leaves && (r.Masquerade || e.Addr == c.src) {
			line += " masqueraded"
		}
		if f.Affinity > 0 {
			line += " remembered"
		} else {
			line += fmt.Sprintf(" %.3f", 1/float64(len(r.Pool.Endpoints)))
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// observe returns the same from rules.
func observe(t interface{ Fatal(...any) }, m *trace.Machine, c client, to netip.AddrPort, proto proxier.Protocol) []string {
	outcomes, err := m.Run(trace.Packet{Src: c.src, Dst: to.Addr(), Protocol: protocol(proto), Port: to.Port(), In: c.in})
	if err != nil {
		t.Fatal(err)
	}
	chance := map[string]float64{}
	for _, o := range outcomes {
		line := o.Verdict
		if o.Verdict == "ACCEPT" {
			line += " " + o.To.String()
		}
		if o.Masqueraded {
			line += " masqueraded"
		}
		if o.Affinity != "" {
			line += " remembered"
		}
		chance[line] += o.Probability
	}
	var out []string
	for line, p := range chance {
		if o := strings.Fields(line); o[0] == "ACCEPT" && o[1] != to.String() && o[len(o)-1] != "remembered" {
			line += fmt.Sprintf(" %.3f", math.Round(p*1000)/1000)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func machine(t interface{ Fatal(...any) }, rules restore.Ruleset) *trace.Machine {
	m, err := trace.New(rules, isLocal)
	if err != nil {
		t.Fatal(err)
	}
	m.Socket = bound
	return m
}

// destinations are all keys of some snapshots, the node's addresses with the ports of NodePorts,
// and some that are nobody's.
func destinations(v6 bool, snapshots ...*proxier.Snapshot) []proxier.FrontendKey {
	out := []proxier.FrontendKey{{Addr: outsideAddrs[v6][0], Port: 80, Protocol: proxier.TCP}}
	for _, s := range snapshots {
		for _, f := range inputOf(s, v6).frontends {
			k := f.FrontendKey
			if !k.IsNodePort() {
				out = append(out, k)
				k.Port++
				out = append(out, k)
				continue
			}
			for _, a := range nodeAddrs[v6] {
				out = append(out, proxier.FrontendKey{Addr: a, Port: k.Port, Protocol: k.Protocol})
			}
		}
	}
	slices.SortFunc(out, proxier.FrontendKey.Compare)
	return slices.Compact(out)
}

// TestRulesFollowSnapshot holds compiled rules against the meaning of the snapshot, for random
// snapshots and packets of every origin. Without xt_socket, a stand-in takes everything.
func TestRulesFollowSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, drawNode(t), 12)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		o := Options{MasqueradeBit: rapid.SampledFrom([]int{0, 3, 31}).Draw(t, "bit"), hairpinList: rapid.Bool().Draw(t, "hairpinList"), noSocket: rapid.Bool().Draw(t, "noSocket")}
		p := Compile(s, o)
		if o.noSocket {
			s.Frontends = alwaysStandIn(s.Frontends)
		}
		for v6, rules := range map[bool]restore.Ruleset{false: p.IPv4, true: p.IPv6} {
			m := machine(t, rules)
			for _, k := range destinations(v6, s) {
				for _, c := range clients(v6) {
					to := netip.AddrPortFrom(k.Addr, k.Port)
					want := expect(s, c, to, k.Protocol)
					if diff := cmp.Diff(want, observe(t, m, c, to, k.Protocol)); diff != "" {
						t.Fatalf("%v to %v (-want +got):\n%s\n%s", c, k, diff, rules)
					}
				}
			}
		}
	})
}

// TestMarksOfOthers: bits that are not ours go through as they came, with every packet, and what is
// not for a Service keeps ours, too. Whoever sets it gets the packet masqueraded.
func TestMarksOfOthers(t *testing.T) {
	const own = 1 << defaultMasqueradeBit
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, drawNode(t), 12)
		p := Compile(s, Options{})
		v6 := rapid.Bool().Draw(t, "IPv6")
		rules := map[bool]restore.Ruleset{false: p.IPv4, true: p.IPv6}[v6]
		m := machine(t, rules)
		mark := rapid.Uint32().Draw(t, "mark")
		for _, k := range destinations(v6, s) {
			for _, c := range clients(v6) {
				outcomes, err := m.Run(trace.Packet{Src: c.src, Dst: k.Addr, Protocol: protocol(k.Protocol), Port: k.Port, In: c.in, Mark: mark})
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range outcomes {
					want := mark
					if leaves := c.in == "" || !isLocal(o.To.Addr()); leaves && o.Verdict == "ACCEPT" {
						want &^= own
						if mark&own != 0 && !o.Masqueraded {
							t.Fatalf("%v to %v: %+v is not masqueraded\n%s", c, k, o, rules)
						}
					}
					if o.Mark != want {
						t.Fatalf("%v to %v: mark %#x, came with %#x, want %#x\n%s", c, k, o.Mark, mark, want, rules)
					}
				}
			}
		}
	})
}
