package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// A model is a table that understands the scripts of diff as iptables-restore --noflush does.
type model struct{ restore.Table }

func newModel(name string, foreign ...restore.Chain) *model {
	m := &model{restore.Table{Name: name}}
	for _, c := range map[string][]string{"nat": {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}, "filter": {"INPUT", "FORWARD", "OUTPUT"}}[name] {
		m.Chains = append(m.Chains, restore.Chain{Name: c, Policy: "ACCEPT"})
	}
	for _, c := range foreign {
		if have := m.Chain(c.Name); have != nil {
			have.Rules = append(have.Rules, c.Rules...)
		} else {
			m.Chains = append(m.Chains, c)
		}
	}
	return m
}

func (m *model) apply(e edit) error {
	if e.empty() {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(e.script()), "\n"), "\n")
	if lines[0] != "*"+m.Name || lines[len(lines)-1] != "COMMIT" {
		return fmt.Errorf("not a transaction of %s", m.Name)
	}
	for _, l := range lines[1 : len(lines)-1] {
		op, rest, _ := strings.Cut(l, " ")
		name, rule, _ := strings.Cut(rest, " ")
		if op[0] == ':' {
			if c := m.Chain(op[1:]); c != nil {
				c.Rules = nil
			} else {
				m.Chains = append(m.Chains, restore.Chain{Name: op[1:]})
			}
			continue
		}
		c := m.Chain(name)
		if c == nil {
			return fmt.Errorf("%s: no such chain", l)
		}
		switch op {
		case "-A":
			c.Rules = append(c.Rules, rule)
		case "-I":
			c.Rules = slices.Insert(c.Rules, 0, rule)
		case "-D":
			i := slices.Index(c.Rules, rule)
			if i < 0 {
				return fmt.Errorf("%s: no such rule", l)
			}
			c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
		case "-X":
			if len(c.Rules) > 0 {
				return fmt.Errorf("%s: chain is not empty", l)
			}
			m.Chains = slices.DeleteFunc(m.Chains, func(x restore.Chain) bool { return x.Name == name })
		default:
			return fmt.Errorf("%s: unknown operation", l)
		}
	}
	for _, c := range m.Chains {
		for _, r := range c.Rules {
			to := restore.Target(r)
			if (isOurs(m.Name, to) || strings.HasPrefix(to, "foreign")) && m.Chain(to) == nil {
				return fmt.Errorf("dangling: %s %s", c.Name, r)
			}
		}
	}
	m.Sort()
	return nil
}

var foreignChains = []restore.Chain{
	{Name: "foreign"},
	{Name: "PREROUTING", Rules: []string{`-p tcp -m comment --comment "-j KUBE-SERVICES" -m tcp --dport 9 -j foreign`}},
	{Name: "INPUT", Rules: []string{"-s 10.0.0.0/8 -j foreign", "-j KUBE-FIREWALL"}},
	{Name: "OUTPUT", Rules: []string{"-d 10.0.0.0/8 -j foreign"}},
	{Name: "KUBE-FIREWALL", Rules: []string{"-j foreign"}},
	{Name: "KUBE-SVC-not-one-of-ours"},
}

// whole returns the patch to a table.
func whole(t restore.Table) patch { return patch{table: t.Name, want: t.Chains, whole: true} }

