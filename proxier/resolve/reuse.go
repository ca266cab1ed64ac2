package resolve

import (
	"slices"

	"github.com/fairway-lb/fairway/proxier"
)

// poolsOf returns the pools that frontends use, by name.
func poolsOf(frontends []*proxier.Frontend) map[poolKey]*proxier.Pool {
	out := map[poolKey]*proxier.Pool{}
	for _, f := range frontends {
		for _, r := range f.From {
			out[poolKey{f.Owner, f.Addr.Is6(), r.Pool.Scope}] = r.Pool
		}
		if p := f.StandIn; p != nil {
			out[poolKey{f.Owner, f.Addr.Is6(), p.Scope}] = p
		}
	}
	return out
}

// reuseFrontends returns now with every frontend that equals one of old replaced by it. Both are
// sorted. If all are, it returns old itself.
func reuseFrontends(old, now []*proxier.Frontend) []*proxier.Frontend {
	rest := old
	for i, f := range now {
		for len(rest) > 0 && rest[0].Compare(f.FrontendKey) < 0 {
			rest = rest[1:]
		}
		if len(rest) > 0 && equalFrontend(rest[0], f) {
			now[i] = rest[0]
		}
	}
	if slices.Equal(old, now) {
		return old
	}
	return now
}

func equalFrontend(a, b *proxier.Frontend) bool {
	return a.FrontendKey == b.FrontendKey && a.Kind == b.Kind && a.Owner == b.Owner &&
		slices.Equal(a.Sources, b.Sources) && a.From == b.From && a.StandIn == b.StandIn &&
		a.Affinity == b.Affinity && a.Balance == b.Balance
}

// reuseService returns old if it equals now, else now.
func reuseService(old, now *proxier.Service) *proxier.Service {
	if old == nil || !equalService(old, now) {
		return now
	}
	return old
}

func equalService(a, b *proxier.Service) bool {
	return a.NamespacedName == b.NamespacedName && a.Type == b.Type &&
		slices.Equal(a.ClusterIPs, b.ClusterIPs) && slices.Equal(a.ExternalIPs, b.ExternalIPs) &&
		slices.Equal(a.LoadBalancer, b.LoadBalancer) && a.Headless == b.Headless &&
		a.ExternalName == b.ExternalName && a.PublishNotReady == b.PublishNotReady &&
		a.Affinity == b.Affinity && slices.EqualFunc(a.Ports, b.Ports, equalPort) &&
		a.HealthCheckPort == b.HealthCheckPort && a.LocalReady == b.LocalReady && a.Ignored == b.Ignored
}

func equalPort(a, b proxier.ServicePort) bool {
	return a.Name == b.Name && a.Protocol == b.Protocol && a.Port == b.Port && a.NodePort == b.NodePort &&
		slices.Equal(a.Endpoints, b.Endpoints)
}
