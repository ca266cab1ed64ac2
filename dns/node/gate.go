package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// A Gate lets the names of Services through to zones as the data plane follows. A cluster IP, and a
// port of it, are there once a snapshot with them has been applied, and no longer as soon as one
// without them begins to be. Everything else passes at once: headless Services and external names,
// endpoints, namespaces, pods; so a data plane that fails holds up new cluster IPs alone. Those wait
// for as long as Patience says.
//
// A snapshot's Services are facts, so what this node does not forward on purpose (a Service of
// another proxy, or one that lost a conflict) is let through like the rest.
//
// A Gate is safe for concurrent use.
type Gate struct {
	patience time.Duration
	log      *slog.Logger

	mu       sync.Mutex
	applied  *proxier.Snapshot // what the kernel does; nil: nothing yet
	applying *proxier.Snapshot // what it is being made to do, or could not be; nil: nothing else
	failing  time.Time         // since when it could not; zero if it could
	sources  map[*Source]struct{}
}

// Patience is for how long failing applies may hold up names, by default. It is more than a fault
// that passes takes, such as a lock on the rules that another program holds.
const Patience = 10 * time.Second

// NewGate returns a Gate that lets no cluster IP through yet. Nil for log means slog.Default.
func NewGate(patience time.Duration, log *slog.Logger) *Gate {
	if log == nil {
		log = slog.Default()
	}
	return &Gate{patience: patience, log: log, sources: map[*Source]struct{}{}}
}

// Applying notes that the kernel is about to be made to implement want. When it returns, no source
// gives away an address that want does not have. See [proxier.Loop].
func (g *Gate) Applying(want *proxier.Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.applying
	if before == nil {
		before = g.applied
	}
	g.applying = want
	if g.applied == nil || before == want {
		return
	}
	var moved []proxier.NamespacedName
	if before == g.applied {
		moved = changed(before, want)
	} else { // the one before failed: what it took away may be back
		moved = append(changed(g.applied, before), changed(g.applied, want)...)
	}
	for s := range g.sources {
		s.reconsider(moved)
	}
}

// Applied notes what came of it.
func (g *Gate) Applied(a proxier.Applied) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case a.Err == nil:
		g.failing = time.Time{}
	case g.failing.IsZero():
		g.failing = now
		return
	case now.Sub(g.failing) < g.patience:
		return
	default:
		g.log.Warn("names do not wait any longer for rules that cannot be applied", "revision", a.Now.Revision, "for", now.Sub(g.failing).Round(time.Second))
	}
	first := g.applied == nil
	g.applied, g.applying = a.Now, nil
	for s := range g.sources {
		if first {
			s.all()
		} else {
			s.retry()
		}
	}
}

// changed returns the names of the Services that differ between two snapshots. It costs a comparison of
// pointers for each that does not.
func changed(a, b *proxier.Snapshot) (out []proxier.NamespacedName) {
	x, y := a.Services, b.Services
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(x) > 0 && len(y) > 0 && x[0] == y[0]:
			x, y = x[1:], y[1:]
		case len(y) == 0 || len(x) > 0 && x[0].Compare(y[0].NamespacedName) < 0:
			out, x = append(out, x[0].NamespacedName), x[1:]
		case len(x) == 0 || x[0].Compare(y[0].NamespacedName) > 0:
			out, y = append(out, y[0].NamespacedName), y[1:]
		default:
			out, x, y = append(out, x[0].NamespacedName), x[1:], y[1:]
		}
	}
	return out
}

// Source returns src behind the gate. It follows src while [Source.Run] runs.
func (g *Gate) Source(src names.Source) *Source {
	return &Source{Source: src, gate: g, held: map[proxier.NamespacedName]bool{}, changed: make(chan struct{}), synced: make(chan struct{})}
}

// A Source is a [names.Source] behind a Gate.
type Source struct {
	names.Source // what is behind
	gate         *Gate

	// Guarded by the gate's mutex.
	seen    names.Inputs                    // what is behind, as last seen
	out     names.Inputs                    // of it, what the gate lets through
	held    map[proxier.NamespacedName]bool // the Services of which something is held back
	changed chan struct{}
	synced  chan struct{}
}

