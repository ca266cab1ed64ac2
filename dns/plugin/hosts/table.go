package hosts

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// A table is the names of one source. It is not changed once it is made.
type table struct {
	names map[string]addresses    // lower case, final dot; wildcards as they are written
	addrs map[netip.Addr][]string // for PTR

	// The same in wire format, for what has nothing to do with any of it.
	wire map[string]bool // names, reverse names, and the names behind the * of wildcards
}

// addresses are those of one name, in the order of the file.
type addresses struct {
	v4, v6 []netip.Addr
}

// read makes a table of a hosts file. A line may be of any length. Lines that make no sense are passed over, as hosts(5) has it,
// and so are names outside of the zones.
func read(data []byte, zones []string, reverse bool) *table {
	t := &table{names: map[string]addresses{}, addrs: map[netip.Addr][]string{}, wire: map[string]bool{}}
	for line := range bytes.Lines(data) {
		line, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		addr = addr.WithZone("").Unmap()
		for _, f := range fields[1:] {
			t.add(plugin.Canonical(f), addr, zones, reverse)
		}
	}
	return t
}

func (t *table) add(name string, addr netip.Addr, zones []string, reverse bool) {
	if _, ok := dnswire.IsDomainName(name); !ok || plugin.Longest(zones, name) == "" {
		return
	}
	a := t.names[name]
	if addr.Is4() {
		a.v4 = once(a.v4, addr)
	} else {
		a.v6 = once(a.v6, addr)
	}
	t.names[name] = a
	t.mark(strings.TrimPrefix(name, "*."))
	if reverse && !strings.HasPrefix(name, "*.") {
		t.addrs[addr] = once(t.addrs[addr], name)
		if back, err := dnswire.ReverseAddr(addr.String()); err == nil {
			t.mark(back)
		}
	}
}

// mark adds a name to wire.
func (t *table) mark(name string) {
	if b, err := wire.AppendName(nil, name); err == nil {
		t.wire[string(b)] = true
	}
}

// knows reports whether the table may have something for a query.
func (t *table) knows(q *wire.Query) bool {
	return t.wire[string(q.Name())] || q.Labels() > 0 && t.wire[string(q.Suffix(1))]
}

// once appends what is not there yet: a set of records has no record twice.
func once[T comparable](list []T, item T) []T {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// of returns the addresses of a name in one family: its own, else those of the wildcard beside it.
func (t *table) of(name string, v4 bool) []netip.Addr {
	pick := func(a addresses) []netip.Addr {
		if v4 {
			return a.v4
		}
		return a.v6
	}
	if own := pick(t.names[name]); own != nil {
		return own
	}
	next, end := dnswire.NextLabel(name, 0)
	if end {
		return nil
	}
	return pick(t.names["*."+name[next:]])
}

// size is the number of entries: addresses of names, and names of addresses.
func (t *table) size() (n int) {
	for _, a := range t.names {
		n += len(a.v4) + len(a.v6)
	}
	for _, names := range t.addrs {
		n += len(names)
	}
	return n
}
