package resolve

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/proxier"
)

// An entry is what a Resolver keeps for one Group.
type entry struct {
	group *Group
	*resolved
	final *proxier.Service // service, less what other Services have; nil if service is
}

// A claim is the wish of an entry for a key. Frontend is nil if the port is wanted for load
// balancers' health checks.
type claim struct {
	*entry
	frontend *proxier.Frontend
}

// claims settles which Service gets an address and port that several want. The outcome depends on
// the set of claims alone, not on the order in which they came.
type claims struct {
	byKey map[proxier.FrontendKey][]claim
	// clusterIPs tells whose an address is. Nobody else gets any port of it.
	clusterIPs map[netip.Addr][]*entry
	// external are the keys, of addresses other than cluster IPs and node ports, that are
	// claimed: the ones to settle again when clusterIPs changes.
	external map[netip.Addr]map[proxier.FrontendKey]bool
	// lost are the problems of the claims that lost, by key.
	lost map[proxier.FrontendKey][]proxier.Problem
	// dirty are the keys to settle.
	dirty map[proxier.FrontendKey]bool
}

func newClaims() *claims {
	return &claims{
		byKey:      map[proxier.FrontendKey][]claim{},
		clusterIPs: map[netip.Addr][]*entry{},
		external:   map[netip.Addr]map[proxier.FrontendKey]bool{},
		lost:       map[proxier.FrontendKey][]proxier.Problem{},
		dirty:      map[proxier.FrontendKey]bool{},
	}
}

// healthKeys are the keys that a health check port takes.
func healthKeys(env *environment, s *proxier.Service) []proxier.FrontendKey {
	if s == nil || s.HealthCheckPort == 0 {
		return nil
	}
	var out []proxier.FrontendKey
	for _, v6 := range env.families() {
		out = append(out, proxier.FrontendKey{Addr: unspecified(v6), Port: s.HealthCheckPort, Protocol: proxier.TCP})
	}
	return out
}

// replace exchanges the claims of an entry: those of was for those of now.
func (c *claims) replace(env *environment, e *entry, was, now *resolved) {
	all := !was.created.Equal(now.created) // then every contest may end differently
	a, b := was.frontends, now.frontends
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || (len(a) > 0 && a[0].Compare(b[0].FrontendKey) < 0):
			c.drop(e, a[0].FrontendKey)
			a = a[1:]
		case len(a) == 0 || b[0].Compare(a[0].FrontendKey) < 0:
			c.put(claim{e, b[0]}, b[0].FrontendKey)
			b = b[1:]
		default:
			if a[0] != b[0] || all {
				c.put(claim{e, b[0]}, b[0].FrontendKey)
			}
			a, b = a[1:], b[1:]
		}
	}
	if oldKeys, newKeys := healthKeys(env, was.service), healthKeys(env, now.service); all || !slices.Equal(oldKeys, newKeys) {
		for _, k := range oldKeys {
			if !hasKey(now.frontends, k) {
				c.drop(e, k)
			}
		}
		for _, k := range newKeys {
			c.put(claim{e, nil}, k)
		}
	}
	if !slices.Equal(was.clusterIPs, now.clusterIPs) {
		c.own(e, was.clusterIPs, now.clusterIPs)
	}
}

func hasKey(frontends []*proxier.Frontend, k proxier.FrontendKey) bool {
	_, ok := slices.BinarySearchFunc(frontends, k, func(f *proxier.Frontend, k proxier.FrontendKey) int { return f.Compare(k) })
	return ok
}

// put adds a claim, in place of the one that its entry has for the key.
func (c *claims) put(cl claim, k proxier.FrontendKey) {
	c.dirty[k] = true
	list := c.byKey[k]
	if i := slices.IndexFunc(list, func(o claim) bool { return o.entry == cl.entry }); i >= 0 {
		list[i] = cl
	} else {
		c.byKey[k] = append(list, cl)
	}
	if isExternal(cl) {
		if c.external[k.Addr] == nil {
			c.external[k.Addr] = map[proxier.FrontendKey]bool{}
		}
		c.external[k.Addr][k] = true
	}
}

func (c *claims) drop(e *entry, k proxier.FrontendKey) {
	c.dirty[k] = true
	list := slices.DeleteFunc(c.byKey[k], func(o claim) bool { return o.entry == e })
	if len(list) > 0 {
		c.byKey[k] = list
	} else {
		delete(c.byKey, k)
	}
	if keys := c.external[k.Addr]; keys[k] && !slices.ContainsFunc(list, isExternal) {
		delete(keys, k)
		if len(keys) == 0 {
			delete(c.external, k.Addr)
		}
	}
}

