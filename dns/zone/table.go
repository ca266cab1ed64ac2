package zone

import (
	"cmp"
	"hash/maphash"
	"slices"
)

const shards = 1024

// A table is an immutable hash table of values that know their own key: a find returns those of
// equal hash, and the caller looks which one it is. The zero table is empty.
type table[V comparable] struct {
	shard [shards][]item[V] // by the upper bits of the hash, each sorted by hash
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
	s := t.shard[hash%shards]
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
	for i := range t.shard {
		for _, it := range t.shard[i] {
			f(it.value)
		}
	}
}

// An edit makes a new table from an old one, which it leaves as it is.
type edit[V comparable] struct {
	table[V]
	own [shards]bool // shards that are not the old table's
}

func editOf[V comparable](t *table[V]) *edit[V] {
	e := &edit[V]{}
	if t != nil {
		e.table = *t
	}
	return e
}

func (e *edit[V]) mine(hash uint64) *[]item[V] {
	i := hash % shards
	s := &e.shard[i]
	if !e.own[i] {
		*s = append(make([]item[V], 0, len(*s)+1), *s...)
		e.own[i] = true
	}
	return s
}

func (e *edit[V]) add(hash uint64, v V) {
	s := e.mine(hash)
	at, _ := slices.BinarySearchFunc(*s, hash, func(it item[V], h uint64) int { return cmp.Compare(it.hash, h) })
	*s = slices.Insert(*s, at, item[V]{hash, v})
}

func (e *edit[V]) remove(hash uint64, v V) {
	s := e.mine(hash)
	if at := slices.Index(*s, item[V]{hash, v}); at >= 0 {
		*s = slices.Delete(*s, at, at+1)
	}
}

// done returns the new table. The edit must not be used again.
func (e *edit[V]) done() *table[V] {
	for i, own := range e.own {
		if s := e.shard[i]; own && cap(s)-len(s) > 2 {
			e.shard[i] = append(make([]item[V], 0, len(s)), s...)
		}
	}
	return &e.table
}
