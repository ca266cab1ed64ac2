package iptables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/iptables/trace"
	"github.com/fairway-lb/fairway/proxier"
)

// services returns a snapshot of n Services with five endpoints each: every one with a cluster
// address out of a /16 (v4) or /112 (v6), every tenth with a load balancer address and a NodePort
// too. place chooses the cluster address of the i-th.
func services(n int, v6 bool, place func(i int) uint16) *proxier.Snapshot {
	s := &proxier.Snapshot{Revision: 1, Node: &proxier.Node{
		Name: "node-1", Pods: proxier.PodMatch{Prefixes: prefixes("10.244.0.0/16", "fd00:244::/32")},
		NodePorts: prefixes("0.0.0.0/0", "::/0"),
	}}
	addr := func(base string, host int) netip.Addr {
		b := netip.MustParseAddr(base).AsSlice()
		for i := len(b) - 1; host > 0; i, host = i-1, host>>8 {
			b[i] += byte(host)
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	base := map[bool][3]string{false: {"10.96.0.0", "198.18.0.0", "10.244.0.0"}, true: {"fd00:96::", "2001:db8:100::", "fd00:244::"}}[v6]
	for i := range n {
		owner := proxier.ServicePortName{
			NamespacedName: proxier.NamespacedName{Namespace: "scale", Name: fmt.Sprintf("svc-%05d", i)}, Protocol: proxier.TCP}
		pool := &proxier.Pool{Owner: owner}
		for e := range 5 {
			pool.Endpoints = append(pool.Endpoints, &proxier.Endpoint{Addr: addr(base[2], (5*i+e)%65000+1), Port: uint16(8000 + (5*i+e)/65000), Ready: true})
		}
		slices.SortFunc(pool.Endpoints, func(a, b *proxier.Endpoint) int { return a.AddrPort().Compare(b.AddrPort()) })
		frontend := func(k proxier.FrontendKey, kind proxier.Kind, masquerade bool) {
			f := &proxier.Frontend{FrontendKey: k, Kind: kind, Owner: owner}
			for o := range f.From {
				f.From[o] = proxier.Route{Pool: pool, Masquerade: masquerade || proxier.Origin(o) != proxier.FromPod}
			}
			s.Frontends = append(s.Frontends, f)
		}
		frontend(proxier.FrontendKey{Addr: addr(base[0], int(place(i))), Port: 80, Protocol: proxier.TCP}, proxier.ClusterIP, false)
		if i%10 == 0 {
			frontend(proxier.FrontendKey{Addr: addr(base[1], i), Port: 80, Protocol: proxier.TCP}, proxier.LoadBalancer, true)
			unspecified := map[bool]netip.Addr{false: netip.IPv4Unspecified(), true: netip.IPv6Unspecified()}[v6]
			frontend(proxier.FrontendKey{Addr: unspecified, Port: uint16(30000 + i/10), Protocol: proxier.TCP}, proxier.NodePort, true)
		}
	}
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

// placements of cluster addresses: as an allocator would, at random, and one after the other.
func placements() map[string]func(i int) uint16 {
	order := rand.New(rand.NewPCG(1, 2)).Perm(1 << 16)
	return map[string]func(i int) uint16{
		"random":      func(i int) uint16 { return uint16(order[i]) },
		"consecutive": func(i int) uint16 { return uint16(i + 1) },
	}
}

// TestDispatchDepth: at 10,000 Services a packet to any frontend is tried on at most 40 rules
// before it enters a chain of its Service's own.
func TestDispatchDepth(t *testing.T) {
	const limit = 40
	for name, place := range placements() {
		for _, v6 := range []bool{false, true} {
			s := services(10000, v6, place)
			p := Compile(s, Options{IPv4: !v6, IPv6: v6})
			m := machine(t, append(p.IPv4, p.IPv6...))
			deepest, total := 0, 0
			for _, f := range s.Frontends {
				to := f.Addr
				if f.IsNodePort() {
					to = nodeAddrs[v6][0]
				}
				rules := rulesBefore(t, m, trace.Packet{Src: outsideAddrs[v6][0], Dst: to, Protocol: "tcp", Port: f.Port, In: "eth0"})
				total += rules
				deepest = max(deepest, rules)
			}
			t.Logf("%s addresses, IPv6 %v: at most %d rules, %.1f on average", name, v6, deepest, float64(total)/float64(len(s.Frontends)))
			if deepest > limit {
				t.Errorf("%s addresses, IPv6 %v: %d rules, want at most %d", name, v6, deepest, limit)
			}
		}
	}
}

// rulesBefore counts the rules of the nat table that a packet is tried on before it enters a
// chain of a Service.
func rulesBefore(t *testing.T, m *trace.Machine, p trace.Packet) int {
	count, arrived := 0, false
	m.Visit = func(table, chain, _ string) {
		arrived = arrived || isServiceChain(chain)
		if table == "nat" && !arrived {
			count++
		}
	}
	if _, err := m.Run(p); err != nil {
		t.Fatal(err)
	}
	if !arrived {
		t.Fatalf("%v does not reach a Service", p)
	}
	return count
}

func isServiceChain(name string) bool {
	for _, p := range []string{svcPrefix, svlPrefix, extPrefix, fwPrefix} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// TestChangeIsLocal: one endpoint more rewrites one chain; one Service more writes its own chain
// and those on its path in the tree.
func TestChangeIsLocal(t *testing.T) {
	s := services(10000, false, placements()["random"])
	first := compile(nil, inputOf(s, false), Options{})
	have := stateOf(first.nat().tableOf())
	for i := range 5 {
		f := s.Frontends[len(s.Frontends)-1-len(s.Frontends)/8*i]
		if f.Kind != proxier.ClusterIP {
			continue
		}
		changed := *s
		changed.Frontends = slices.Clone(s.Frontends)
		pool := *f.From[0].Pool
		pool.Endpoints = pool.Endpoints[1:]
		for j, g := range changed.Frontends {
			if g.Owner == f.Owner {
				g2 := *g
				for o := range g2.From {
					g2.From[o].Pool = &pool
				}
				changed.Frontends[j] = &g2
			}
		}
		e := diff(have, compile(first.now, inputOf(&changed, false), Options{}).nat())
		if ch := e.changes; ch.Added != 0 || ch.Removed != 0 || ch.Updated != 1 {
			t.Fatalf("one endpoint less of %s: %v\n%s", f, ch, e.script())
		}
		changed.Frontends = slices.DeleteFunc(slices.Clone(s.Frontends), func(g *proxier.Frontend) bool { return g == f })
		e = diff(have, compile(first.now, inputOf(&changed, false), Options{}).nat())
		if ch := e.changes; ch.Added+ch.Removed+ch.Updated > 12 {
			t.Fatalf("without %s: %v\n%s", f, ch, e.script())
		}
	}
}

// BenchmarkCompile is of what an Apply computes before the kernel is asked, at 10,000 Services: of
// the first, and of those that follow changes.
func BenchmarkCompile(b *testing.B) {
	all := services(10000, false, placements()["random"])
	without := func(drop func(*proxier.Frontend) bool) *proxier.Snapshot {
		s := *all
		s.Frontends = slices.DeleteFunc(slices.Clone(all.Frontends), drop)
		return &s
	}
	owner := all.Frontends[5000].Owner
	for _, bench := range []struct {
		name  string
		other *proxier.Snapshot // nil: nothing is known
	}{
		{"first", nil},
		{"endpoint", mutate(all, owner, func(p *proxier.Pool) { p.Endpoints = p.Endpoints[1:] }, func(*proxier.Frontend) {})},
		{"service", without(func(f *proxier.Frontend) bool { return f.Owner == owner })},
		{"half", without(func(f *proxier.Frontend) bool { return f.Owner.Name[len(f.Owner.Name)-1]%2 == 0 })},
	} {
		b.Run(bench.name, func(b *testing.B) {
			first := compile(nil, inputOf(all, false), Options{})
			have, was := stateOf(first.nat().tableOf()), first.now
			versions := []input{inputOf(all, false), inputOf(all, false)}
			if bench.other != nil {
				versions[0] = inputOf(bench.other, false)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if bench.other == nil {
					was = nil
				}
				ch := compile(was, versions[i%2], Options{})
				e := diff(have, ch.nat())
				if e.empty() != (bench.other == nil) {
					b.Fatal(e.changes)
				}
				have.adopt(e)
				was = ch.now
			}
		})
	}
}
