package resolve

import "slices"

// An edit is the new value for a key; nil if there is none any more.
type edit[K, V any] struct {
	key   K
	value *V
}

// splice returns list with the edits applied. Both are sorted by key, compare orders a value
// against a key. If the edits change nothing, it returns list itself, else a new slice: list is
// part of a snapshot and stays as it is.
func splice[K, V any](list []*V, edits []edit[K, V], compare func(*V, K) int) []*V {
	type change struct {
		at    int // index in list
		found bool
		value *V
	}
	changes := make([]change, 0, len(edits))
	grow, from := 0, 0
	for _, e := range edits {
		i, found := slices.BinarySearchFunc(list[from:], e.key, compare)
		from += i
		switch {
		case found && list[from] == e.value, !found && e.value == nil:
			continue
		case !found:
			grow++
		case e.value == nil:
			grow--
		}
		changes = append(changes, change{from, found, e.value})
	}
	if len(changes) == 0 {
		return list
	}
	if len(list)+grow == 0 {
		return nil
	}
	out := make([]*V, 0, len(list)+grow)
	done := 0
	for _, c := range changes {
		out = append(out, list[done:c.at]...)
		done = c.at
		if c.value != nil {
			out = append(out, c.value)
		}
		if c.found {
			done++
		}
	}
	return append(out, list[done:]...)
}