// Run follows the source behind the gate until ctx is done.
func (s *Source) Run(ctx context.Context) {
	defer func() {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		delete(s.gate.sources, s)
	}()
	for {
		changed := s.Source.Changed()
		s.follow(s.Source.Inputs())
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Inputs returns what the gate lets through at present.
func (s *Source) Inputs() names.Inputs {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.out
}

// Changed returns a channel that is closed when Inputs changes.
func (s *Source) Changed() <-chan struct{} {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.changed
}

// Synced returns a channel that is closed once the source behind is complete and a snapshot has been
// applied.
func (s *Source) Synced() <-chan struct{} { return s.synced }

// follow takes a new state.
func (s *Source) follow(in names.Inputs) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	s.gate.sources[s] = struct{}{}
	before, services := s.seen, s.out.Services
	s.seen, s.out = in, in
	if s.gate.applied == nil {
		s.all()
		return
	}
	s.out.Services = services
	names.Diff(before.Services, in.Services, func(was, is *names.Service) {
		if is == nil {
			delete(s.held, was.NamespacedName)
			s.out.Services = s.out.Services.Delete(was)
			return
		}
		s.weigh(is)
	})
	s.publish()
}

// The methods below are called with the gate's mutex held.

// all looks at everything anew.
func (s *Source) all() {
	s.held = map[proxier.NamespacedName]bool{}
	var through []*names.Service
	for x := range s.seen.Services.All() {
		y := s.gate.through(x)
		if y != x {
			s.held[x.NamespacedName] = true
		}
		if y != nil {
			through = append(through, y)
		}
	}
	s.out.Services = names.ListOf(through...)
	s.publish()
}

// retry looks again at what was held back.
func (s *Source) retry() {
	if len(s.held) == 0 {
		return
	}
	list := make([]proxier.NamespacedName, 0, len(s.held))
	for name := range s.held {
		list = append(list, name)
	}
	s.reconsider(list)
}

// reconsider looks again at Services.
func (s *Source) reconsider(list []proxier.NamespacedName) {
	moved := false
	for _, name := range list {
		if x, there := s.seen.Services.Get(&names.Service{NamespacedName: name}); there {
			moved = s.weigh(x) || moved
		}
	}
	if moved {
		s.publish()
	}
}

// weigh puts into out what the gate lets through of a Service, and reports whether that is something
// else than before.
func (s *Source) weigh(x *names.Service) (moved bool) {
	was, there := s.out.Services.Get(x)
	is := s.gate.through(x)
	if is == x {
		delete(s.held, x.NamespacedName)
	} else {
		s.held[x.NamespacedName] = true
	}
	switch {
	case is == nil && !there, is == was, is != nil && there && is.Equal(was) && slices.Equal(is.Slices, was.Slices):
		return false
	case is == nil:
		s.out.Services = s.out.Services.Delete(was)
	default:
		s.out.Services = s.out.Services.Put(is)
	}
	return true
}

func (s *Source) publish() {
	s.out.Synced = s.seen.Synced && s.gate.applied != nil
	if s.out.Synced {
		select {
		case <-s.synced:
		default:
			close(s.synced)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// through returns what of a Service may be known: all of it, only some addresses and ports, or
// nothing.
func (g *Gate) through(x *names.Service) *names.Service {
	if x.Kind != names.ClusterIP {
		return x
	}
	if g.applied == nil {
		return nil
	}
	ips, ports := x.IPs, x.Ports
	for _, s := range []*proxier.Snapshot{g.applied, g.applying} {
		if s == nil {
			continue
		}
		svc := s.Service(x.NamespacedName)
		if svc == nil {
			return nil
		}
		ips = only(ips, func(a int) bool { return slices.Contains(svc.ClusterIPs, ips[a]) })
		ports = only(ports, func(i int) bool { return has(svc, &ports[i]) })
	}
	switch {
	case len(ips) == len(x.IPs) && len(ports) == len(x.Ports):
		return x
	case len(ips) == 0:
		return nil
	}
	part := *x
	part.IPs, part.Ports = ips, ports
	return &part
}

// only returns the elements at indexes that f accepts, list itself if these are all.
func only[T any](list []T, f func(i int) bool) []T {
	for i := range list {
		if f(i) {
			continue
		}
		out := slices.Clone(list[:i])
		for j := i + 1; j < len(list); j++ {
			if f(j) {
				out = append(out, list[j])
			}
		}
		return out
	}
	return list
}

// has reports whether a Service of a snapshot has a port.
func has(svc *proxier.Service, p *names.Port) bool {
	return slices.ContainsFunc(svc.Ports, func(q proxier.ServicePort) bool {
		return int32(q.Port) == p.Number && q.Name == p.Name && strings.EqualFold(q.Protocol.String(), p.Protocol)
	})
}
