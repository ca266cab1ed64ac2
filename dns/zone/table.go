package zone

import "hash/maphash"

// width is how many buckets one list has, and how many of those one list of lists.
const width = 32

// A table is an immutable hash table of values that know their own key: items of equal hash are
// found, and the caller looks which one it is. A change copies one list of each level and the chain
// of one bucket. There are at least as many buckets as values, so that a look-up mostly waits for
// memory once. The zero table is empty.
type table[V comparable] struct {
	lists []*[width]*[width]item[V] // a power of two of them; nil is empty, also within
	count int
}

// An item is a value of a bucket. The first stands in the bucket itself; if its value is zero, the
// bucket is empty.
type item[V comparable] struct {
	hash  uint64
	value V
	next  *item[V]
}

// seed makes hashes that nobody outside can foresee.
var seed = maphash.MakeSeed()

func hashOf(b []byte) uint64 { return maphash.Bytes(seed, b) }

// find returns the first item of a hash, nil if there is none.
func (t *table[V]) find(hash uint64) *item[V] {
	if len(t.lists) == 0 {
		return nil
	}
	outer, inner, bucket := place(hash, len(t.lists))
	if l := t.lists[outer]; l != nil && l[inner] != nil {
		return l[inner][bucket].of(hash)
	}
	return nil
}

// place returns where the bucket of a hash is in a table of so many lists.
func place(hash uint64, lists int) (outer, inner, bucket uint64) {
	return hash / (width * width) & uint64(lists-1), hash / width % width, hash % width
}

// more returns the next item of the same hash.
func (it *item[V]) more() *item[V] { return it.next.of(it.hash) }

// of returns the first item of a hash from this one on.
func (it *item[V]) of(hash uint64) *item[V] {
	var none V
	for it != nil && (it.hash != hash || it.value == none) {
		it = it.next
	}
	return it
}

// without returns a chain without one item, which it was told by hash and value.
func (it *item[V]) without(hash uint64, v V) *item[V] {
	switch {
	case it == nil:
		return nil
	case it.hash == hash && it.value == v:
		return it.next
	}
	return &item[V]{it.hash, it.value, it.next.without(hash, v)}
}

// all calls f for every value.
func (t *table[V]) all(f func(V)) { t.items(func(_ uint64, v V) { f(v) }) }

func (t *table[V]) items(f func(uint64, V)) {
	var none V
	for _, l := range t.lists {
		if l == nil {
			continue
		}
		for _, buckets := range l {
			if buckets == nil {
				continue
			}
			for i := range buckets {
				for it := &buckets[i]; it != nil && it.value != none; it = it.next {
					f(it.hash, it.value)
				}
			}
		}
	}
}

// An edit makes a new table from an old one, which it leaves as it is. It costs nothing until the
// first change.
type edit[V comparable] struct {
	old *table[V]
	now *table[V]                                // nil: the old one
	own map[*[width]*[width]item[V]]*[width]bool // what of now is not the old one's
}

func editOf[V comparable](t *table[V]) *edit[V] { return &edit[V]{old: t} }

// done returns the new table, the old one itself if nothing changed.
func (e *edit[V]) done() *table[V] {
	if e.now == nil {
		return e.old
	}
	return e.now
}

// start makes the new table: the old one's lists, at least so many.
func (e *edit[V]) start(lists int) {
	if e.now == nil {
		e.now, e.own = &table[V]{count: e.old.count}, map[*[width]*[width]item[V]]*[width]bool{}
		e.now.lists = append(make([]*[width]*[width]item[V], 0, max(lists, len(e.old.lists))), e.old.lists...)
	}
	if len(e.now.lists) >= lists {
		return
	}
	wider := edit[V]{now: &table[V]{lists: make([]*[width]*[width]item[V], lists)}, own: e.own}
	clear(e.own)
	e.now.items(wider.put)
	wider.now.count, e.now = e.now.count, wider.now
}

// mine returns the bucket of a hash, to be changed.
func (e *edit[V]) mine(hash uint64) *item[V] {
	outer, inner, bucket := place(hash, len(e.now.lists))
	l := e.now.lists[outer]
	own := e.own[l]
	if own == nil {
		fresh := new([width]*[width]item[V])
		if l != nil {
			*fresh = *l
		}
		own = new([width]bool)
		l, e.now.lists[outer], e.own[fresh] = fresh, fresh, own
	}
	if !own[inner] {
		fresh := new([width]item[V])
		if l[inner] != nil {
			*fresh = *l[inner]
		}
		l[inner], own[inner] = fresh, true
	}
	return &l[inner][bucket]
}

func (e *edit[V]) put(hash uint64, v V) {
	var none V
	b := e.mine(hash)
	first := item[V]{hash: hash, value: v}
	if b.value != none {
		rest := *b
		first.next = &rest
	}
	*b = first
}

func (e *edit[V]) add(hash uint64, v V) {
	t := e.done()
	lists := max(1, len(t.lists))
	if t.count >= lists*width*width {
		lists *= 2
	}
	e.start(lists)
	e.put(hash, v)
	e.now.count++
}

// remove removes a value that is there.
func (e *edit[V]) remove(hash uint64, v V) {
	e.start(1)
	b := e.mine(hash)
	rest := b.without(hash, v)
	if rest == nil {
		rest = &item[V]{}
	}
	*b = *rest
	e.now.count--
}
