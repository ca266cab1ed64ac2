package resolve

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// internalPolicy reports whether connections to cluster IPs stay on this node (S-37).
func (b *builder) internalPolicy() bool {
	p := b.spec.InternalTrafficPolicy
	if p == nil {
		return false
	}
	switch *p {
	case "", corev1.ServiceInternalTrafficPolicyCluster:
		return false
	case corev1.ServiceInternalTrafficPolicyLocal:
		return true
	}
	b.invalid("spec.internalTrafficPolicy", *p, corev1.ServiceInternalTrafficPolicyCluster)
	return false
}

// externalPolicy reports whether connections of outside clients to any address but a cluster IP
// stay on this node (S-38).
func (b *builder) externalPolicy() bool {
	switch p := b.spec.ExternalTrafficPolicy; p {
	case "", corev1.ServiceExternalTrafficPolicyCluster:
		return false
	case corev1.ServiceExternalTrafficPolicyLocal:
		return true
	default:
		b.invalid("spec.externalTrafficPolicy", p, corev1.ServiceExternalTrafficPolicyCluster)
		return false
	}
}

// A router makes the routes of one service port in one family.
type router struct {
	owner         proxier.ServicePortName
	list          []candidate // usable ones of the family
	standIns      []candidate // servers that stand in for list while they are there
	tellsPods     bool
	masqueradeAll bool
	internalLocal bool
	externalLocal bool
	pools         [proxier.Scopes]*proxier.Pool // by scope; nil until asked for
	oldPools      map[poolKey]*proxier.Pool
}

type poolKey struct {
	owner proxier.ServicePortName
	v6    bool
	scope proxier.Scope
}

// pool returns the pool of a scope, made on first use. An equal pool of before is taken over.
func (r *router) pool(v6 bool, scope proxier.Scope) *proxier.Pool {
	if r.pools[scope] != nil {
		return r.pools[scope]
	}
	p := proxier.Pool{Owner: r.owner, Scope: scope}
	switch scope {
	case proxier.StandsIn:
		p.Endpoints = everywhere(r.standIns)
	case proxier.ThisNode:
		p.Endpoints = onThisNode(r.list)
		// A client must not be refused here if another node would have served it: it waits
		// for its load balancer to turn elsewhere (S-39b).
		if slices.ContainsFunc(r.list, func(c candidate) bool { return c.Ready || lastResort(c) }) {
			p.Empty = proxier.Drop
		}
	default:
		p.Endpoints = everywhere(r.list)
	}
	if old := r.oldPools[poolKey{r.owner, v6, scope}]; old != nil && old.Empty == p.Empty && slices.Equal(old.Endpoints, p.Endpoints) {
		r.pools[scope] = old
	} else {
		r.pools[scope] = &p
	}
	return r.pools[scope]
}

// internal returns the pool of connections to cluster IPs.
func (r *router) internal(v6 bool) *proxier.Pool {
	if r.internalLocal {
		return r.pool(v6, proxier.ThisNode)
	}
	return r.pool(v6, proxier.Everywhere)
}

// divert lets standIns take connections to cluster IPs for as long as they are there. If nobody else
// could take them, they are the endpoints.
func (r *router) divert(v6 bool, standIns []candidate) {
	switch {
	case len(standIns) == 0:
	case len(r.internal(v6).Endpoints) > 0:
		r.standIns = standIns
	default:
		r.list, r.pools = standIns, [proxier.Scopes]*proxier.Pool{}
	}
}

// standIn returns the pool that takes connections in place of those in routes, nil for none. Who
// comes by another address than a cluster IP may be a stranger, whom such a server does not know.
func (r *router) standIn(v6 bool, kind proxier.Kind) *proxier.Pool {
	if len(r.standIns) == 0 || kind != proxier.ClusterIP {
		return nil
	}
	return r.pool(v6, proxier.StandsIn)
}

// routes is the matrix of who reaches what, and under which address, for each kind of frontend.
func (r *router) routes(v6 bool, kind proxier.Kind) [proxier.Origins]proxier.Route {
	if kind == proxier.ClusterIP {
		pool := r.internal(v6)
		// Replies must come back through this node if it is not certain that the client's
		// own route does. A pod's does; without a way to tell pods, everyone is taken for one.
		away := r.masqueradeAll || r.tellsPods
		return [proxier.Origins]proxier.Route{
			proxier.FromPod:     {Pool: pool, Masquerade: r.masqueradeAll},
			proxier.FromNode:    {Pool: pool, Masquerade: away},
			proxier.FromOutside: {Pool: pool, Masquerade: away},
		}
	}
	all := r.pool(v6, proxier.Everywhere)
	if !r.externalLocal {
		masqueraded := proxier.Route{Pool: all, Masquerade: true}
		return [proxier.Origins]proxier.Route{masqueraded, masqueraded, masqueraded}
	}
	// Outside clients keep their address and reach this node's endpoints only. Pods and the
	// node itself need not go around by a load balancer: they may use all endpoints.
	outside := proxier.Route{Pool: r.pool(v6, proxier.ThisNode)}
	pod := outside
	if r.tellsPods {
		pod = proxier.Route{Pool: all}
	}
	return [proxier.Origins]proxier.Route{
		proxier.FromPod:     pod,
		proxier.FromNode:    {Pool: all, Masquerade: true},
		proxier.FromOutside: outside,
	}
}
