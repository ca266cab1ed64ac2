package plugin

import (
	"github.com/fairway-lb/fairway/dns/wire"
)

// A Passer can tell, in little time and without allocation, that its plugin has nothing to do with
// a query: it would hand it to the next plugin as it is, and leave the reply alone unless that is an
// error. Then the query need not go through the plugin at all. False says nothing. Queries are of
// class IN. Passes is safe for concurrent use.
type Passer interface {
	Passes(q *wire.Query) bool
}

// A ZoneSet is a set of zones that queries are looked up in, without their names being unpacked.
type ZoneSet struct {
	zones map[string]bool // by name in wire format and lower case
	most  int             // labels of the longest
}

// NewZoneSet makes a ZoneSet. What is no name holds nothing.
func NewZoneSet(zones []string) ZoneSet {
	s := ZoneSet{zones: map[string]bool{}}
	for _, z := range zones {
		name, err := wire.AppendName(nil, Canonical(z))
		if err != nil {
			continue
		}
		s.zones[string(name)] = true
		labels := 0
		for at := 0; name[at] != 0; at += 1 + int(name[at]) {
			labels++
		}
		s.most = max(s.most, labels)
	}
	return s
}

// Holds reports whether the name of a query is in one of the zones or below it.
func (s ZoneSet) Holds(q *wire.Query) bool {
	if len(s.zones) == 0 {
		return false
	}
	for skip := max(0, q.Labels()-s.most); skip <= q.Labels(); skip++ {
		if s.zones[string(q.Suffix(skip))] {
			return true
		}
	}
	return false
}
