package proxier

import "iter"

// Diff yields the frontends that differ between two snapshots: (old, nil) for one that is gone,
// (nil, new) for one that came, (old, new) for one that changed. It compares pointers, so it is
// exact for snapshots of one producer and merely generous for others. Either may be nil.
//
// Diff does not look at Node: what a backend derives from it, it compares itself.
func Diff(old, now *Snapshot) iter.Seq2[*Frontend, *Frontend] {
	return func(yield func(*Frontend, *Frontend) bool) {
		var a, b []*Frontend
		if old != nil {
			a = old.Frontends
		}
		if now != nil {
			b = now.Frontends
		}
		for {
			same := 0 // mostly thousands
			for same < min(len(a), len(b)) && a[same] == b[same] {
				same++
			}
			a, b = a[same:], b[same:]
			var x, y *Frontend
			switch {
			case len(a)+len(b) == 0:
				return
			case len(b) == 0:
				x, a = a[0], a[1:]
			case len(a) == 0:
				y, b = b[0], b[1:]
			default:
				switch c := a[0].Compare(b[0].FrontendKey); {
				case c < 0:
					x, a = a[0], a[1:]
				case c > 0:
					y, b = b[0], b[1:]
				default:
					x, y, a, b = a[0], b[0], a[1:], b[1:]
				}
			}
			if !yield(x, y) {
				return
			}
		}
	}
}
