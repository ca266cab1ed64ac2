package zone

import (
	"cmp"
	"hash/maphash"
	"slices"
)

const shards = 32 // of a table, and of each of those: 1,024 in all

// A table is an immutable hash table of values that know their own key: find returns those of
// equal hash, and the caller looks which one it is. A change copies one shard and the two short
// lists that lead to it. The zero table is empty.
type table[V comparable] struct {
	shard [shards]*[shards][]item[V] // each of the inner ones sorted by hash; nil is empty
}

type item[V comparable] struct {
	hash  uint64
	value V
}

// seed makes hashes that nobody outside can foresee.
var seed = maphash.MakeSeed()

func hashOf(b []byte) uint64 { return maphash.Bytes(seed, b) }

// find returns the values that may have a key of this hash.
func (t *table[V]) find(hash uint64) []item[V] {
	inner := t.shard[hash%shards]
	if inner == nil {
		return nil
	}
	s := inner[hash/shards%shards]
	low, high := 0, len(s)
	for low < high {
		if mid := int(uint(low+high) >> 1); s[mid].hash < hash {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for high = low; high < len(s) && s[high].hash == hash; high++ {
	}
	return s[low:high]
}

// all calls f for every value.
func (t *table[V]) all(f func(V)) {
	for _, inner := range t.shard {
		if inner == nil {
			continue
		}
		for _, s := range inner {
			for _, it := range s {
				f(it.value)
			}
		}
	}
}

// An edit makes a new table from an old one, which it leaves as it is. It costs nothing until the
// first change.
type edit[V comparable] struct {
	old *table[V]
	now *table[V]                            // nil: the old one
	own map[*[shards][]item[V]]*[shards]bool // what of now is not the old one's
}

func editOf[V comparable](t *table[V]) *edit[V] { return &edit[V]{old: t} }

// done returns the new table, the old one itself if nothing changed.
func (e *edit[V]) done() *table[V] {
	if e.now == nil {
		return e.old
	}
	return e.now
}

// mine returns the shard of a hash, to be changed.
func (e *edit[V]) mine(hash uint64) *[]item[V] {
	if e.now == nil {
		now := *e.old
		e.now, e.own = &now, map[*[shards][]item[V]]*[shards]bool{}
	}
	i, j := hash%shards, hash/shards%shards
	own := e.own[e.now.shard[i]]
	if own == nil {
		inner := new([shards][]item[V])
		if old := e.now.shard[i]; old != nil {
			*inner = *old
		}
		own = new([shards]bool)
		e.now.shard[i], e.own[inner] = inner, own
	}
	s := &e.now.shard[i][j]
	if !own[j] {
		*s = append(make([]item[V], 0, len(*s)+1), *s...)
		own[j] = true
	}
	return s
}

func (e *edit[V]) add(hash uint64, v V) {
	s := e.mine(hash)
	at, _ := slices.BinarySearchFunc(*s, hash, func(it item[V], h uint64) int { return cmp.Compare(it.hash, h) })
	if len(*s) == cap(*s) { // room for a few: append would double it
		*s = append(make([]item[V], 0, len(*s)+8), *s...)
	}
	*s = slices.Insert(*s, at, item[V]{hash, v})
}

func (e *edit[V]) remove(hash uint64, v V) {
	s := e.mine(hash)
	if at := slices.Index(*s, item[V]{hash, v}); at >= 0 {
		*s = slices.Delete(*s, at, at+1)
	}
}
