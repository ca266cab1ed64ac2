package proxier

import "sync"

// A Feed carries the newest Snapshot from one producer to any number of readers. Readers that
// are slow miss intermediate snapshots, never the last. A Feed is safe for concurrent use; the
// zero Feed is empty and ready.
type Feed struct {
	mu      sync.Mutex
	current *Snapshot
	changed chan struct{}
}

// Publish makes s the current snapshot and wakes readers. Publishing the current snapshot again
// does nothing.
func (f *Feed) Publish(s *Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s == f.current {
		return
	}
	f.current = s
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Current returns the newest snapshot, nil before the first, and a channel that is closed when
// there is a newer one.
func (f *Feed) Current() (*Snapshot, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.current, f.changed
}