func isExternal(cl claim) bool {
	return cl.frontend != nil && (cl.frontend.Kind == proxier.ExternalIP || cl.frontend.Kind == proxier.LoadBalancer)
}

// own notes that the cluster IPs of e changed.
func (c *claims) own(e *entry, was, now []netip.Addr) {
	for _, a := range was {
		list := slices.DeleteFunc(c.clusterIPs[a], func(o *entry) bool { return o == e })
		if len(list) > 0 {
			c.clusterIPs[a] = list
		} else {
			delete(c.clusterIPs, a)
		}
	}
	for _, a := range now {
		c.clusterIPs[a] = append(c.clusterIPs[a], e)
	}
	for _, a := range slices.Concat(was, now) {
		for k := range c.external[a] {
			c.dirty[k] = true
		}
	}
}

// winner returns the claim that gets k; its entry is nil if none does.
func (c *claims) winner(k proxier.FrontendKey) (out claim) {
	for _, cl := range c.byKey[k] {
		if !c.taken(cl, k) && (out.entry == nil || cl.compare(out) < 0) {
			out = cl
		}
	}
	return out
}

// settle returns the frontend that gets k, or nil, and notes the problems of the others in lost.
// It reports whether those changed.
func (c *claims) settle(k proxier.FrontendKey) (f *proxier.Frontend, changed bool) {
	winner := c.winner(k)
	var rep report
	for _, cl := range c.byKey[k] {
		switch name := cl.group.Name; {
		case cl == winner:
		case c.taken(cl, k):
			rep.add("Service", name, ReasonAddressConflict, "%s is not handled: the address is the cluster IP of %s", k, c.owner(k.Addr))
		case cl.frontend == nil:
			rep.add("Service", name, ReasonPortConflict, "health check port %d is not served: it belongs to %s", k.Port, winner.group.Name)
		case k.IsNodePort():
			rep.add("Service", name, ReasonPortConflict, "node port %d/%s (%s) is not handled: it belongs to %s",
				k.Port, k.Protocol, familyName(k.Addr.Is6()), winner.group.Name)
		default:
			rep.add("Service", name, ReasonAddressConflict, "%s is not handled: it belongs to %s", k, winner.group.Name)
		}
	}
	problems := rep.problems()
	changed = !slices.Equal(problems, c.lost[k])
	if len(problems) > 0 {
		c.lost[k] = problems
	} else {
		delete(c.lost, k)
	}
	return winner.frontend, changed
}

// problems returns what lost says, one problem for each object and reason.
func (c *claims) problems() []proxier.Problem {
	var all []proxier.Problem
	for _, list := range c.lost {
		all = append(all, list...)
	}
	sortProblems(all)
	var out []proxier.Problem
	for len(all) > 0 {
		var rep report
		first := all[0]
		for len(all) > 0 && all[0].Object == first.Object && all[0].Reason == first.Reason {
			rep.add(all[0].Kind, all[0].Object, all[0].Reason, "%s", all[0].Message)
			all = all[1:]
		}
		out = append(out, rep.problems()...)
	}
	return out
}

// taken reports whether a claim is for an address that is another Service's cluster IP.
func (c *claims) taken(cl claim, k proxier.FrontendKey) bool {
	return isExternal(cl) && len(c.clusterIPs[k.Addr]) > 0
}

// owner names the Service whose cluster IP a is; if there are several, the first by name.
func (c *claims) owner(a netip.Addr) proxier.NamespacedName {
	list := c.clusterIPs[a]
	first := list[0].group.Name
	for _, e := range list[1:] {
		if e.group.Name.Compare(first) < 0 {
			first = e.group.Name
		}
	}
	return first
}

// compare orders claims on one key, the one that gets it first: cluster IPs, then older Services,
// then by name. A Service of unknown age, which no API server has made, counts as the newest.
func (cl claim) compare(o claim) int {
	rank := func(cl claim) int {
		if cl.frontend != nil && cl.frontend.Kind == proxier.ClusterIP {
			return 0
		}
		return 1
	}
	age := cl.created.Compare(o.created)
	if cl.created.IsZero() != o.created.IsZero() {
		age = -age
	}
	return cmp.Or(rank(cl)-rank(o), age, cl.group.Name.Compare(o.group.Name))
}
