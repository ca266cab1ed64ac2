package proxiertest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// What scenarios expect of the kernel must be what the oracle derives from their objects.
func TestOracleAgreesWithScenarios(t *testing.T) {
	for _, s := range Scenarios() {
		for _, family := range familiesOf(s) {
			t.Run(s.Name+family.name, func(t *testing.T) {
				objects := initial(family.v4, family.v6)
				for i, step := range s.Steps {
					var err error
					if objects, err = objects.apply(step.Objects, family.text); err != nil {
						t.Fatal(err)
					}
					if objects, err = objects.remove(step.Delete); err != nil {
						t.Fatal(err)
					}
					for _, f := range step.Flows {
						if err := oracleExpects(objects, s.Config, f, family.text); err != nil {
							t.Errorf("step %d %s, flow %s to %s: %v", i+1, step.Name, f.Name, f.To, err)
						}
					}
				}
			})
		}
	}
}

type testFamily struct {
	name   string
	v4, v6 bool
	text   func(string) string
}

func familiesOf(s Scenario) []testFamily {
	same := func(s string) string { return s }
	switch s.Families {
	case IPv4Only:
		return []testFamily{{"/ipv4", true, false, same}}
	case IPv6Only:
		return []testFamily{{"/ipv6", false, true, same}}
	case DualStack:
		return []testFamily{{"/dual", true, true, same}}
	}
	return []testFamily{{"/ipv4", true, false, same}, {"/ipv6", false, true, toIPv6}}
}

func oracleExpects(objects *Objects, c Config, f Flow, text func(string) string) error {
	p, err := packetOf(f, text)
	if err != nil {
		return err
	}
	for i, r := range c.NodePortAddresses {
		c.NodePortAddresses = slices.Clone(c.NodePortAddresses)
		c.NodePortAddresses[i] = text(r)
	}
	d := Oracle(objects, c, p)
	here := netlab.PlaceOf(p.Dst.Addr()) // its own address, if it is of a machine
	if p.Dst.Addr().IsLoopback() {
		here = f.From.ns
	}
	switch f.Want.kind {
	case untouched:
		if d.Kind != NotOurs || here != "" {
			return fmt.Errorf("want untouched, the oracle says %+v (at %q)", d, here)
		}
	case dropped:
		if d.Kind != Drop {
			return fmt.Errorf("want dropped, the oracle says %+v", d)
		}
	case rejected:
		if d.Kind != Reject && (d.Kind != NotOurs || here == "") {
			return fmt.Errorf("want rejected, the oracle says %+v", d)
		}
	case reaches:
		return reachesWhere(f.Want, d, p, here, f.From.port)
	}
	return nil
}

func reachesWhere(want Outcome, d Decision, p Packet, here string, fixedPort uint16) error {
	if d.Kind == NotOurs {
		if got := []string{here}; !slices.Equal(got, want.names) || want.source == masqueraded {
			return fmt.Errorf("want %v, but the packet passes and reaches %v", want.names, got)
		}
		return nil
	}
	var got []string
	hairpin := false
	for _, e := range d.Endpoints {
		got = append(got, netlab.PlaceOf(e.Addr()))
		hairpin = hairpin || e.Addr() == p.Src
	}
	slices.Sort(got)
	got = slices.Compact(got)
	if diff := cmp.Diff(slices.Sorted(slices.Values(want.names)), got); d.Kind != Forward || diff != "" {
		return fmt.Errorf("the oracle says %+v (-want +got):\n%s", d, diff)
	}
	if hairpin && len(got) > 1 && want.source != anySource {
		return fmt.Errorf("a hairpin among others has no one source address")
	}
	if m := d.Masquerade || hairpin; want.source == clientKept && m || want.source == masqueraded && !m {
		return fmt.Errorf("masquerade %v, want the other", m)
	}
	if want.sticky && fixedPort == 0 && !d.Sticky {
		return fmt.Errorf("is not sticky")
	}
	return nil
}

// packetOf is the first packet of a flow.
func packetOf(f Flow, text func(string) string) (Packet, error) {
	p := Packet{Protocol: f.Protocol}
	if p.Protocol == 0 {
		p.Protocol = proxier.TCP
	}
	to := f.To
	if name, number, ok := strings.Cut(to, ":"); ok && netlab.Addr(name).IsValid() {
		to = netlab.Addr(name).String() + ":" + number
	}
	host, number, ok := cutLast(to, ":")
	if !ok {
		return p, fmt.Errorf("address %q has no port", f.To)
	}
	host = text(strings.Trim(host, "[]"))
	dst, err := netip.ParseAddrPort("[" + host + "]:" + number)
	if strings.Contains(host, ".") {
		dst, err = netip.ParseAddrPort(host + ":" + number)
	}
	if err != nil {
		return p, err
	}
	p.Dst = dst
	p.Src = netlab.Addr(f.From.ns)
	if p.Dst.Addr().Is6() {
		p.Src = netlab.V6(p.Src)
	}
	if f.From.source != "" {
		if p.Src, err = netip.ParseAddr(text(f.From.source)); err != nil {
			return p, err
		}
	}
	switch {
	case f.From.ns == netlab.Node1:
	case netlab.PodNode(f.From.ns) == netlab.Node1:
		p.In = "pod-" + f.From.ns
	case f.From.ns == netlab.Outside:
		p.In = netlab.Outside
	default:
		p.In = netlab.Node2
	}
	return p, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Names of scenarios are what mutants and people refer to; flows must be told apart in failures.
func TestScenariosAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	flows := 0
	for _, s := range Scenarios() {
		if seen[s.Name] {
			t.Errorf("two scenarios are named %q", s.Name)
		}
		seen[s.Name] = true
		if len(s.Steps) == 0 {
			t.Errorf("%s: no steps", s.Name)
		}
		for i, step := range s.Steps {
			flows += len(step.Flows)
			if len(step.Flows) == 0 && step.Check == nil {
				t.Errorf("%s: step %d checks nothing", s.Name, i+1)
			}
		}
	}
	t.Logf("%d scenarios, %d flows", len(seen), flows)
	if len(seen) < 60 {
		t.Errorf("%d scenarios, the suite promises at least 60", len(seen))
	}
}
