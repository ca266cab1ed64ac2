package zone

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sort"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// packed answers with packed address records of one size: all of them, or as many as fit, from a
// random one on.
func (c *call) packed(records []byte, size int) (int, outcome) {
	n := len(records) / size
	if n == 0 {
		return c.noData()
	}
	b := c.begin()
	fit := min(n, b.Room()/size)
	start := 0
	if fit < n {
		b.Truncate()
	}
	if n > 1 && (fit < n || c.z.opts.Rotate) {
		start = rand.IntN(n)
	}
	at := b.Len()
	first := min(fit, n-start)
	b.Add(wire.Answer, records[start*size:(start+first)*size], first)
	b.Add(wire.Answer, records[:(fit-first)*size], fit-first)
	if c.z.opts.Rotate {
		shuffle(c.out[at:b.Len()], size)
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// maxShuffle is up to how many records come in any order; more are only rotated.
const maxShuffle = 16

// shuffle puts address records in a random order, by exchanging their addresses.
func shuffle(records []byte, size int) {
	n := len(records) / size
	if n > maxShuffle {
		return
	}
	const before = lenA - 4
	for i := n - 1; i > 0; i-- {
		j := rand.IntN(i + 1)
		a, b := records[i*size+before:(i+1)*size], records[j*size+before:(j+1)*size]
		if size == lenA {
			x, y := binary.NativeEndian.Uint32(a), binary.NativeEndian.Uint32(b)
			binary.NativeEndian.PutUint32(a, y)
			binary.NativeEndian.PutUint32(b, x)
			continue
		}
		x, y := [16]byte(a), [16]byte(b)
		copy(a, y[:])
		copy(b, x[:])
	}
}

// some answers with those addresses of a list that have a width and match the filter. Equal ones
// stand together in the list.
func (c *call) some(e *entry, list []ref, width int) (int, outcome) {
	typ, size := uint16(wire.TypeA), lenA
	if width == 16 {
		typ, size = wire.TypeAAAA, lenAAAA
	}
	b := c.begin()
	at := b.Len()
	start := c.start(len(list), b.Room()/size)
	for start > 0 && e.byAddress(list[start-1], list[start]) == 0 {
		start--
	}
	whole := true
	for _, part := range [2][]ref{list[start:], list[:start]} {
		var last []byte
		for _, r := range part {
			s := e.slice(r)
			if s.Width != width || c.f.ports(portsOf(s)) == 0 || !c.here(s, r.i) || bytes.Equal(last, s.Bytes(int(r.i))) {
				continue
			}
			last = s.Bytes(int(r.i))
			whole = whole && b.Record(wire.Answer, wire.Asked, typ, c.z.ttl.address, last)
		}
		if !whole {
			b.Truncate()
			break
		}
	}
	if b.Len() == at {
		return c.noData()
	}
	if c.z.opts.Rotate {
		shuffle(c.out[at:b.Len()], size)
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// start returns where to begin in a list of n of which fit can be written.
func (c *call) start(n, fit int) int {
	if n <= fit {
		return 0
	}
	return rand.IntN(n)
}

// find returns the endpoints of one label.
func (e *entry) find(label, cluster []byte) []ref {
	compare := func(r ref) int {
		var buf [maxLabel]byte
		if c := bytes.Compare(e.label(buf[:0], r), label); c != 0 {
			return c
		}
		switch c := e.cluster(r); {
		case c < string(cluster):
			return -1
		case c > string(cluster):
			return 1
		}
		return 0
	}
	low := sort.Search(len(e.order), func(i int) bool { return compare(e.order[i]) >= 0 })
	high := low
	for high < len(e.order) && compare(e.order[high]) == 0 {
		high++
	}
	return e.order[low:high]
}

// weight is the weight of each of n SRV records, as CoreDNS has it.
func weight(n int) uint16 { return uint16(max(1, 100/n)) }

func srvData(weight uint16, port int32) (b [6]byte) {
	binary.BigEndian.PutUint16(b[2:], weight)
	binary.BigEndian.PutUint16(b[4:], uint16(port))
	return b
}

// serviceName is the name of the Service that is asked for: a pointer to the question, if that is
// spelled in lower case. The name of the zone is spelled as in the question anyway.
func (c *call) serviceName() wire.Name {
	rest := c.skip - 3
	lower := c.q.Suffix(rest)
	lower = lower[:len(lower)-len(c.apex.name)]
	question := c.q.Question()
	spelled := question[len(question)-4-len(c.apex.name)-len(lower):]
	if bytes.Equal(spelled[:len(lower)], lower) {
		return c.q.Tail(rest)
	}
	name := c.q.Tail(c.skip)
	name.Labels = lower
	return name
}

// serviceSRV answers with the ports of a Service that has addresses of its own.
func (c *call) serviceSRV(e *entry, ports []names.Port, pairs int) (int, outcome) {
	b := c.begin()
	target, found := c.serviceName(), false
	owner := target
	for i := range ports {
		p := &ports[i]
		if !c.f.match(p) || p.Number == names.NoPort || pairs == 0 || c.twice(ports[:i], p.Number) {
			continue
		}
		data := srvData(weight(pairs), p.Number)
		at, ok := b.Target(wire.Answer, wire.Asked, wire.TypeSRV, c.z.ttl.address, data[:], target)
		if !ok {
			b.Truncate()
			break
		}
		if !found {
			owner, _ = wire.At(at)
		}
		found = true
	}
	if !found {
		return c.noData()
	}
	for _, a := range e.svc.IPs {
		if !c.additional(&b, owner, a) {
			b.Truncate()
			break
		}
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// twice reports whether a port that is asked for has that number.
func (c *call) twice(ports []names.Port, number int32) bool {
	for i := range ports {
		if ports[i].Number == number && c.f.match(&ports[i]) {
			return true
		}
	}
	return false
}

func (c *call) additional(b *wire.Builder, owner wire.Name, a netip.Addr) bool {
	if a.Is4() {
		v := a.As4()
		return b.Record(wire.Additional, owner, wire.TypeA, c.z.ttl.address, v[:])
	}
	v := a.As16()
	return b.Record(wire.Additional, owner, wire.TypeAAAA, c.z.ttl.address, v[:])
}
