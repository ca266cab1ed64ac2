package watch

import (
	"context"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// PublishOptions are how Publish gathers changes. The zero value is good.
type PublishOptions struct {
	// Quiet is for how long no change must come before what there is gets published; 0 means
	// 10 ms. It makes one snapshot of a Service and its EndpointSlice that come one after the
	// other.
	Quiet time.Duration
	// MaxDelay bounds the wait for Quiet; 0 means ten times Quiet. A change within an
	// EndpointSlice does not wait at all if nothing was published for as long as this.
	MaxDelay time.Duration
	// Published, if set, is told of every snapshot, in Publish's goroutine, after it is on the
	// feed, and of what triggered the changes of endpoints in it.
	Published func(*proxier.Snapshot, []proxier.Trigger)
}

// Publish resolves the content of store and puts it on feed, at first when the store is synced
// and then after every change, until ctx is done. The source's own problems are merged into the
// snapshot's. Revisions count what was published; a state that equals the last is not.
func Publish(ctx context.Context, store *Store, r *resolve.Resolver, feed *proxier.Feed, o PublishOptions) {
	if o.Quiet <= 0 {
		o.Quiet = 10 * time.Millisecond
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = 10 * o.Quiet
	}
	select {
	case <-ctx.Done():
		return
	case <-store.Synced():
	}
	p := publisher{store: store, resolver: r}
	var published time.Time
	for {
		changed := store.Changed()
		if s, triggers := p.next(); s != nil {
			feed.Publish(s)
			published = time.Now()
			if o.Published != nil {
				o.Published(s, triggers)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if store.complete() && time.Since(published) >= o.MaxDelay {
			continue
		}
		if !settle(ctx, store.Changed, o.Quiet, o.MaxDelay) {
			return
		}
	}
}

type publisher struct {
	store    *Store
	resolver *resolve.Resolver

	revision uint64
	resolved *proxier.Snapshot // what the resolver returned last
	problems []proxier.Problem // what the store reported with it
}

// next returns the snapshot of the store's present state, nil if it is the last one, and what
// triggered the changes in it.
func (p *publisher) next() (*proxier.Snapshot, []proxier.Trigger) {
	inputs, triggers := p.store.gather()
	resolved, problems := p.resolver.Resolve(inputs), p.store.Problems()
	if resolved == p.resolved && slices.Equal(problems, p.problems) {
		return nil, nil
	}
	p.resolved, p.problems = resolved, problems
	p.revision++
	out := *resolved
	out.Revision = p.revision
	if len(problems) > 0 {
		out.Problems = append(slices.Clone(problems), resolved.Problems...)
		slices.SortFunc(out.Problems, compareProblems)
	}
	return &out, triggers
}

// settle returns after no change came for quiet, or after limit. It returns false if ctx ended
// first.
func settle[T any](ctx context.Context, changed func() <-chan T, quiet, limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	calm := time.NewTimer(quiet)
	defer calm.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return true
		case <-calm.C:
			return true
		case <-changed():
			calm.Reset(quiet)
		}
	}
}
