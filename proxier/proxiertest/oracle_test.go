package proxiertest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// What scenarios expect of the kernel must be what the oracle derives from their objects.
func TestOracleAgreesWithScenarios(t *testing.T) {
	for _, s := range Scenarios() {
		all, err := tales(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, tl := range all {
			t.Run(tl.name, func(t *testing.T) {
				for i, step := range tl.Steps {
					for _, f := range step.Flows {
						if err := oracleExpects(tl, tl.states[i], f); err != nil {
							t.Errorf("step %d %s, flow %s to %s: %v", i+1, step.Name, f.Name, f.To, err)
						}
					}
				}
			})
		}
	}
}

func oracleExpects(tl *tale, objects *Objects, f Flow) error {
	p, err := packetOf(tl, f)
	if err != nil {
		return err
	}
	d := Oracle(objects, tl.Config, p)
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
		if d.Kind != Drop && (d.Kind != NotOurs || here == "") { // the oracle knows of no firewall
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
func packetOf(tl *tale, f Flow) (Packet, error) {
	dst, err := tl.address(f.To)
	if err != nil {
		return Packet{}, err
	}
	src, err := tl.source(f.From)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Src: src.Addr(), Dst: dst, Protocol: f.protocol()}
	if !p.Src.IsValid() {
		p.Src = netlab.Addr(f.From.ns)
		if dst.Addr().Is6() {
			p.Src = netlab.V6(p.Src)
		}
	}
	switch {
	case f.From.ns == netlab.Node1:
	case netlab.PodNode(f.From.ns) == netlab.Node1:
		p.In = podInterfaces + f.From.ns
	case f.From.ns == netlab.Outside:
		p.In = netlab.Outside
	default:
		p.In = netlab.Node2
	}
	return p, nil
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
