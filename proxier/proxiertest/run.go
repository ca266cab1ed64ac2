package proxiertest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/conntrack"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// workers is how many scenarios run at a time. They wait more than they work.
const workers = 6

// Run tells s every scenario that it has the features for, in each address family, with all that
// must hold besides. It needs what [netlab.Require] asks for.
func Run(t *testing.T, s Subject) { RunScenarios(t, s, Scenarios()) }

// RunScenarios is Run with a choice of scenarios.
func RunScenarios(t *testing.T, s Subject, list []Scenario) {
	t.Helper()
	netlab.Require(t)
	todo := make(chan *tale)
	var stats statistics
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for tl := range todo {
				t.Run(tl.name, func(t *testing.T) { stats.add(tellTo(t, s, tl)) })
			}
		})
	}
	for _, sc := range list {
		if missing := s.lacks(sc); len(missing) > 0 {
			t.Logf("%s has no %v: %q is not for it", s.Name, missing, sc.Name)
			continue
		}
		all, err := tales(sc)
		if err != nil {
			t.Error(err)
		}
		for _, tl := range all {
			todo <- tl
		}
	}
	close(todo)
	wg.Wait()
	t.Logf("%s: %s", s.Name, stats.String())
	if stats.asked == 0 && s.New != nil && stats.tales > 0 {
		t.Errorf("%s never called Env.Intercept: no fault was tried", s.Name)
	}
}

func (s Subject) lacks(sc Scenario) []Feature {
	return slices.DeleteFunc(slices.Clone(sc.Needs), func(f Feature) bool {
		return f == TCP || slices.Contains(s.Have, f)
	})
}

// statistics are of a whole run.
type statistics struct {
	mu                                   sync.Mutex
	tales, flows, applies, asked, failed int
}

func (s *statistics) add(r *Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, failed := r.faults.counts()
	s.tales, s.asked, s.failed = s.tales+1, s.asked+asked, s.failed+failed
	s.applies += r.applies
	for _, step := range r.tale.Steps {
		s.flows += len(step.Flows)
	}
}

func (s *statistics) String() string {
	return fmt.Sprintf("%d scenarios with %d flows; %d applies with %d kernel operations, %d of which were made to fail",
		s.tales, s.flows, s.applies, s.asked, s.failed)
}

// A Running is a scenario that is being run, for [Step.Check].
type Running struct {
	Lab      *netlab.Lab
	Env      Env
	Objects  *Objects          // as of the step
	Snapshot *proxier.Snapshot // what they resolve to; nil for a peer
	Backend  proxier.Backend   // nil for a peer; call it in node-1's namespace

	t       testing.TB
	subject Subject
	tale    *tale
	peer    Peer
	faults  *faults
	applies int

	resolver *resolve.Resolver
	inputs   resolve.Inputs
	cleaner  *conntrack.Cleaner

	last map[string]string // who answered a flow last, by the flow's name
	held []*netlab.Stream
	busy map[string]bool // places with held connections

	mu       sync.Mutex
	doubts   []*Flow
	failures []failure
	dump     string // the kernel at the first failure
}

// A failure is one thing that was not as it must be.
type failure struct{ what, detail string }

func (r *Running) failf(what, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, failure{what, fmt.Sprintf(format, args...)})
	if len(r.failures) == 1 {
		dump, err := kernelDump(r.Lab)
		if err != nil {
			dump += err.Error()
		}
		r.dump = dump
	}
}

// tellTo runs a tale and reports its failures to t.
func tellTo(t *testing.T, s Subject, tl *tale) *Running {
	r := tell(t, s, tl)
	for _, f := range r.failures {
		t.Errorf("%s: %s", f.what, f.detail)
	}
	if len(r.failures) > 0 {
		t.Logf("snapshot:\n%s", Text(r.Snapshot))
		t.Logf("kernel of node-1 at the first failure:\n%s", r.dump)
	}
	return r
}

