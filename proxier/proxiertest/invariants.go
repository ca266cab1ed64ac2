package proxiertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// invariants checks what holds for every scenario, in the lab as its last step left it.
func (r *Running) invariants(ctx context.Context, before string) {
	r.restart(ctx)
	observed := r.observe(ctx, r.Backend)
	r.cleanup(ctx, "cleanup", before)
	r.path(ctx, "another path", observed, r.detour())
	r.cleanup(ctx, "cleanup after another path", before)
	if len(r.tale.Steps) > 1 {
		r.path(ctx, "fresh start", observed, nil)
		r.cleanup(ctx, "cleanup after fresh start", before)
	}
}

// restart checks that a new process finds everything as it wants it, and that connections do not
// notice.
func (r *Running) restart(ctx context.Context) {
	stream := r.stream()
	if err := r.inNode(r.Backend.Close); err != nil {
		r.failf("restart: close", "%v", err)
	}
	before, err := kernelDump(r.Lab)
	if err != nil {
		r.failf("restart", "%v", err)
	}
	r.inNode(func() error { r.Backend = r.subject.New(r.t, r.Env); return nil })
	r.applyAgain(ctx, "restart")
	after, err := kernelDump(r.Lab)
	if err != nil {
		r.failf("restart", "%v", err)
	}
	if wrote := written(before, after); len(wrote) > 0 {
		r.failf("restart: written", "%s", strings.Join(wrote, "\n"))
	}
	if stream != nil {
		if err := stream.Alive(aliveMessages); err != nil {
			r.failf("restart: open connection", "%v", err)
		}
		_ = stream.Close()
	}
	r.holds("restart")
}

// stream opens a connection by way of the last step's first TCP flow that reaches somebody; nil if
// there is none.
func (r *Running) stream() *netlab.Stream {
	for _, f := range r.tale.Steps[len(r.tale.Steps)-1].Flows {
		if f.Want.kind != reaches || f.protocol() != proxier.TCP || f.From.source != "" {
			continue
		}
		to, err := r.tale.address(f.To)
		if err != nil {
			continue
		}
		s, err := r.Lab.Stream(f.From.ns, to)
		if err != nil {
			r.failf("restart: open connection", "%v", err)
			return nil
		}
		return s
	}
	return nil
}

// observe returns what the backend reads back from the kernel; nil if it cannot.
func (r *Running) observe(ctx context.Context, b proxier.Backend) []proxier.Observed {
	o, ok := b.(proxier.Observer)
	if !ok {
		return nil
	}
	var out []proxier.Observed
	err := r.inNode(func() (err error) {
		out, err = o.Observe(ctx)
		return err
	})
	if err != nil {
		r.failf("observe", "%v", err)
	}
	return out
}

// cleanup checks that the subject removes all that is its own and nothing else.
func (r *Running) cleanup(ctx context.Context, what, before string) {
	if r.subject.Cleanup == nil {
		return
	}
	r.faults.set(true)
	var err error
	for range mostTries {
		if err = r.inNode(func() error { return r.subject.Cleanup(ctx, r.Env) }); err == nil {
			break
		}
	}
	r.faults.set(false)
	if err != nil {
		r.failf(what, "%v", err)
		return
	}
	after, err := kernelDump(r.Lab)
	if err != nil {
		r.failf(what, "%v", err)
	}
	if diff := cmp.Diff(stable(before), stable(after)); diff != "" {
		r.failf(what, "the kernel is not as before (-before +after):\n%s", diff)
	}
}

// path checks that a new process that is led over some other states comes to the same kernel.
func (r *Running) path(ctx context.Context, what string, want []proxier.Observed, detour []*Objects) {
	var b proxier.Backend
	r.inNode(func() error { b = r.subject.New(r.t, r.Env); return nil })
	resolver := resolve.New(resolveOptions(r.tale.Config, r.tale.v4, r.tale.v6))
	var in resolve.Inputs
	for i, o := range append(detour, r.Objects) {
		in = o.Inputs(in)
		s := resolver.Resolve(in)
		if err := s.Check(); err != nil {
			r.failf(what+": snapshot", "state %d: %v", i+1, err)
		}
		if err := r.applyUntil(ctx, b, s); err != nil {
			r.failf(what, "state %d: %v", i+1, err)
		}
	}
	if diff := cmp.Diff(want, r.observe(ctx, b)); diff != "" {
		r.failf(what, "leads to another kernel (-want +got):\n%s", diff)
	}
	if err := r.inNode(b.Close); err != nil {
		r.failf(what+": close", "%v", err)
	}
}

// detours is how many other states a detour leads over.
const detours = 3

// detour returns states that have some of the objects of the scenario, each as some step had it:
// what a process sees while its watches fill, in any order, or after it lagged behind.
func (r *Running) detour() []*Objects {
	rng := rand.New(rand.NewPCG(r.faults.rng.Uint64(), 1))
	out := make([]*Objects, detours)
	for i := range out {
		o := &Objects{Node: r.Objects.Node, ServiceCIDRs: r.Objects.ServiceCIDRs}
		for _, j := range rng.Perm(len(r.tale.states)) {
			state := r.tale.states[j]
			o.Services = some(rng, o.Services, state.Services)
			o.Slices = some(rng, o.Slices, state.Slices)
			if rng.IntN(2) == 0 {
				o.Node = state.Node
			}
		}
		out[i] = o
	}
	return out
}

// some puts about half of the objects of from into list.
func some[T metav1.Object](rng *rand.Rand, list, from []T) []T {
	for _, x := range from {
		if rng.IntN(2) == 0 {
			list = with(list, x)
		}
	}
	return list
}

// runCheck runs a step's Check. It may end its goroutine, as tests do.
func (r *Running) runCheck(where string, check func(testing.TB, *Running)) {
	rec := &recorder{TB: r.t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(rec, r)
	}()
	<-done
	for _, text := range rec.failures {
		r.failf(where+": check", "%s", text)
	}
}

// A recorder keeps failures to itself.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Error(args ...any)            { r.add(fmt.Sprintln(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.add(fmt.Sprintf(f, args...)) }
func (r *recorder) Fail()                        { r.add("failed") }
func (r *recorder) Failed() bool                 { return len(r.failures) > 0 }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); r.FailNow() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); r.FailNow() }

// FailNow ends the goroutine of the check.
func (r *recorder) FailNow() {
	if len(r.failures) == 0 {
		r.add("failed")
	}
	runtime.Goexit()
}

func (r *recorder) add(text string) { r.failures = append(r.failures, text) }
