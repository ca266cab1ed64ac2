package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// A cluster is a names.Source that a test sets.
type cluster struct {
	mu      sync.Mutex
	in      names.Inputs
	changed chan struct{}
	synced  chan struct{}
}

func newCluster() *cluster {
	return &cluster{changed: make(chan struct{}), synced: make(chan struct{})}
}

func (c *cluster) set(in names.Inputs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = in
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) Inputs() names.Inputs {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in
}

func (c *cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *cluster) Synced() <-chan struct{}  { return c.synced }
func (c *cluster) Staleness() time.Duration { return 7 * time.Second }

// name makes a Service of namespace ns from "name ip[,ip] port[,port]"; an ip "None" is headless.
func name(text string) *names.Service {
	f := strings.Fields(text)
	s := &names.Service{NamespacedName: proxier.NamespacedName{Namespace: "ns", Name: f[0]}, Kind: names.ClusterIP}
	if f[1] == "None" {
		s.Kind = names.Headless
		s.Slices = []*names.Slice{{Name: "1", Width: 4, Addrs: []byte{10, 244, 1, 11}}}
	} else {
		for ip := range strings.SplitSeq(f[1], ",") {
			s.IPs = append(s.IPs, netip.MustParseAddr(ip))
		}
	}
	for p := range strings.SplitSeq(f[2], ",") {
		var n int32
		fmt.Sscan(p, &n)
		s.Ports = append(s.Ports, names.Port{Name: "p" + p, Protocol: "tcp", Number: n})
	}
	return s
}

func inputs(list ...string) names.Inputs {
	var out []*names.Service
	for _, text := range list {
		out = append(out, name(text))
	}
	slices.SortFunc(out, (*names.Service).Order)
	return names.Inputs{Synced: true, Services: names.ListOf(out...)}
}

// snapshot is one of the same Services.
func snapshot(list ...string) *proxier.Snapshot {
	s := &proxier.Snapshot{Node: &proxier.Node{}}
	for x := range inputs(list...).Services.All() {
		svc := &proxier.Service{NamespacedName: x.NamespacedName, ClusterIPs: x.IPs, Headless: x.Kind == names.Headless}
		for _, p := range x.Ports {
			svc.Ports = append(svc.Ports, proxier.ServicePort{Name: p.Name, Protocol: proxier.TCP, Port: uint16(p.Number)})
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// known writes what comes through, in the notation of name.
func known(in names.Inputs) string {
	var out []string
	for s := range in.Services.All() {
		text := s.Name + " None"
		if s.Kind == names.ClusterIP {
			text = s.Name + " " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(s.IPs)), ","), "[]")
		}
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, strings.TrimPrefix(p.Name, "p"))
		}
		out = append(out, text+" "+strings.Join(ports, ","))
	}
	return strings.Join(out, "; ")
}

// A lane is a gate with one source, in a bubble.
type lane struct {
	*Gate
	*Source
	t       *testing.T
	cluster *cluster
	log     bytes.Buffer
}

func bubble(t *testing.T, f func(l *lane)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{t: t, cluster: newCluster()}
		l.Gate = NewGate(Patience, slog.New(slog.NewTextHandler(&l.log, nil)))
		l.Source = l.Gate.Source(l.cluster)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		f(l)
		cancel()
		<-done
	})
}

func (l *lane) expect(when, want string) {
	l.t.Helper()
	synctest.Wait()
	if got := known(l.Inputs()); got != want {
		l.t.Errorf("%s: %q comes through, want %q", when, got, want)
	}
}

func (l *lane) apply(s *proxier.Snapshot, err error) {
	l.Applying(s)
	l.Applied(proxier.Applied{Now: s, Err: err})
}

// TestGate: an address comes after its rules and goes before them; nothing else waits.
func TestGate(t *testing.T) {
	bubble(t, func(l *lane) {
		isSynced := func() bool {
			select {
			case <-l.Synced():
				return l.Inputs().Synced
			default:
				return false
			}
		}
		l.cluster.set(inputs("a 10.96.0.1 80", "crew None 80"))
		l.expect("nothing is applied", "crew None 80")
		first := snapshot("a 10.96.0.1 80", "crew None 80")
		l.Applying(first)
		l.expect("it is being applied", "crew None 80")
		if isSynced() {
			t.Error("synced before anything was applied")
		}
		l.Applied(proxier.Applied{Now: first})
		l.expect("it is applied", "a 10.96.0.1 80; crew None 80")
		if !isSynced() || l.Staleness() != 7*time.Second {
			t.Errorf("synced %v, staleness %v", isSynced(), l.Staleness())
		}

		l.cluster.set(inputs("a 10.96.0.1 80,443", "b 10.96.0.2,fd00::2 80", "crew None 80,81"))
		l.expect("a new port and a new Service", "a 10.96.0.1 80; crew None 80,81")
		second := snapshot("a 10.96.0.1 80,443", "b 10.96.0.2,fd00::2 80", "crew None 80,81")
		l.Applying(second)
		l.expect("being applied", "a 10.96.0.1 80; crew None 80,81")
		changed := l.Source.Changed()
		l.Applied(proxier.Applied{Now: second})
		l.expect("applied", "a 10.96.0.1 80,443; b 10.96.0.2,fd00::2 80; crew None 80,81")
		select {
		case <-changed:
		default:
			t.Error("zones were not told")
		}
		if len(l.held) != 0 {
			t.Errorf("still held: %v", l.held)
		}

		// The names' source may be late: the rules alone take the address away.
		third := snapshot("a 10.96.0.1 443", "crew None 80,81")
		changed = l.Source.Changed()
		l.Applying(third)
		select {
		case <-changed:
		default:
			t.Error("zones were not told before the rules go")
		}
		l.expect("rules are about to go", "a 10.96.0.1 443; crew None 80,81")
		l.cluster.set(inputs("a 10.96.0.1 443", "crew None 80,81"))
		l.Applied(proxier.Applied{Now: third})
		l.expect("rules are gone", "a 10.96.0.1 443; crew None 80,81")

		// Or early.
		l.cluster.set(inputs("crew None 80,81"))
		l.expect("a Service was deleted", "crew None 80,81")
		l.cluster.set(inputs("a 10.96.0.7 443", "crew None 80,81"))
		l.expect("it was made anew, elsewhere", "crew None 80,81")
		l.apply(snapshot("a 10.96.0.7 443", "crew None 80,81"), nil)
		l.expect("that is applied", "a 10.96.0.7 443; crew None 80,81")
	})
}

