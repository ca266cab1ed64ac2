package zone

import (
	"net/netip"

	"github.com/fairway-lb/fairway/dns/wire"
)

// leadsAway reports whether the target of a Service can be one: an address is no name.
func leadsAway(target string) bool {
	if target == "" {
		return false
	}
	_, err := netip.ParseAddr(target)
	return err != nil
}

// external answers a name that stands for another one. The target of addresses is looked up on the
// slow path.
func (c *call) external(target string) (int, outcome) {
	switch c.q.Type {
	case wire.TypeA, wire.TypeAAAA:
		return 0, chase
	case wire.TypeCNAME:
		return c.cname(target)
	}
	return c.noData()
}

func (c *call) cname(target string) (int, outcome) {
	name, err := wire.AppendName(nil, target)
	if err != nil {
		return c.missing()
	}
	b := c.begin()
	if _, ok := b.Target(wire.Answer, wire.Asked, wire.TypeCNAME, c.z.ttl.address, nil, wire.Name{Labels: name}); !ok {
		b.Truncate()
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// targets answers for endpoints of which some are names.
func (c *call) targets(e *entry, list []ref) (int, outcome) {
	if c.q.Type != wire.TypeCNAME {
		return 0, chase
	}
	for _, r := range list {
		if s := e.slice(r); s.Width == 0 && c.f.ports(portsOf(s)) > 0 && c.here(s, r.i) {
			return c.cname(s.Targets[r.i])
		}
	}
	return c.noData()
}
