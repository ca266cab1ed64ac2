package cache

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	ways       = 16   // entries of one bucket
	minEntries = 1024 // as CoreDNS: the smallest capacity there is
)

// A store is a hash table of fixed size. Readers take no lock: they see an entry or do not.
type store struct {
	buckets   []bucket
	entries   atomic.Int64
	evictions atomic.Uint64
}

// A bucket holds the entries whose hashes fall into it. The tags stand apart from the entries, so
// that a search touches two cache lines and not sixteen entries.
type bucket struct {
	tags  [ways]atomic.Uint64 // hash of the entry, 0: free
	slots [ways]atomic.Pointer[entry]
	mu    sync.Mutex // of writers
	hand  uint8      // where the next search for a victim begins
}

func newStore(capacity int) *store {
	return &store{buckets: make([]bucket, max(capacity, minEntries)/ways)}
}

func (s *store) bucket(hash uint64) *bucket {
	i, _ := bits.Mul64(hash, uint64(len(s.buckets)))
	return &s.buckets[i]
}

// get returns the entry of a key, or nil.
func (s *store) get(k *key) *entry {
	b := s.bucket(k.hash)
	for i := range b.tags {
		if b.tags[i].Load() != k.hash {
			continue
		}
		if e := b.slots[i].Load(); e != nil && e.is(k) {
			return e
		}
	}
	return nil
}

// put stores an entry in place of the one with the same key, in a free slot, or in that of a
// victim.
func (s *store) put(k *key, e *entry, now int64) {
	b := s.bucket(k.hash)
	b.mu.Lock()
	defer b.mu.Unlock()
	free := -1
	for i := range b.tags {
		old := b.slots[i].Load()
		if old == nil {
			free = i
		} else if old.is(k) {
			b.slots[i].Store(e)
			return
		}
	}
	if free < 0 {
		free = b.victim(now)
		s.evictions.Add(1)
	} else {
		s.entries.Add(1)
	}
	b.tags[free].Store(0) // nobody may find the new entry under the old hash, nor the reverse
	b.slots[free].Store(e)
	b.tags[free].Store(k.hash)
}

// victim returns the slot to give up: an entry that has expired, or else the first one that
// nobody asked for since the hand last passed it. So a flood of names that are asked once does not
// drive out those that are asked often.
func (b *bucket) victim(now int64) int {
	for i := range b.slots {
		if b.slots[i].Load().left(now) <= 0 {
			return i
		}
	}
	for {
		i := int(b.hand) % ways
		b.hand++
		if !b.slots[i].Load().used.Swap(false) {
			return i
		}
	}
}

// remove forgets the entry of a key.
func (s *store) remove(k *key) {
	b := s.bucket(k.hash)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.slots {
		if old := b.slots[i].Load(); old != nil && old.is(k) {
			b.tags[i].Store(0)
			b.slots[i].Store(nil)
			s.entries.Add(-1)
			return
		}
	}
}
