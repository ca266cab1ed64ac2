package conntrack

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/fairway-lb/fairway/proxier"
)

// A Cleaner deletes stale flows. It remembers what a failed run left undone. Clean may be called
// by one goroutine at a time; Deleted by any.
type Cleaner struct {
	due     due
	deleted [2]atomic.Uint64
}

// New returns a Cleaner that has nothing to do yet.
func New() *Cleaner { return &Cleaner{due: due{}} }

// Clean deletes the flows that became stale between prev and now, which are the last and the
// newly applied snapshots, and returns how many it deleted. Prev is nil at the start of the
// process; then the flows to every frontend of now are looked at.
//
// If no change between prev and now can have made a flow stale, and no earlier run failed, Clean
// does not ask the kernel anything. After an error, what was to be done is remembered and done by
// the next call, which may be Clean(ctx, now, now).
//
// Clean works in the network namespace of the calling thread. It needs CAP_NET_ADMIN.
func (c *Cleaner) Clean(ctx context.Context, prev, now *proxier.Snapshot) (deleted int, err error) {
	c.due.note(prev, now)
	if len(c.due) == 0 {
		return 0, nil
	}
	var errs []error
	for _, t := range c.due.tables() {
		n, err := c.cleanTable(ctx, t, now)
		deleted += n
		if t.v6 {
			c.deleted[1].Add(uint64(n))
		} else {
			c.deleted[0].Add(uint64(n))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("conntrack %s: %w", t, err))
			continue
		}
		c.due.done(t)
	}
	return deleted, errors.Join(errs...)
}

// Deleted returns how many entries of one address family were deleted since New.
func (c *Cleaner) Deleted(v6 bool) uint64 {
	if v6 {
		return c.deleted[1].Load()
	}
	return c.deleted[0].Load()
}

func (c *Cleaner) cleanTable(ctx context.Context, t table, now *proxier.Snapshot) (deleted int, err error) {
	p := newPlan(c.due, t, now)
	if p.nodePorts {
		if p.local, err = localAddresses(t.v6); err != nil {
			return 0, err
		}
	}
	k, err := openKernel()
	if err != nil {
		return 0, err
	}
	defer k.close()
	var errs []error
	err = k.dump(ctx, t, func(f *flow) {
		if !p.stale(f) {
			return
		}
		switch ok, err := k.remove(t, f); {
		case err != nil && len(errs) < maxErrors:
			errs = append(errs, fmt.Errorf("delete %s: %w", f, err))
		case ok:
			deleted++
		}
	})
	return deleted, errors.Join(append(errs, err)...)
}

// maxErrors bounds how many failed deletions are told of: a table can hold a million.
const maxErrors = 4
