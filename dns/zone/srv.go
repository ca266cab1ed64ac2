package zone

import (
	"encoding/binary"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// An srvWriter writes the SRV records of endpoints, and then their addresses.
type srvWriter struct {
	c       *call
	e       *entry
	b       wire.Builder
	service wire.Name
	weight  uint16
	start   int // offset of the first record
	ports   [64]int32
	label   [64 + 64 + wire.MaxName]byte
}

// minSRV is the least that an SRV record takes: pointers for names, and a label of one letter.
const minSRV = 2 + 10 + 6 + 4

// endpointSRV answers with a record for each endpoint and port; pairs counts them, also those that
// are left out because they occur twice or have no number.
func (c *call) endpointSRV(e *entry, list []ref, pairs int) (int, outcome) {
	w := srvWriter{c: c, e: e, b: c.begin(), weight: weight(pairs), service: c.serviceName()}
	w.start = w.b.Len()
	first := w.first(list)
	whole := w.records(list, first)
	if whole && w.b.Len() == w.start {
		return c.noData()
	}
	if !whole || !w.addresses(list, first) {
		w.b.Truncate()
	}
	return w.b.Finish(wire.FlagAA, wire.Success), answered
}

// first returns where to begin: anywhere if there are more than fit, at the beginning of a label.
func (w *srvWriter) first(list []ref) int {
	first := w.c.start(len(list), w.b.Room()/minSRV)
	for first > 0 && w.e.sameLabel(list[first-1], list[first]) {
		first--
	}
	return first
}

// records writes the records of a list, from first on and around, and reports whether all fit.
func (w *srvWriter) records(list []ref, first int) bool {
	for part := range 2 {
		from, to := first, len(list)
		if part == 1 {
			from, to = 0, first
		}
		for from < to {
			n := w.group(list[from:to])
			if !w.recordsOf(list[from : from+n]) {
				return false
			}
			from += n
		}
	}
	return true
}

// group returns how many endpoints a list begins with that have the label of its first.
func (w *srvWriter) group(list []ref) int {
	n := 1
	for n < len(list) && w.e.sameLabel(list[0], list[n]) {
		n++
	}
	return n
}

// recordsOf writes the records of one label.
func (w *srvWriter) recordsOf(group []ref) bool {
	name, ok := w.target(group[0])
	if !ok {
		return true
	}
	for _, port := range w.numbers(group) {
		data := srvData(w.weight, port)
		at, ok := w.b.Target(wire.Answer, wire.Asked, wire.TypeSRV, w.c.z.ttl.address, data[:], name)
		if !ok {
			return false
		}
		if before, near := wire.At(at); near {
			name = before // for the other ports
		}
	}
	return true
}

// numbers returns the numbers of the ports that endpoints of one label have, each once.
func (w *srvWriter) numbers(group []ref) []int32 {
	n := 0
	var last *names.Slice
	for _, r := range group {
		s := w.e.slice(r)
		if s == last || s.Width == 0 || !w.c.here(s, r.i) {
			continue
		}
		last = s
	ports:
		for i := range s.Ports {
			p := &s.Ports[i]
			if p.Number == names.NoPort || !w.c.f.match(p) || n == len(w.ports) {
				continue
			}
			for _, old := range w.ports[:n] {
				if old == p.Number {
					continue ports
				}
			}
			w.ports[n] = p.Number
			n++
		}
	}
	return w.ports[:n]
}

// target returns the name of an endpoint.
func (w *srvWriter) target(r ref) (wire.Name, bool) {
	b := w.e.label(w.label[:0], r)
	if len(b) == 0 {
		return wire.Name{}, false
	}
	if cluster := w.e.cluster(r); cluster != "" {
		b = append(append(b, byte(len(cluster))), cluster...)
	}
	name := w.service
	name.Labels = append(b, w.service.Labels...)
	return name, true
}

// addresses writes the addresses that the records lead to, in their order.
func (w *srvWriter) addresses(list []ref, first int) bool {
	at := w.start
	for part := range 2 {
		from, to := first, len(list)
		if part == 1 {
			from, to = 0, first
		}
		for from < to {
			n := w.group(list[from:to])
			group := list[from : from+n]
			from += n
			if _, ok := w.target(group[0]); !ok {
				continue
			}
			records := len(w.numbers(group))
			if records == 0 {
				continue
			}
			const target = 2 + 10 + 6 // before the name, in a record whose owner is a pointer
			owner, near := wire.At(at + target)
			if !near {
				owner, _ = w.target(group[0])
			}
			for range records {
				at += 2 + 10 + int(binary.BigEndian.Uint16(w.c.out[at+10:]))
			}
			if !w.addressesOf(group, owner) {
				return false
			}
		}
	}
	return true
}

// addressesOf writes the addresses of one label, each once.
func (w *srvWriter) addressesOf(group []ref, owner wire.Name) bool {
	last := -1
	for i, r := range group {
		s := w.e.slice(r)
		if s.Width == 0 || !w.numbered(s) || !w.c.here(s, r.i) || last >= 0 && w.e.byAddress(group[last], r) == 0 {
			continue
		}
		last = i
		if !w.c.additional(&w.b, owner, s.Addr(int(r.i))) {
			return false
		}
	}
	return true
}

// numbered reports whether a slice has a port that makes a record.
func (w *srvWriter) numbered(s *names.Slice) bool {
	for i := range s.Ports {
		if p := &s.Ports[i]; p.Number != names.NoPort && w.c.f.match(p) {
			return true
		}
	}
	return false
}
