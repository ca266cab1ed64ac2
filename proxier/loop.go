package proxier

import (
	"context"
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
	// MinInterval is the least time between the ends of one Apply and the start of the next.
	MinInterval time.Duration
	// Resync is the longest time without reading the kernel again; 0 for never. If reading is
	// slow, Loop waits longer, so that it spends at most about 1 % of its time on it.
	Resync time.Duration
	// MaxBackoff bounds the wait after a failed Apply; 0 means 30 s. The first wait is 100 ms.
	MaxBackoff time.Duration
	// Applied, if set, is told of every Apply, in Run's goroutine.
	Applied func(Applied)
	// Log receives a line per Apply that changed something or failed. Nil means slog.Default.
	Log *slog.Logger
}

// Applied is the outcome of one Apply.
type Applied struct {
	// Prev is the last snapshot that was applied without error, nil at first.
	Prev, Now *Snapshot
	Changes   Changes
	Err       error
	Start     time.Time
	Took      time.Duration
}

const (
	firstBackoff     = 100 * time.Millisecond
	defaultBackoff   = 30 * time.Second
	resyncWorkFactor = 100 // resync costs at most 1/100 of the time
)

// Run applies snapshots until ctx is done, then returns nil. The data plane keeps working.
func (l *Loop) Run(ctx context.Context) {
	log := l.Log
	if log == nil {
		log = slog.Default()
	}
	log = log.With("backend", l.Backend.Name())
	var prev *Snapshot
	var backoff time.Duration
	resync := l.Resync
	for {
		want, changed := l.Feed.Current()
		if want == nil {
			if !wait(ctx, changed, 0) {
				return
			}
			continue
		}
		res := l.apply(ctx, prev, want)
		if ctx.Err() != nil && res.Err != nil {
			return
		}
		pause, idle := l.MinInterval, changed
		if res.Err != nil {
			backoff = min(max(2*backoff, firstBackoff), l.maxBackoff())
			pause = max(pause, backoff/2+rand.N(backoff/2+1))
			log.Error("apply failed; the old state stays where the new one could not be written",
				"revision", want.Revision, "err", res.Err, "retry", pause)
		} else {
			prev, backoff = want, 0
			if !res.Changes.IsZero() {
				log.Info("applied", "revision", want.Revision, "frontends", len(want.Frontends),
					"added", res.Changes.Added, "updated", res.Changes.Updated,
					"removed", res.Changes.Removed, "lines", res.Changes.Lines, "took", res.Took)
			}
			if res.Changes.Full {
				resync = max(l.Resync, resyncWorkFactor*res.Took)
			}
		}
		if !wait(ctx, nil, pause) {
			return
		}
		if res.Err != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-idle:
		case <-after(l.Resync, resync):
			l.Backend.Invalidate()
		}
	}
}

func (l *Loop) maxBackoff() time.Duration {
	if l.MaxBackoff > 0 {
		return l.MaxBackoff
	}
	return defaultBackoff
}

func (l *Loop) apply(ctx context.Context, prev, want *Snapshot) Applied {
	start := time.Now()
	changes, err := l.Backend.Apply(ctx, want)
	res := Applied{Prev: prev, Now: want, Changes: changes, Err: err, Start: start, Took: time.Since(start)}
	if l.Applied != nil {
		l.Applied(res)
	}
	return res
}

// after returns a channel that fires after d, or never if enabled is 0.
func after(enabled, d time.Duration) <-chan time.Time {
	if enabled <= 0 {
		return nil
	}
	return time.After(d)
}

// wait returns false if ctx ended first. It ends when changed is closed or, if changed is nil,
// after d.
func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	if changed != nil {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return true
		}
	}
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
