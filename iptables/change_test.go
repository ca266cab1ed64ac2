package iptables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// mutate returns a copy of s in which the frontends of one owner have edited pools.
func mutate(s *proxier.Snapshot, owner proxier.ServicePortName, edit func(*proxier.Pool), also func(*proxier.Frontend)) *proxier.Snapshot {
	out := *s
	out.Frontends = slices.Clone(s.Frontends)
	pools := map[*proxier.Pool]*proxier.Pool{}
	for i, f := range out.Frontends {
		if f.Owner != owner {
			continue
		}
		g := *f
		for o := range g.From {
			was := g.From[o].Pool
			if pools[was] == nil {
				p := *was
				p.Endpoints = slices.Clone(p.Endpoints)
				edit(&p)
				pools[was] = &p
			}
			g.From[o].Pool = pools[was]
		}
		also(&g)
		out.Frontends[i] = &g
	}
	return &out
}

// A change of endpoints alone is worked out without compiling the rest, and leaves the same state
// as compiling everything does. Other changes are left to that.
func TestEditIsACompile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "IPv6")
		n := rapid.IntRange(1, 30).Draw(t, "services")
		s := services(n, v6, func(i int) uint16 { return uint16(i*7 + 1) })
		if rapid.Bool().Draw(t, "no pods") {
			node := *s.Node
			node.Pods = proxier.PodMatch{}
			s.Node = &node
		}
		if rapid.Bool().Draw(t, "affinity") {
			s = mutate(s, s.Frontends[0].Owner, func(*proxier.Pool) {}, func(f *proxier.Frontend) { f.Affinity = time.Minute })
		}
		owner := s.Frontends[rapid.IntRange(0, len(s.Frontends)-1).Draw(t, "owner")].Owner
		none := func(*proxier.Frontend) {}
		add := func(p *proxier.Pool) {
			e := *p.Endpoints[0]
			e.Port = 9999
			p.Endpoints = append(p.Endpoints, &e)
		}
		edits := map[string]struct {
			edit  func(*proxier.Pool)
			also  func(*proxier.Frontend)
			alone bool
		}{
			"fewer endpoints": {func(p *proxier.Pool) { p.Endpoints = p.Endpoints[2:] }, none, true},
			"more endpoints":  {add, none, true},
			"other zone": {func(p *proxier.Pool) {
				e := *p.Endpoints[0]
				e.Zone = "z"
				p.Endpoints[0] = &e
			}, none, true},
			"no endpoints": {func(p *proxier.Pool) { p.Endpoints = nil }, none, false},
			"masquerade":   {add, func(f *proxier.Frontend) { f.From[0].Masquerade = !f.From[0].Masquerade }, false},
			"affinity":     {add, func(f *proxier.Frontend) { f.Affinity += time.Hour }, false},
			"sources":      {add, func(f *proxier.Frontend) { f.Sources = []netip.Prefix{} }, false},
			"scope":        {func(p *proxier.Pool) { p.Scope = proxier.ThisNode }, none, false},
		}
		e := edits[rapid.SampledFrom(slices.Sorted(maps.Keys(edits))).Draw(t, "edit")]
		now := mutate(s, owner, e.edit, e.also)

		o := Options{IPv4: !v6, IPv6: v6}
		before, in := inputOf(s, v6), inputOf(now, v6)
		first := compile(before, o, nil)
		f := &family{options: o, current: true, last: before, pools: first.pools, nat: stateOf(first.nat)}
		change, alone := f.editTo(in)
		if alone != e.alone {
			t.Fatalf("endpoints alone: %v, want %v", alone, e.alone)
		}
		if !alone {
			return
		}
		f.adopt(change)
		want := compile(in, o, nil)
		if script, _, _ := diff(f.nat, want.nat); script != nil {
			t.Fatalf("state differs from a compile:\n%s", script)
		}
		if !maps.EqualFunc(f.pools, want.pools, sameChain) {
			t.Fatal("remembered pools differ from a compile's")
		}
		if diff := cmp.Diff(first.filter(first.deny), want.filter(want.deny)); diff != "" {
			t.Fatalf("the filter table differs too:\n%s", diff)
		}
	})
}

func sameChain(a, b restore.Chain) bool { return a.Name == b.Name && slices.Equal(a.Rules, b.Rules) }

func BenchmarkOneEndpoint(b *testing.B) {
	s := services(10000, false, placements()["random"])
	o := Options{IPv4: true}
	in := inputOf(s, false)
	first := compile(in, o, nil)
	f := &family{options: o, current: true, last: in, pools: first.pools, nat: stateOf(first.nat)}
	versions := []input{inputOf(mutate(s, s.Frontends[5000].Owner, func(p *proxier.Pool) { p.Endpoints = p.Endpoints[1:] }, func(*proxier.Frontend) {}), false), in}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := versions[i%2]
		change, ok := f.editTo(next)
		if !ok || len(change.write) != 1 {
			b.Fatal(ok, change)
		}
		f.adopt(change)
		f.last = next
	}
}

