package zone

import (
	"net/netip"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// A server is a name and an address of this very server: of a Service that leads to it.
type server struct {
	name string // the labels before svc, in wire format; "": none, then it is ns.dns
	addr netip.Addr
}

// servers returns the names of the Services that have one of this server's own addresses for an
// endpoint. Without any, the server is ns.dns at its own addresses. NS is asked rarely enough to
// allocate for it.
func (c *call) servers() (out []server) {
	local := c.z.opts.Local()
	found := false
	for _, a := range local {
		for it := c.x.reverse.find(hashAddr(a)); it != nil; it = it.more() {
			e := find(c.x.entries, it.value.name)
			if e == nil || len(e.at(a)) == 0 {
				continue
			}
			found = true
			switch e.svc.Kind {
			case names.ClusterIP:
				for _, ip := range e.svc.IPs {
					out = append(out, server{string(e.key.name), ip})
				}
			case names.Headless:
				for _, r := range e.order {
					label := e.label(nil, r)
					if ip := e.slice(r).Addr(int(r.i)); ip.IsValid() && len(label) > 0 {
						out = append(out, server{string(label) + string(e.key.name), ip})
					}
				}
			}
		}
	}
	if found {
		return out
	}
	for _, a := range local {
		out = append(out, server{addr: a})
	}
	return out
}

// under returns a name of a server: in the zone that is asked for, but for reverse zones, in which
// no Service has a name.
func (c *call) under(s server) wire.Name {
	zone := c.q.Tail(c.skip)
	if len(s.name) == 0 {
		zone.Labels = soaPrimary
		return zone
	}
	b := append(append([]byte(s.name), 3), labelSvc...)
	if c.apex.reverse {
		return wire.Name{Labels: append(b, c.z.primary...)}
	}
	zone.Labels = b
	return zone
}

// nameServers answers NS at the name of the zone.
func (c *call) nameServers() (int, outcome) {
	list := c.servers()
	if len(list) == 0 {
		return c.noData()
	}
	b := c.begin()
	written := map[string]wire.Name{}
	whole := true
	for _, s := range list {
		if _, twice := written[s.name]; twice {
			continue
		}
		target := c.under(s)
		at, ok := b.Target(wire.Answer, wire.Asked, wire.TypeNS, c.z.ttl.address, nil, target)
		if owner, near := wire.At(at); ok && near {
			target = owner
		}
		written[s.name] = target
		whole = whole && ok
	}
	glued := map[server]bool{}
	for _, s := range list {
		if whole && !glued[s] {
			glued[s] = true
			whole = c.additional(&b, written[s.name], s.addr)
		}
	}
	if !whole {
		b.Truncate()
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// serverAddresses answers ns.dns, which is this server.
func (c *call) serverAddresses() (int, outcome) {
	b := c.begin()
	at := b.Len()
	seen := map[netip.Addr]bool{}
	for _, s := range c.servers() {
		if seen[s.addr] {
			continue
		}
		seen[s.addr] = true
		ok := true
		switch {
		case c.q.Type == wire.TypeA && s.addr.Is4():
			ok = b.Record(wire.Answer, wire.Asked, wire.TypeA, c.z.ttl.address, s.addr.AsSlice())
		case c.q.Type == wire.TypeAAAA && s.addr.Is6():
			ok = b.Record(wire.Answer, wire.Asked, wire.TypeAAAA, c.z.ttl.address, s.addr.AsSlice())
		}
		if !ok {
			b.Truncate()
		}
	}
	if b.Len() == at {
		return c.noData()
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}
