package proxier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A recorder is a Backend that writes down what is asked of it, in bubble time.
type recorder struct {
	start   time.Time
	calls   []call
	stale   bool          // Invalidate was called, or nothing was applied yet
	took    time.Duration // how long an Apply lasts
	failing int           // how many of the next Applies fail
	refuses bool          // every Apply leaves something as it was
}

type call struct {
	At       time.Duration
	Revision uint64
	Full     bool
}

func (r *recorder) Name() string { return "recorder" }
func (r *recorder) Close() error { return nil }
func (r *recorder) Invalidate()  { r.stale = true }

func (r *recorder) Apply(ctx context.Context, want *Snapshot) (Changes, error) {
	r.calls = append(r.calls, call{time.Since(r.start), want.Revision, r.stale})
	if !sleep(ctx, r.took) {
		return Changes{}, ctx.Err()
	}
	if r.failing > 0 {
		r.failing--
		r.stale = true
		return Changes{}, errors.New("kernel says no")
	}
	full := r.stale
	r.stale = false
	if r.refuses {
		return Changes{Updated: 1, Full: full}, &PartialError{errors.New("no such match")}
	}
	return Changes{Updated: 1, Full: full}, nil
}

// run starts l in the bubble; the returned function ends it and waits for its end.
func run(t *testing.T, l *Loop) (*recorder, func()) {
	t.Helper()
	r := &recorder{start: time.Now(), stale: true}
	l.Backend = r
	if l.Feed == nil {
		l.Feed = new(Feed)
	}
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	return r, func() {
		cancel()
		<-done
	}
}

func revision(n uint64) *Snapshot { return &Snapshot{Revision: n, Node: &Node{}} }

func TestLoopWaitsForTheFirstSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{}
		r, stop := run(t, l)
		time.Sleep(time.Hour)
		l.Feed.Publish(revision(1))
		time.Sleep(time.Hour)
		stop()
		want := []call{{time.Hour, 1, true}}
		if diff := cmp.Diff(want, r.calls); diff != "" {
			t.Errorf("applies (-want +got):\n%s", diff)
		}
	})
}

func TestLoopKeepsTheShortestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{MinInterval: time.Second}
		r, stop := run(t, l)
		r.took = 200 * time.Millisecond
		for n := range 30 { // a change every 100 ms for 3 s
			l.Feed.Publish(revision(uint64(n + 1)))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		stop()
		for i := 1; i < len(r.calls); i++ {
			if gap := r.calls[i].At - r.calls[i-1].At - r.took; gap < time.Second {
				t.Errorf("apply %d began %v after the end of the one before", i, gap)
			}
		}
		if last := r.calls[len(r.calls)-1]; last.Revision != 30 || last.At > 5*time.Second {
			t.Errorf("last apply: %+v, want revision 30 soon after 3 s", last)
		}
		if len(r.calls) != 4 {
			t.Errorf("%d applies, want 4: at 0, 1.2, 2.4 and 3.6 s", len(r.calls))
		}
	})
}

func TestLoopAppliesAtOnceAfterRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{MinInterval: time.Second}
		r, stop := run(t, l)
		l.Feed.Publish(revision(1))
		time.Sleep(time.Minute)
		l.Feed.Publish(revision(2))
		synctest.Wait()
		stop()
		want := []call{{0, 1, true}, {time.Minute, 2, false}}
		if diff := cmp.Diff(want, r.calls); diff != "" {
			t.Errorf("applies (-want +got):\n%s", diff)
		}
	})
}

func TestLoopBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{MaxBackoff: 2 * time.Second}
		r, stop := run(t, l)
		r.failing = 12
		l.Feed.Publish(revision(1))
		time.Sleep(time.Minute)
		l.Feed.Publish(revision(2))
		time.Sleep(time.Minute)
		stop()
		if len(r.calls) != 14 {
			t.Fatalf("%d applies, want 12 failed, the one that worked and one for the next change", len(r.calls))
		}
		for i, bound := 1, 100*time.Millisecond; i <= 12; i, bound = i+1, min(2*bound, l.MaxBackoff) {
			if gap := r.calls[i].At - r.calls[i-1].At; gap < bound/2 || gap > bound {
				t.Errorf("wait %d was %v, want between %v and %v", i, gap, bound/2, bound)
			}
			if !r.calls[i].Full {
				t.Errorf("apply %d after a failure did not read the kernel", i)
			}
		}
	})
}

func TestLoopForgetsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{}
		r, stop := run(t, l)
		r.failing = 8
		l.Feed.Publish(revision(1))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		r.failing = 1
		l.Feed.Publish(revision(2))
		time.Sleep(5 * time.Minute)
		stop()
		n := len(r.calls)
		if gap := r.calls[n-1].At - r.calls[n-2].At; gap > firstBackoff {
			t.Errorf("after success, the first wait was %v, want at most %v", gap, firstBackoff)
		}
	})
}