// tell runs a tale in a lab of its own. The tale stops at the end of the first step that fails.
func tell(t testing.TB, s Subject, tl *tale) *Running {
	seed := fnv.New64a()
	seed.Write([]byte(tl.name))
	r := &Running{
		t: t, subject: s, tale: tl,
		faults:   newFaults(seed.Sum64()),
		resolver: resolve.New(resolveOptions(tl.Config, tl.v4, tl.v6)),
		cleaner:  conntrack.New(),
		last:     map[string]string{},
		busy:     map[string]bool{},
	}
	before := r.build()
	ctx := t.Context()
	r.start()
	for i, step := range tl.Steps {
		where := fmt.Sprintf("step %d %s", i+1, step.Name)
		prev := r.Objects
		r.Objects = tl.states[i]
		if r.peer != nil {
			if err := r.peer.Sync(ctx, prev, r.Objects); err != nil {
				r.failf(where, "sync: %v", err)
			}
		} else {
			stop := r.meanwhile(i)
			r.apply(ctx, where)
			stop(where)
		}
		time.Sleep(step.After)
		r.flows(where, step.Flows)
		r.holds(where)
		if step.Check != nil {
			r.runCheck(where, step.Check)
		}
		if len(r.failures) > 0 {
			break
		}
	}
	if r.peer == nil && len(r.failures) == 0 {
		r.invariants(ctx, before)
	}
	r.stop()
	return r
}

// build makes the lab and returns what its kernel holds before the subject starts.
func (r *Running) build() string {
	servers, pods, err := r.tale.servers()
	if err != nil {
		r.t.Fatal(err)
	}
	r.Lab = netlab.New(r.t, netlab.Options{Pods: pods})
	for _, s := range servers {
		if err := r.Lab.Serve(s.place, s.proto, s.at); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := plantForeign(r.Lab); err != nil {
		r.t.Fatal(err)
	}
	before, err := kernelDump(r.Lab)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Env = Env{
		Lab: r.Lab, Node: netlab.Node1, Config: r.tale.Config,
		IPv4: r.tale.v4, IPv6: r.tale.v6, Intercept: r.faults.intercept, Name: r.tale.name,
	}
	return before
}

func (r *Running) start() {
	r.inNode(func() error {
		if r.subject.Start != nil {
			r.peer = r.subject.Start(r.t, r.Env)
		} else {
			r.Backend = r.subject.New(r.t, r.Env)
		}
		return nil
	})
}

func (r *Running) stop() {
	for _, s := range r.held {
		_ = s.Close()
	}
	if r.peer != nil {
		if err := r.peer.Close(); err != nil {
			r.failf("close", "%v", err)
		}
		return
	}
	if err := r.inNode(r.Backend.Close); err != nil {
		r.failf("close", "%v", err)
	}
}

// inNode runs f in node-1's namespace.
func (r *Running) inNode(f func() error) error { return r.Lab.In(netlab.Node1, f) }

// mostTries bounds how often an Apply is tried again when kernel operations fail.
const mostTries = 100

// apply makes the subject do what the objects ask for, with kernel operations failing at random,
// and checks that doing it again changes nothing.
func (r *Running) apply(ctx context.Context, where string) {
	prev := r.Snapshot
	r.inputs = r.Objects.Inputs(r.inputs)
	r.Snapshot = r.resolver.Resolve(r.inputs)
	if err := r.Snapshot.Check(); err != nil {
		r.failf(where+": snapshot", "%v", err)
	}
	if err := r.applyUntil(ctx, r.Backend, r.Snapshot); err != nil {
		r.failf(where+": apply", "%v", err)
		return
	}
	err := r.inNode(func() error {
		if r.subject.clean != nil {
			return r.subject.clean(ctx, prev, r.Snapshot)
		}
		_, err := r.cleaner.Clean(ctx, prev, r.Snapshot)
		return err
	})
	if err != nil {
		r.failf(where+": stale flows", "%v", err)
	}
	r.applyAgain(ctx, where+": second apply")
}

// applyUntil applies under faults, again and again as proxier.Loop would, but without its pauses.
func (r *Running) applyUntil(ctx context.Context, b proxier.Backend, s *proxier.Snapshot) error {
	r.faults.set(true)
	defer r.faults.set(false)
	var err error
	for range mostTries {
		r.applies++
		err = r.inNode(func() error {
			_, err := b.Apply(ctx, s)
			return err
		})
		if err == nil {
			return nil
		}
		if partial := (*proxier.PartialError)(nil); errors.As(err, &partial) {
			b.Invalidate() // as Loop does in time; the kernel refused for no reason but the fault
		}
	}
	return fmt.Errorf("after %d tries with faults: %w", mostTries, err)
}

// applyAgain checks that applying the snapshot once more, without faults, changes nothing.
func (r *Running) applyAgain(ctx context.Context, what string) {
	r.applies++
	err := r.inNode(func() error {
		changes, err := r.Backend.Apply(ctx, r.Snapshot)
		if err == nil && !changes.IsZero() {
			r.failf(what, "changed %s", changes)
		}
		return err
	})
	if err != nil {
		r.failf(what, "%v", err)
	}
}
