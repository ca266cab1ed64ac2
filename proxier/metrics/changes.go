package metrics

import (
	"slices"

	"github.com/fairway-lb/fairway/proxier"
)

// changes counts the Services that came, went or changed between two snapshots of one producer,
// those of which only the endpoints changed, and how many endpoints all have more than before. Old
// may be nil.
func changes(old, now *proxier.Snapshot) (services, endpoints, more int) {
	var a []*proxier.Service
	if old != nil {
		a = old.Services
	}
	b := now.Services
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0].NamespacedName); {
		case a[0] == b[0]:
			a, b = a[1:], b[1:]
		case c < 0:
			services, more, a = services+1, more-countEndpoints(a[0]), a[1:]
		case c > 0:
			services, more, b = services+1, more+countEndpoints(b[0]), b[1:]
		default:
			more += countEndpoints(b[0]) - countEndpoints(a[0])
			if sameEndpoints(a[0], b[0]) {
				services++
			} else {
				endpoints++
			}
			a, b = a[1:], b[1:]
		}
	}
	return services + len(a) + len(b), endpoints, more + countEndpoints(b...) - countEndpoints(a...)
}

// countEndpoints returns the number of endpoints of all ports.
func countEndpoints(list ...*proxier.Service) int {
	n := 0
	for _, s := range list {
		for i := range s.Ports {
			n += len(s.Ports[i].Endpoints)
		}
	}
	return n
}

// sameEndpoints reports whether two states of one Service have the same endpoints.
func sameEndpoints(a, b *proxier.Service) bool {
	return slices.EqualFunc(a.Ports, b.Ports, func(p, q proxier.ServicePort) bool {
		return slices.EqualFunc(p.Endpoints, q.Endpoints, func(x, y *proxier.Endpoint) bool {
			return x == y || *x == *y
		})
	})
}
