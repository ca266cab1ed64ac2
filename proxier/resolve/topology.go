package resolve

import "github.com/fairway-lb/fairway/proxier"

// A hint is what the hints of an endpoint for nodes, or for zones, mean to this node.
type hint uint8

const (
	noHint    hint = iota // there are none
	elsewhere             // this node, or zone, is not among them
	here                  // it is
)

// with adds one more name that the endpoint is hinted for.
func (h hint) with(name, own string) hint {
	if h == here || (name == own && own != "") {
		return here
	}
	return elsewhere
}

// usable returns the candidates of one family that proxies use at all, and apart from them those
// that stand in for all of them.
func usable(list []candidate, v6 bool) (out, standIns []candidate) {
	for _, c := range list {
		switch {
		case c.hidden || c.Addr.Is6() != v6:
		case c.standIn:
			standIns = append(standIns, c)
		default:
			out = append(out, c)
		}
	}
	return out, standIns
}

// everywhere returns the endpoints that serve a connection that may leave the node: the ready
// ones, narrowed by hints (KEP-2433, KEP-4444); if no endpoint is ready, the terminating ones
// that still serve (KEP-1669), without regard to hints (S-30, S-40).
func everywhere(list []candidate) []*proxier.Endpoint {
	var nodes, zones hintTally
	for _, c := range list {
		if c.Ready {
			nodes.add(c.forNode)
			zones.add(c.forZone)
		}
	}
	byNode, byZone := nodes.decides(), !nodes.decides() && zones.decides()
	out := pick(list, func(c candidate) bool {
		return c.Ready && (!byNode || c.forNode == here) && (!byZone || c.forZone == here)
	})
	if len(out) == 0 {
		out = pick(list, lastResort)
	}
	return out
}

// onThisNode returns the endpoints that serve a connection that must not leave the node: the
// local ready ones, or if there are none, the local terminating ones that still serve. Ready
// endpoints elsewhere do not matter, nor do hints (S-31).
func onThisNode(list []candidate) []*proxier.Endpoint {
	out := pick(list, func(c candidate) bool { return c.Local && c.Ready })
	if len(out) == 0 {
		out = pick(list, func(c candidate) bool { return c.Local && lastResort(c) })
	}
	return out
}

// lastResort reports whether an endpoint is used if no ready one is there.
func lastResort(c candidate) bool { return c.Serving && c.Terminating }

// A hintTally tells whether hints of one level decide: every ready endpoint must have some, and
// one must be for this node or zone. A single endpoint without hints switches the level off, so
// that traffic is never concentrated on the few that have them.
type hintTally struct{ missing, here bool }

func (t *hintTally) add(h hint) {
	t.missing = t.missing || h == noHint
	t.here = t.here || h == here
}

func (t *hintTally) decides() bool { return t.here && !t.missing }

func pick(list []candidate, want func(candidate) bool) []*proxier.Endpoint {
	var out []*proxier.Endpoint
	for _, c := range list {
		if want(c) {
			out = append(out, c.Endpoint)
		}
	}
	return out
}
