package proxier

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// A Loop applies the snapshots of a Feed to a Backend. It owns all timing: the wait for the
// first snapshot, the shortest interval between two applies, back-off after errors, and the
// regular look at the kernel for what others changed.
type Loop struct {
	Feed    *Feed
	Backend Backend
	// MinInterval is the least time between the end of one Apply and the start of the next. Loop
	// rests longer after an Apply that took longer: see restAfter.
	MinInterval time.Duration
	// Resync is the longest time without reading the kernel again, however many changes come
	// meanwhile; 0 for never. If reading is slow, Loop waits longer, so that it spends at most
	// about 1 % of its time on it.
	Resync time.Duration
	// MaxBackoff bounds the wait after a failed Apply; 0 means 30 s. The first wait is 100 ms.
	// A newer snapshot does not wait, but for MinInterval and as long as the Apply took.
	MaxBackoff time.Duration
	// Applying, if set, is told of a snapshot before each Apply of it, in Run's goroutine. The Apply
	// waits for it.
	Applying func(want *Snapshot)
	// Applied, if set, is told of every Apply, in Run's goroutine.
	Applied func(Applied)
	// Log receives a line per Apply that changed something or failed, and one every few seconds
	// while a long Apply runs. Nil means slog.Default.
	Log *slog.Logger
}

// Applied is the outcome of one Apply.
type Applied struct {
	// Prev is the last snapshot that was applied without error, nil at first.
	Prev, Now *Snapshot
	Changes   Changes
	// Err says why Now was not applied. Refused names Service ports that were left as they were
	// when all else was applied: see [PartialError].
	Err, Refused error
	Start        time.Time
	Took         time.Duration
}

const (
	firstBackoff     = 100 * time.Millisecond
	defaultBackoff   = 30 * time.Second
	resyncWorkFactor = 100 // resync costs at most 1/100 of the time
	progressInterval = 5 * time.Second
	longRest         = time.Second      // that only saves work
	longestRest      = 10 * time.Second // that keeps the work to half of the time
)

// Run applies snapshots until ctx is done. The data plane keeps working afterwards.
func (l *Loop) Run(ctx context.Context) {
	log := l.Log
	if log == nil {
		log = slog.Default()
	}
	log = log.With("backend", l.Backend.Name())
	var (
		prev    *Snapshot
		backoff time.Duration
		refused string           // what the log was told last
		busy    bool             // the last rest ended with a change waiting
		resync  <-chan time.Time // nil: never
	)
	for {
		want, changed := l.Feed.Current()
		if want == nil {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				continue
			}
		}
		res := l.apply(ctx, log, prev, want)
		if ctx.Err() != nil {
			return
		}
		if res.Err != nil {
			backoff = min(max(2*backoff, firstBackoff), l.maxBackoff())
			// Half of the wait is random, so that the nodes of a cluster do not retry together.
			pause := max(l.MinInterval, backoff/2+rand.N(backoff/2+1))
			log.Error("apply failed; the old state stays where the new one could not be written",
				"revision", want.Revision, "err", res.Err, "retry", pause)
			// Another snapshot is tried sooner: it may not have the fault, or only one address
			// family may have it.
			soon := min(pause, max(l.MinInterval, res.Took))
			if !sleep(ctx, soon) || !sleepUnless(ctx, pause-soon, changed) {
				return
			}
			continue
		}
		refused = l.logRefused(log, res, refused)
		if !res.Changes.IsZero() {
			log.Info("applied", "revision", want.Revision, "frontends", len(want.Frontends),
				"added", res.Changes.Added, "updated", res.Changes.Updated,
				"removed", res.Changes.Removed, "lines", res.Changes.Lines, "took", res.Took)
		}
		if l.Resync > 0 && (res.Changes.Full || prev == nil) {
			resync = time.After(max(l.Resync, resyncWorkFactor*res.Took))
		}
		prev, backoff = want, 0
		if !sleep(ctx, max(l.MinInterval, restAfter(res.Took, busy && !res.Changes.Full))) {
			return
		}
		now, _ := l.Feed.Current()
		busy = now != want
		select { // a due resync comes first, or constant changes would put it off for ever
		case <-resync:
			l.Backend.Invalidate()
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-resync:
			l.Backend.Invalidate()
		}
	}
}

// restAfter is how long to rest after an Apply. Where one costs much, changes are gathered for the
// next: more at a time cost less for each. While changes keep coming, a third of the time goes into
// applying, or half of it if they would wait for more than a second. Otherwise, and after an Apply
// that read the kernel, which tells nothing of what the next will take, a change waits for a second
// at most: a first sync can take minutes.
func restAfter(took time.Duration, busy bool) time.Duration {
	if busy {
		return max(min(2*took, longRest), min(took, longestRest))
	}
	return min(took, longRest)
}

// logRefused logs what was refused if it is not what was logged before, and returns it.
func (l *Loop) logRefused(log *slog.Logger, res Applied, before string) string {
	now := ""
	if res.Refused != nil {
		now = res.Refused.Error()
	}
	if now != before && now != "" {
		log.Error("the kernel refuses Service ports, which stay as they were; all others were applied",
			"revision", res.Now.Revision, "err", now)
	}
	return now
}

func (l *Loop) maxBackoff() time.Duration {
	if l.MaxBackoff > 0 {
		return l.MaxBackoff
	}
	return defaultBackoff
}

func (l *Loop) apply(ctx context.Context, log *slog.Logger, prev, want *Snapshot) Applied {
	if l.Applying != nil {
		l.Applying(want)
	}
	start := time.Now()
	done := make(chan struct{})
	go progress(log, start, want, done)
	changes, err := l.Backend.Apply(ctx, want)
	close(done)
	res := Applied{Prev: prev, Now: want, Changes: changes, Err: err, Start: start, Took: time.Since(start)}
	if partial := (*PartialError)(nil); errors.As(err, &partial) {
		res.Err, res.Refused = nil, partial.Err
	}
	if l.Applied != nil {
		l.Applied(res)
	}
	return res
}

// progress logs that an Apply is still running until done is closed.
func progress(log *slog.Logger, start time.Time, want *Snapshot, done <-chan struct{}) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			log.Info("still applying", "revision", want.Revision, "frontends", len(want.Frontends),
				"for", time.Since(start).Round(time.Second))
		}
	}
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool { return sleepUnless(ctx, d, nil) }

// sleepUnless is sleep that also ends when changed is closed.
func sleepUnless(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
		return true
	case <-time.After(d):
		return true
	}
}