// TestDiffLaws: applying the difference of two tables to the first gives the second, the
// difference of a table and itself is nothing, rules never lead nowhere, and what is foreign stays.
func TestDiffLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := drawNode(t)
		for _, name := range tables {
			foreign := *newModel(name, foreignChains...)
			m := newModel(name, foreignChains...)
			known := stateOf(m.Table)
			for range rapid.IntRange(1, 4).Draw(t, "steps") {
				want := *Compile(drawSnapshot(t, node, 8), Options{IPv4: true}).IPv4.Table(name)
				e := diff(known, whole(want))
				if err := m.apply(e); err != nil {
					t.Fatalf("%v\n%s", err, e.script())
				}
				if diff := cmp.Diff(want, oursOf(m.Table), cmpopts.EquateEmpty(), withoutEmptyBuiltin); diff != "" {
					t.Fatalf("(-want +got):\n%s\n%s", diff, e.script())
				}
				if e.empty() != e.changes.IsZero() {
					t.Fatalf("changes %v for %q", e.changes, e.script())
				}
				known.adopt(e)
				if diff := cmp.Diff(stateOf(m.Table), known, cmp.AllowUnexported(state{}, chainSum{}), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("what diff remembers is not what is (-is +remembered):\n%s", diff)
				}
				if again := diff(known, whole(want)); !again.empty() {
					t.Fatalf("a second time: %s", again.script())
				}
			}
			e := diff(known, patch{table: name, whole: true})
			if err := m.apply(e); err != nil {
				t.Fatalf("%v\n%s", err, e.script())
			}
			if diff := cmp.Diff(foreign.Table, m.Table, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b restore.Chain) bool { return a.Name < b.Name })); diff != "" {
				t.Fatalf("after cleanup (-before +after):\n%s", diff)
			}
		}
	})
}

var withoutEmptyBuiltin = cmpopts.AcyclicTransformer("chains", func(t restore.Table) restore.Table {
	t.Chains = slices.DeleteFunc(slices.Clone(t.Chains), func(c restore.Chain) bool { return c.Policy != "" && len(c.Rules) == 0 })
	slices.SortFunc(t.Chains, func(a, b restore.Chain) int { return strings.Compare(a.Name, b.Name) })
	return t
})

// TestOldOrNew: at every moment of a change from one snapshot to another, and also after a crash
// and a restart in between, every connection is treated as before or as after. Only one that is
// not served before, or not after, may also be refused in another way meanwhile.
func TestOldOrNew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := drawNode(t)
		o := Options{hairpinList: rapid.Bool().Draw(t, "hairpinList")}
		v6 := rapid.Bool().Draw(t, "family")
		old, now := drawSnapshot(t, node, 6), drawSnapshot(t, node, 6)
		a, b := compile(nil, inputOf(old, v6), o), compile(nil, inputOf(now, v6), o)
		have := a.now.deny
		if rapid.Bool().Draw(t, "restarted") {
			filter := a.filter(nil, have).tableOf()
			have = entriesOf(&filter, v6)
			if diff := cmp.Diff(a.now.deny, have, cmp.AllowUnexported(entry{}), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entries read back (-want +got):\n%s", diff)
			}
		}
		between := b.filter(nil, transition(have, b.now.deny, serving(inputOf(now, v6)))).tableOf()
		moments := []restore.Ruleset{{between, a.nat().tableOf()}, {between, b.nat().tableOf()}}
		for i, rules := range moments {
			m := machine(t, rules)
			for _, k := range destinations(v6, old, now) {
				to := netip.AddrPortFrom(k.Addr, k.Port)
				for _, c := range clients(v6) {
					before, after := expect(old, c, to, k.Protocol), expect(now, c, to, k.Protocol)
					got := observe(t, m, c, to, k.Protocol)
					served := func(o []string) bool { return o[0] != "ACCEPT "+to.String() && strings.HasPrefix(o[0], "ACCEPT") }
					refused := !strings.HasPrefix(got[0], "ACCEPT")
					if refused && !(served(before) && served(after)) {
						continue
					}
					if !slices.Equal(got, before) && !slices.Equal(got, after) {
						t.Fatalf("moment %d: %v to %v: %v, which is neither %v nor %v", i, c, k, got, before, after)
					}
				}
			}
		}
	})
}

func TestIsOurJump(t *testing.T) {
	for rule, want := range map[string]bool{
		`-m comment --comment "kubernetes service portals" -j KUBE-SERVICES`:                                         true,
		`-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`: true,
		`-j FAIRWAY-MARTIAN`:                                true,
		`-j KUBE-FIREWALL`:                                  false,
		`-i eth0 -j KUBE-SERVICES`:                          false,
		`-m conntrack --ctstate NEW -j x`:                   false,
		`-m comment --comment "-j KUBE-SERVICES" -j ACCEPT`: false,
		``: false,
	} {
		if got := isOurJump("filter", rule); got != want {
			t.Errorf("isOurJump(%q) = %v", rule, got)
		}
	}
}
