package names

import (
	"iter"
	"slices"
)

// An Ordered value has a place in a List. Values of one place are one thing at two moments.
type Ordered[T any] interface {
	comparable
	Order(T) int
}

// A List is a sorted list that never changes: Put and Delete return another one, which shares with
// it all but a part of limited size. So a change among 10,000 costs little, and [Diff] finds it
// quickly. The zero List is empty.
type List[T Ordered[T]] struct {
	chunks [][]T // none of them empty
}

// chunk is how many elements a part of a List has at most. A part that grows beyond is cut in two.
const chunk = 128

// ListOf returns a List of values that are sorted and of which each has a place of its own.
func ListOf[T Ordered[T]](sorted ...T) List[T] {
	var l List[T]
	for part := range slices.Chunk(sorted, chunk/2) {
		l.chunks = append(l.chunks, slices.Clip(part))
	}
	return l
}

// Len returns how many values there are.
func (l List[T]) Len() (n int) {
	for _, c := range l.chunks {
		n += len(c)
	}
	return n
}

// All returns the values in their order.
func (l List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, c := range l.chunks {
			for _, x := range c {
				if !yield(x) {
					return
				}
			}
		}
	}
}

// Get returns what is in the place of x, and whether there is something.
func (l List[T]) Get(x T) (T, bool) {
	var none T
	at, found := slices.BinarySearchFunc(l.chunks, x, func(c []T, x T) int { return c[0].Order(x) })
	if !found && at == 0 {
		return none, false
	}
	if !found {
		at--
	}
	i, there := slices.BinarySearchFunc(l.chunks[at], x, T.Order)
	if !there {
		return none, false
	}
	return l.chunks[at][i], true
}

// Put returns the list with x in its place.
func (l List[T]) Put(x T) List[T] { return l.edit(x, true) }

// Delete returns the list without what is in the place of x.
func (l List[T]) Delete(x T) List[T] { return l.edit(x, false) }

func (l List[T]) edit(x T, put bool) List[T] {
	at, found := slices.BinarySearchFunc(l.chunks, x, func(c []T, x T) int { return c[0].Order(x) })
	if !found && at > 0 {
		at--
	}
	var old []T
	if at < len(l.chunks) {
		old = l.chunks[at]
	}
	i, there := slices.BinarySearchFunc(old, x, T.Order)
	now := make([]T, 0, len(old)+1)
	now = append(now, old[:i]...)
	if put {
		now = append(now, x)
	}
	if there {
		i++
	}
	now = append(now, old[i:]...)

	out := make([][]T, 0, len(l.chunks)+1)
	out = append(out, l.chunks[:at]...)
	switch {
	case len(now) > chunk:
		half := len(now) / 2
		out = append(out, now[:half:half], now[half:])
	case len(now) > 0:
		out = append(out, now)
	}
	if at < len(l.chunks) {
		out = append(out, l.chunks[at+1:]...)
	}
	return List[T]{out}
}

// Diff calls f for each place in which two lists differ, in their order: with what was there, and
// what is there now. The zero value stands for nothing. Parts that the lists share are skipped.
func Diff[T Ordered[T]](was, is List[T], f func(was, is T)) {
	var none T
	a, b := was.chunks, is.chunks
	i, j := 0, 0
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) == 0:
			f(none, b[0][j])
			j++
		case len(b) == 0:
			f(a[0][i], none)
			i++
		case i == 0 && j == 0 && len(a[0]) == len(b[0]) && &a[0][0] == &b[0][0]:
			i, j = len(a[0]), len(b[0])
		case a[0][i] == b[0][j]:
			i, j = i+1, j+1
		default:
			switch c := a[0][i].Order(b[0][j]); {
			case c == 0:
				f(a[0][i], b[0][j])
				i, j = i+1, j+1
			case c < 0:
				f(a[0][i], none)
				i++
			default:
				f(none, b[0][j])
				j++
			}
		}
		if len(a) > 0 && i == len(a[0]) {
			a, i = a[1:], 0
		}
		if len(b) > 0 && j == len(b[0]) {
			b, j = b[1:], 0
		}
	}
}