// TestGateFailing: while the kernel cannot be written, new addresses wait, but not for ever, and
// nothing else does.
func TestGateFailing(t *testing.T) {
	broken := errors.New("the kernel says no")
	bubble(t, func(l *lane) {
		l.cluster.set(inputs("a 10.96.0.1 80"))
		l.apply(snapshot("a 10.96.0.1 80"), nil)
		l.cluster.set(inputs("b 10.96.0.2 80", "crew None 80"))
		want := snapshot("b 10.96.0.2 80", "crew None 80")
		for range 5 {
			l.apply(want, broken)
			l.expect("failing", "crew None 80")
			time.Sleep(time.Second)
		}
		l.apply(snapshot("a 10.96.0.1 80", "b 10.96.0.2 80", "crew None 80"), broken)
		l.cluster.set(inputs("a 10.96.0.1 80", "b 10.96.0.2 80", "crew None 80"))
		l.expect("what was never taken away is back", "a 10.96.0.1 80; crew None 80")
		time.Sleep(Patience)
		l.apply(snapshot("a 10.96.0.1 80", "b 10.96.0.2 80", "crew None 80"), broken)
		l.expect("failing for long", "a 10.96.0.1 80; b 10.96.0.2 80; crew None 80")
		if !strings.Contains(l.log.String(), "do not wait any longer") {
			t.Errorf("log:\n%s", &l.log)
		}
		l.cluster.set(inputs("c 10.96.0.3 80"))
		l.expect("before the next try", "")
		l.apply(snapshot("c 10.96.0.3 80"), nil)
		l.expect("the kernel is well", "c 10.96.0.3 80")
		l.cluster.set(inputs("c 10.96.0.3 80", "d 10.96.0.4 80"))
		l.apply(snapshot("c 10.96.0.3 80", "d 10.96.0.4 80"), broken)
		l.expect("patience begins anew", "c 10.96.0.3 80")
	})
}

// TestGateProperty: whatever the order of events, what comes through is what both the applied and the
// applying snapshot have of what the source says.
func TestGateProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) []string {
			var out []string
			for _, n := range []string{"a", "b", "c"} {
				switch ip := rapid.SampledFrom([]string{"", "10.96.0.1", "10.96.0.2", "10.96.0.1,fd00::1", "None"}).Draw(t, label+n); ip {
				case "":
				default:
					out = append(out, n+" "+ip+" "+rapid.SampledFrom([]string{"80", "443", "80,443"}).Draw(t, label+n))
				}
			}
			return out
		}
		g := NewGate(time.Hour, slog.New(slog.DiscardHandler))
		s := g.Source(newCluster())
		var applying *proxier.Snapshot
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				s.follow(inputs(draw("names ")...))
			case 1:
				applying = snapshot(draw("snapshot ")...)
				g.Applying(applying)
			case 2, 3:
				if applying == nil {
					continue
				}
				a := proxier.Applied{Now: applying}
				if rapid.Bool().Draw(t, "fails") {
					a.Err = errors.New("no")
				}
				g.Applied(a)
			}
			var want []*names.Service
			for x := range s.seen.Services.All() {
				if y := g.through(x); y != nil {
					want = append(want, y)
				}
			}
			if g.applied == nil && s.Inputs().Services.Len() == 0 {
				continue // the source may not have been seen yet
			}
			if got, want := known(s.Inputs()), known(names.Inputs{Services: names.ListOf(want...)}); got != want {
				t.Fatalf("%q comes through, want %q", got, want)
			}
		}
	})
}

// BenchmarkApply is the way of one changed Service, among 10,000, through a gate that knows the rest.
func BenchmarkApply(b *testing.B) {
	var list []string
	for i := range 10_000 {
		list = append(list, fmt.Sprintf("service-%05d 10.96.%d.%d 80", i, i/250, 1+i%250))
	}
	c := newCluster()
	in := inputs(list...)
	c.set(in)
	g := NewGate(Patience, slog.New(slog.DiscardHandler))
	s := g.Source(c)
	now := snapshot(list...)
	g.Applying(now)
	g.Applied(proxier.Applied{Now: now})
	s.follow(in)
	at := 5000
	other, service := *now, *now.Services[at]
	other.Services = slices.Clone(now.Services)
	other.Services[at] = &service
	turns := [2]*proxier.Snapshot{now, &other}
	b.ReportAllocs()
	for b.Loop() {
		turns[0], turns[1] = turns[1], turns[0]
		g.Applying(turns[0])
		g.Applied(proxier.Applied{Now: turns[0]})
	}
}