// TestLoopTriesNewerSnapshots: one that comes while the loop backs off is tried soon, though
// not at once, and its failures do not make the wait short again.
func TestLoopTriesNewerSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{MinInterval: time.Second}
		r, stop := run(t, l)
		r.failing, r.took = 1<<30, 3*time.Second
		l.Feed.Publish(revision(1))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n := len(r.calls)
		change := time.Since(r.start)
		l.Feed.Publish(revision(2))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if wait := r.calls[n].At - change; r.calls[n].Revision != 2 || wait > 2*r.took { // the change may come in an apply, after which the loop rests as long
			t.Errorf("apply %+v, %v after the change", r.calls[n], wait)
		}
		if gap := r.calls[n+1].At - r.calls[n].At - r.took; gap < defaultBackoff/2 {
			t.Errorf("the next apply of the same snapshot came after %v", gap)
		}
		n = len(r.calls)
		for i := range 600 { // constant changes
			l.Feed.Publish(revision(uint64(i + 3)))
			time.Sleep(100 * time.Millisecond)
		}
		stop()
		for i := n + 1; i < len(r.calls); i++ {
			if gap := r.calls[i].At - r.calls[i-1].At - r.took; gap < r.took {
				t.Errorf("constant changes: %v between two failing applies of %v", gap, r.took)
			}
		}
		if len(r.calls)-n < 9 {
			t.Errorf("%d applies during 60 s of changes", len(r.calls)-n)
		}
	})
}

func TestLoopResyncs(t *testing.T) {
	for name, change := range map[string]time.Duration{
		"at rest":                0,
		"under constant changes": 300 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Loop{MinInterval: 100 * time.Millisecond, Resync: 10 * time.Second}
				r, stop := run(t, l)
				l.Feed.Publish(revision(1))
				n := uint64(1)
				for end := time.Now().Add(95 * time.Second); time.Now().Before(end); {
					if change == 0 {
						time.Sleep(time.Second)
						continue
					}
					time.Sleep(change)
					n++
					l.Feed.Publish(revision(n))
				}
				stop()
				var full []time.Duration
				for _, c := range r.calls {
					if c.Full {
						full = append(full, c.At)
					}
				}
				if len(full) != 10 {
					t.Fatalf("the kernel was read at %v, want 10 times in 95 s", full)
				}
				for i := 1; i < len(full); i++ {
					if gap := full[i] - full[i-1]; gap < l.Resync || gap > l.Resync+time.Second {
						t.Errorf("%v between two resyncs, want %v", gap, l.Resync)
					}
				}
			})
		})
	}
}

func TestLoopBoundsTheCostOfResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{Resync: 10 * time.Second}
		r, stop := run(t, l)
		r.took = time.Second
		l.Feed.Publish(revision(1))
		time.Sleep(1000 * time.Second)
		stop()
		if len(r.calls) < 9 || len(r.calls) > 10 {
			t.Errorf("%d reads of a second each in 1000 s, want one per 100 s", len(r.calls))
		}
	})
}

func TestLoopNeverResyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Loop{}
		r, stop := run(t, l)
		l.Feed.Publish(revision(1))
		time.Sleep(24 * time.Hour)
		stop()
		if len(r.calls) != 1 {
			t.Errorf("%d applies, want 1", len(r.calls))
		}
	})
}

// TestLoopEnds: Run returns soon after its context ends, wherever it is at that moment.
func TestLoopEnds(t *testing.T) {
	tests := map[string]struct {
		loop    Loop
		publish bool
		took    time.Duration
		failing int
	}{
		"before the first snapshot": {},
		"at rest":                   {publish: true},
		"in the shortest interval":  {publish: true, loop: Loop{MinInterval: time.Hour}},
		"while it backs off":        {publish: true, failing: 100},
		"within an Apply":           {publish: true, took: time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &tc.loop
				r, stop := run(t, l)
				r.took, r.failing = tc.took, tc.failing
				if tc.publish {
					l.Feed.Publish(revision(1))
				}
				time.Sleep(time.Minute)
				before := time.Now()
				stop()
				if took := time.Since(before); took != 0 {
					t.Errorf("Run ended after %v", took)
				}
			})
		})
	}
}

func TestLoopTellsWhatItApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Applied
		l := &Loop{Applied: func(a Applied) { got = append(got, a) }}
		r, stop := run(t, l)
		r.took = time.Second
		first, second, third := revision(1), revision(2), revision(3)
		l.Feed.Publish(first)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.failing = 1
		l.Feed.Publish(second)
		time.Sleep(time.Second) // it fails now
		synctest.Wait()
		l.Feed.Publish(third)
		time.Sleep(time.Minute)
		stop()
		if len(got) != 3 {
			t.Fatalf("%d outcomes, want 3", len(got))
		}
		for i, want := range []struct{ prev, now *Snapshot }{{nil, first}, {first, second}, {first, third}} {
			if got[i].Prev != want.prev || got[i].Now != want.now || got[i].Took != time.Second {
				t.Errorf("outcome %d: prev %p, now %p, took %v; want %p, %p, 1s", i, got[i].Prev, got[i].Now, got[i].Took, want.prev, want.now)
			}
			if (got[i].Err != nil) != (i == 1) {
				t.Errorf("outcome %d: error %v", i, got[i].Err)
			}
		}
	})
}

func TestLoopReportsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &Loop{Log: slog.New(slog.NewTextHandler(&out, nil))}
		r, stop := run(t, l)
		r.took = 12 * time.Second
		l.Feed.Publish(revision(1))
		time.Sleep(time.Minute)
		stop()
		if n := strings.Count(out.String(), `msg="still applying"`); n != 2 {
			t.Errorf("%d progress lines for 12 s, want 2:\n%s", n, &out)
		}
	})
}

// TestLoopGoesOnAfterARefusal: what the kernel refuses of one Service holds up no other.
func TestLoopGoesOnAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var told []Applied
		l := &Loop{Log: slog.New(slog.NewTextHandler(&log, nil)), Applied: func(a Applied) { told = append(told, a) }}
		r, stop := run(t, l)
		r.refuses = true
		for n := range 3 {
			l.Feed.Publish(revision(uint64(n + 1)))
			time.Sleep(time.Second)
		}
		stop()
		want := []call{{0, 1, true}, {time.Second, 2, false}, {2 * time.Second, 3, false}}
		if diff := cmp.Diff(want, r.calls); diff != "" {
			t.Errorf("applies (-want +got):\n%s", diff)
		}
		for i, a := range told {
			if a.Err != nil || a.Refused == nil || (i > 0 && a.Prev != told[i-1].Now) {
				t.Errorf("told of %+v", a)
			}
		}
		if n := strings.Count(log.String(), "no such match"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, &log)
		}
	})
}

// TestLoopTellsInOrder: of every Apply, one that fails included, Applying is told before and Applied after.
func TestLoopTellsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		l := &Loop{}
		note := func(what string, s *Snapshot, calls int) {
			told = append(told, fmt.Sprintf("%s %d after %d", what, s.Revision, calls))
		}
		var r *recorder
		l.Applying = func(s *Snapshot) { note("applying", s, len(r.calls)) }
		l.Applied = func(a Applied) { note("applied", a.Now, len(r.calls)) }
		r, stop := run(t, l)
		r.failing = 1
		l.Feed.Publish(revision(1))
		time.Sleep(time.Minute)
		stop()
		want := []string{"applying 1 after 0", "applied 1 after 1", "applying 1 after 1", "applied 1 after 2"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLoopRestsMoreWhileChangesKeepComing: what costs much is done less often, but nobody waits for
// long, and a change after a calm does not wait at all.
func TestLoopRestsMoreWhileChangesKeepComing(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct{ took, first, then, resync time.Duration }{
		{10 * ms, 100 * ms, 100 * ms, 0}, // MinInterval
		{80 * ms, 100 * ms, 160 * ms, time.Second},
		{200 * ms, 200 * ms, 400 * ms, 0},
		{700 * ms, 700 * ms, time.Second, 0},
		{3 * time.Second, time.Second, 3 * time.Second, 0},
		{11 * time.Second, time.Second, 10 * time.Second, 0},
		{141 * time.Second, time.Second, 10 * time.Second, 0},
	} {
		t.Run(c.took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Loop{MinInterval: 100 * ms, Resync: c.resync}
				r, stop := run(t, l)
				r.took = c.took
				n := uint64(0)
				began := map[time.Duration]bool{} // when changes came after a calm
				for range 2 {
					began[time.Since(r.start)] = true
					for range 4000 { // a change every 10 ms
						n++
						l.Feed.Publish(revision(n))
						time.Sleep(10 * ms)
					}
					time.Sleep(c.resync + time.Hour)
				}
				stop()
				want := time.Duration(-1) // for the next Apply
				for i, got := range r.calls {
					lone := began[got.At]
					if delete(began, got.At); !lone && got.At != want && !got.Full {
						t.Errorf("apply %d at %v, want %v", i, got.At, want)
					}
					want = got.At + c.took + c.then
					if lone || got.Full {
						want = got.At + c.took + c.first
					}
				}
				if len(began) > 0 {
					t.Errorf("after a calm, changes waited: %v", began)
				}
				if last := r.calls[len(r.calls)-1]; last.Revision != n {
					t.Errorf("revision %d was applied last, want %d", last.Revision, n)
				}
			})
		})
	}
}
