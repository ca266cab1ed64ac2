package zone

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A table holds what was added and not removed, whatever the hashes are, and a table that was
// changed stays as it was.
func TestTable(t *testing.T) {
	type value struct{ hash, n uint64 }
	contents := func(t *table[*value]) (all []value) {
		t.all(func(v *value) { all = append(all, *v) })
		slices.SortFunc(all, func(a, b value) int { return int(a.n) - int(b.n) })
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		// Few hashes: many are equal, or in one bucket.
		hash := rapid.Custom(func(t *rapid.T) uint64 {
			return rapid.Uint64Range(0, 3).Draw(t, "bits")<<20 | rapid.Uint64Range(0, 500).Draw(t, "bucket")
		})
		now, n := &table[*value]{}, uint64(0)
		var want []*value
		if rapid.Bool().Draw(t, "full") { // the next grows it
			e := editOf(now)
			for ; n < width*width; n++ {
				v := &value{n, n}
				e.add(v.hash, v)
				want = append(want, v)
			}
			now = e.done()
		}
		for range rapid.IntRange(1, 4).Draw(t, "edits") {
			before, edit := contents(now), editOf(now)
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				for range rapid.SampledFrom([]int{1, 1, 40}).Draw(t, "adds") {
					v := &value{hash.Draw(t, "hash"), n}
					n++
					edit.add(v.hash, v)
					want = append(want, v)
				}
				for range rapid.IntRange(0, 2).Draw(t, "removes") {
					if len(want) > 0 {
						at := rapid.IntRange(0, len(want)-1).Draw(t, "at")
						edit.remove(want[at].hash, want[at])
						want = slices.Delete(want, at, at+1)
					}
				}
			}
			if diff := cmp.Diff(before, contents(now), cmp.AllowUnexported(value{})); diff != "" {
				t.Fatalf("the old table changed: %s", diff)
			}
			now = edit.done()
		}
		var values []value
		for _, v := range want {
			values = append(values, *v)
		}
		slices.SortFunc(values, func(a, b value) int { return int(a.n) - int(b.n) })
		if diff := cmp.Diff(values, contents(now), cmp.AllowUnexported(value{})); diff != "" || now.count != len(want) {
			t.Fatalf("%d values, want %d (-want +got):\n%s", now.count, len(want), diff)
		}
		for _, v := range want {
			found := 0
			for it := now.find(v.hash); it != nil; it = it.more() {
				if it.value.hash != v.hash {
					t.Fatalf("found %v for the hash %x", it.value, v.hash)
				}
				if it.value == v {
					found++
				}
			}
			if found != 1 {
				t.Fatalf("%v was found %d times", v, found)
			}
		}
		if it := now.find(1 << 40); it != nil {
			t.Fatalf("found %v for a hash that nobody has", it.value)
		}
	})
}

// What most queries read is in two lines of the cache.
func TestEntryIsTwoLines(t *testing.T) {
	if size := unsafe.Sizeof(entry{}); size != 128 {
		t.Errorf("%d bytes", size)
	}
}