// TestCommentsEnd: chains say whose they are until there are many frontends, and going there and
// back leaves what a fresh start would.
func TestCommentsEnd(t *testing.T) {
	inNamespace(t)
	o := Options{Variant: restore.Legacy, IPv4: true}
	all := services(maxCommented, false, func(i int) uint16 { return uint16(i + 1) })
	few := *all
	few.Frontends = all.Frontends[:maxCommented]
	b := newBackend(t, o)
	for _, step := range []struct {
		s    *proxier.Snapshot
		want bool
	}{{&few, true}, {all, false}, {&few, true}} {
		mustApply(t, b, step.s)
		if got := strings.Contains(saved(t, o.Variant), `--comment "scale/`); got != step.want {
			t.Errorf("%d frontends: comments %t, want %t", len(step.s.Frontends), got, step.want)
		}
		if ch := mustApply(t, newBackend(t, o), step.s); !ch.IsZero() {
			t.Errorf("%d frontends: a fresh start changes %v", len(step.s.Frontends), ch)
		}
	}
}

// TestRewrite: with iptables-legacy, other endpoints are written without a program, and leave what a
// fresh start would. What others changed meanwhile stays; if that was the chain, it is mended. If it
// is so again and again, the program does it, until the tables are read again.
func TestRewrite(t *testing.T) {
	inNamespace(t)
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock")) // other tests hold the machine's
	var ops []string
	o := Options{Variant: restore.Legacy, IPv4: true, IPv6: true, Intercept: func(op, object string) error {
		ops = append(ops, op+" "+object)
		return nil
	}}
	b := newBackend(t, o)
	s := example()
	mustApply(t, b, s)
	command(t, "", "iptables-legacy", "-t", "nat", "-A", "PREROUTING", "-s", "203.0.113.99/32", "-j", "RETURN")
	owner := s.Frontends[0].Owner
	change := func(port uint16, want ...string) {
		t.Helper()
		s = mutate(s, owner, func(p *proxier.Pool) {
			for i, e := range p.Endpoints {
				other := *e
				other.Port = port
				p.Endpoints[i] = &other
			}
		}, func(*proxier.Frontend) {})
		ops = nil
		mustApply(t, b, s)
		if diff := cmp.Diff(want, ops); diff != "" {
			t.Errorf("operations (-want +got):\n%s", diff)
		}
		if ch := mustApply(t, newBackend(t, o), s); !ch.IsZero() {
			t.Errorf("a fresh start changes %v", ch)
		}
	}
	change(9001, "rewrite ip nat", "rewrite ip6 nat")
	change(9002, "rewrite ip nat", "rewrite ip6 nat")
	if rules := saved(t, o.Variant); !strings.Contains(rules, "-A PREROUTING -s 203.0.113.99/32 -j RETURN") || !strings.Contains(rules, ":9002") {
		t.Error(rules)
	}
	for port := range uint16(maxMisses) {
		command(t, "", "iptables-legacy", "-t", "nat", "-F", svcPrefix+hash(owner.String(), protocol(owner.Protocol)))
		change(9003+port, "rewrite ip nat", "iptables-restore ip nat", "rewrite ip6 nat")
	}
	change(9010, "iptables-restore ip nat", "rewrite ip6 nat")
	b.Invalidate()
	mustApply(t, b, s)
	change(9011, "rewrite ip nat", "rewrite ip6 nat")
}

// TestFill: with iptables-legacy, a node without rules gets those of pools without a program, and the
// result is what the program would have left.
func TestFill(t *testing.T) {
	results := map[bool]string{}
	for _, works := range []bool{true, false} {
		t.Run(fmt.Sprint(works), func(t *testing.T) {
			inNamespace(t)
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock")) // other tests hold the machine's
			var wrote []string
			o := Options{Variant: restore.Legacy, IPv4: true, Intercept: func(op, object string) error {
				if op != "iptables-save" {
					wrote = append(wrote, op+" "+object)
				}
				if op == "rewrite" && !works {
					return errors.New("no")
				}
				return nil
			}}
			var notes []string
			o.Note = func(reason error) { notes = append(notes, reason.Error()) }
			s := example()
			b := newBackend(t, o)
			if ch := mustApply(t, b, s); ch.Updated > 0 || ch.Removed > 0 {
				t.Errorf("changes %v of an empty table", ch)
			}
			want := []string{"iptables-restore ip filter", "iptables-restore ip nat", "rewrite ip nat"}
			if !works {
				want = append(want, "iptables-restore ip nat")
			}
			if diff := cmp.Diff(want, wrote); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			if !works != slices.Equal(notes, []string{"rewrite ip nat: no"}) {
				t.Errorf("notes %q", notes)
			}
			b.Invalidate()
			if ch := mustApply(t, b, s); !ch.IsZero() {
				t.Errorf("a second look changes %v", ch)
			}
			results[works] = saved(t, o.Variant)
		})
	}
	if diff := cmp.Diff(results[false], results[true]); diff != "" {
		t.Errorf("(-with the program only +without):\n%s", diff)
	}
}
