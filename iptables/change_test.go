package iptables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// A follower applies compiled changes to tables in memory, and checks each.
type follower struct {
	options Options
	have    *compiled
	deny    []entry
	models  map[string]*model
	states  map[string]*state
}

func newFollower(o Options) *follower {
	f := &follower{options: o, models: map[string]*model{}, states: map[string]*state{}}
	for _, name := range tables {
		f.models[name] = newModel(name, foreignChains...)
		s := stateOf(f.models[name].Table)
		f.states[name] = &s
	}
	return f
}

// apply fails if the change from what there is to in is another than a compile of all of in finds by
// comparing whole tables, or leads to anything else.
func (f *follower) apply(t interface {
	Helper()
	Fatalf(string, ...any)
}, in input) {
	t.Helper()
	ch, fresh := compile(f.have, in, f.options), compile(nil, in, f.options)
	between := transition(f.deny, ch.now.deny, serving(in))
	for _, step := range []struct{ got, want patch }{
		{ch.filter(f.deny, between), fresh.filter(nil, between)},
		{ch.nat(), fresh.nat()},
		{ch.filter(between, ch.now.deny), fresh.filter(nil, fresh.now.deny)},
	} {
		name := step.want.table
		got, want := diff(*f.states[name], step.got), diff(*f.states[name], step.want)
		if d := cmp.Diff(string(want.script()), string(got.script())); d != "" || got.changes != want.changes {
			t.Fatalf("%s: %v, want %v (-of all +of the change):\n%s", name, got.changes, want.changes, d)
		}
		if err := f.models[name].apply(got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, got.script())
		}
		f.states[name].adopt(got)
	}
	same := func(what string, want, got any, o ...cmp.Option) {
		t.Helper()
		if reflect.DeepEqual(want, got) { // twenty times as fast
			return
		}
		o = append(o, cmp.AllowUnexported(entry{}, state{}, chainSum{}), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty())
		if d := cmp.Diff(want, got, o...); d != "" {
			t.Fatalf("%s (-of all +after the change):\n%s", what, d)
		}
	}
	for _, table := range fresh.ruleset() {
		is := f.models[table.Name].Table
		same(table.Name, table, oursOf(is), withoutEmptyBuiltin)
		same(table.Name+" as remembered", stateOf(is), *f.states[table.Name])
	}
	lists := func(c *compiled) []any { return []any{c.entries, c.deny, c.partial, c.standIns} }
	same("entries", lists(fresh.now), lists(ch.now))
	f.have, f.deny = ch.now, ch.now.deny
}

// TestChangesAddUp: through any sequence of changes, each is the smallest one, and leads to what a
// fresh start would. Services come and go, with some or all of their frontends, and become others.
func TestChangesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []*proxier.Node{drawNode(t), drawNode(t)}
		versions := []*proxier.Snapshot{drawSnapshot(t, nodes[0], 12), drawSnapshot(t, nodes[0], 12)}
		v6 := rapid.Bool().Draw(t, "IPv6")
		f := newFollower(Options{TCPBeLiberal: rapid.Bool().Draw(t, "liberal"), noSocket: rapid.Bool().Draw(t, "noSocket")})
		type choice struct{ version, part int }
		chosen := map[string]choice{} // by Service
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			change := rapid.IntRange(1, 3).Draw(t, "one in how many changes")
			for i := range 12 {
				if rapid.IntRange(1, change).Draw(t, "changes") == 1 {
					chosen[fmt.Sprint("svc-", i)] = choice{rapid.IntRange(0, 2).Draw(t, "version"), rapid.IntRange(0, 3).Draw(t, "part")}
				}
			}
			s := &proxier.Snapshot{Node: nodes[max(0, rapid.IntRange(-4, 1).Draw(t, "node"))]}
			if rapid.Bool().Draw(t, "health") {
				s.HealthPorts = []uint16{32000}
			}
			taken := map[proxier.FrontendKey]bool{}
			for v, version := range versions {
				for i, fe := range version.Frontends {
					c := chosen[fe.Owner.Name]
					if c.version != v || (c.part > 0 && i%3 == c.part-1) || taken[fe.FrontendKey] {
						continue
					}
					taken[fe.FrontendKey] = true
					s.Frontends = append(s.Frontends, fe)
				}
			}
			slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
			f.apply(t, inputOf(s, v6))
		}
	})
}

// TestChangesOfMany is TestChangesAddUp where trees are deep, and around the number of frontends up
// to which chains are commented.
func TestChangesOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	place := placements()["random"]
	for _, c := range []struct {
		name    string
		all     *proxier.Snapshot
		v6      bool
		options Options
	}{
		{"some", services(300, false, place), false, Options{}},
		{"without bpf", services(100, false, place), false, Options{hairpinList: true}},
		{"nested", nested(), true, Options{}},
		{"many", services(maxCommented, false, place), false, Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFollower(c.options)
			for range 3 {
				for _, drop := range []int{0, 1, len(c.all.Frontends) / 2, 2} {
					s := *c.all
					s.Frontends = slices.Clone(s.Frontends)
					for range drop {
						i := random.IntN(len(s.Frontends))
						s.Frontends = slices.Delete(s.Frontends, i, i+1)
					}
					f.apply(t, inputOf(&s, c.v6))
				}
			}
		})
	}
}

// TestPoolsOnly: endpoints that come and go change chains of pools only, as long as there are some.
func TestPoolsOnly(t *testing.T) {
	none := func(*proxier.Frontend) {}
	add := func(p *proxier.Pool) {
		e := *p.Endpoints[0]
		e.Port = 9999
		p.Endpoints = append(p.Endpoints, &e)
	}
	for name, c := range map[string]struct {
		edit func(*proxier.Pool)
		also func(*proxier.Frontend)
		want bool
	}{
		"fewer endpoints": {func(p *proxier.Pool) { p.Endpoints = p.Endpoints[2:] }, none, true},
		"more endpoints":  {add, none, true},
		"affinity":        {add, func(f *proxier.Frontend) { f.Affinity += time.Hour }, true},
		"nothing":         {func(*proxier.Pool) {}, none, false},
		"no endpoints":    {func(p *proxier.Pool) { p.Endpoints = nil }, none, false},
		"masquerade":      {add, func(f *proxier.Frontend) { f.From[0].Masquerade = !f.From[0].Masquerade }, false},
		"sources":         {add, func(f *proxier.Frontend) { f.Sources = []netip.Prefix{} }, false},
		"scope":           {func(p *proxier.Pool) { p.Scope = proxier.ThisNode }, none, false},
	} {
		s := services(20, false, func(i int) uint16 { return uint16(i*7 + 1) })
		now := mutate(s, s.Frontends[0].Owner, c.edit, c.also)
		first := compile(nil, inputOf(s, false), Options{})
		have := stateOf(first.nat().tableOf())
		p := compile(first.now, inputOf(now, false), Options{}).nat()
		was, got := diff(have, p).poolsOnly(p)
		if got != c.want {
			t.Errorf("%s: pools only: %v, want %v", name, got, c.want)
		}
		if chain := first.poolChain(s.Frontends[0].From[0].Pool, s.Frontends[0]); got && !sameChain(was[chain.Name], chain) {
			t.Errorf("%s: the chain was %v, want %v", name, was[chain.Name], chain)
		}
		p = compile(nil, inputOf(now, false), Options{}).nat()
		if _, ok := diff(have, p).poolsOnly(p); ok {
			t.Errorf("%s: pools only, but nobody knows what they were", name)
		}
	}
}

func sameChain(a, b restore.Chain) bool { return a.Name == b.Name && slices.Equal(a.Rules, b.Rules) }

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
