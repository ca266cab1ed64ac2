package resolve

import (
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// A Resolver resolves inputs to snapshots and remembers the last ones, so that the next costs
// only what changed. It is not safe for concurrent use.
type Resolver struct {
	opts Options
	last *proxier.Snapshot

	// What the environment was made of, the environment, and the problems found on the way.
	node     *corev1.Node
	cidrs    []*networkingv1.ServiceCIDR
	api      *Group
	standIn  *StandIn
	env      *environment
	envNews  []proxier.Problem
	entries  []*entry // sorted by name
	spare    []*entry // memory for the next entries
	claims   *claims
	troubled map[*entry]bool // entries with problems of their own
	health   map[*entry]bool // entries that want a health check port
}

// New returns a Resolver.
func New(o Options) *Resolver {
	if !o.IPv4 && !o.IPv6 {
		o.IPv4, o.IPv6 = true, true
	}
	return &Resolver{
		opts:     o,
		claims:   newClaims(),
		troubled: map[*entry]bool{},
		health:   map[*entry]bool{},
	}
}

// Resolve returns what this node must do. It returns the previous *Snapshot itself if nothing
// changed; otherwise a new one with the next Revision, in which every Node, Service, Frontend,
// Pool and Endpoint of equal value is the pointer of before. It takes time in proportion to the
// Groups that changed, plus a pointer comparison for each one that did not.
func (r *Resolver) Resolve(in Inputs) *proxier.Snapshot {
	now := proxier.Snapshot{Revision: 1}
	if r.last != nil {
		now = *r.last
		now.Revision++
	}
	fresh, news := r.observe(in, &now)
	r.replaceStandIn(in.StandIn)
	stale, troubles := r.update(in.Groups, fresh)
	frontends, unsettled, lost := r.settle()
	now.Frontends = splice(now.Frontends, frontends, func(f *proxier.Frontend, k proxier.FrontendKey) int { return f.Compare(k) })
	services, health := r.finish(append(stale, unsettled...))
	now.Services = splice(now.Services, services, func(s *proxier.Service, n proxier.NamespacedName) int { return s.Compare(n) })
	if news || troubles || lost {
		now.Problems = r.problems(now.Problems)
	}
	if health {
		now.HealthPorts = r.healthPorts(now.HealthPorts)
	}
	if r.last == nil || !same(r.last, &now) {
		r.last = &now
	}
	return r.last
}

// same reports whether two snapshots share all their content.
func same(a, b *proxier.Snapshot) bool {
	return a.Node == b.Node && sameSlice(a.Services, b.Services) && sameSlice(a.Frontends, b.Frontends) &&
		sameSlice(a.Problems, b.Problems) && sameSlice(a.HealthPorts, b.HealthPorts)
}

// sameSlice reports whether a and b are one slice.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// observe brings the environment and s.Node up to date. It reports whether Groups must be
// resolved again, and whether the problems of the environment changed.
func (r *Resolver) observe(in Inputs, s *proxier.Snapshot) (fresh, news bool) {
	api := findGroup(in.Groups, kubernetesService)
	if r.env != nil && in.Node == r.node && slices.Equal(in.ServiceCIDRs, r.cidrs) && api == r.api {
		return false, false
	}
	r.node, r.cidrs, r.api = in.Node, slices.Clone(in.ServiceCIDRs), api
	var rep report
	env, node := observe(&r.opts, in, &rep)
	if s.Node == nil || !reflect.DeepEqual(s.Node, node) {
		s.Node = node
	}
	if r.env == nil || !reflect.DeepEqual(r.env, env) {
		r.env, fresh = env, true
	}
	if problems := rep.problems(); !slices.Equal(r.envNews, problems) {
		r.envNews, news = problems, true
	}
	return fresh, news
}

// replaceStandIn takes a new stand-in, and lets update resolve the Services again that it concerns.
func (r *Resolver) replaceStandIn(now *StandIn) {
	if now == r.standIn {
		return
	}
	for _, s := range []*StandIn{r.standIn, now} {
		if s == nil {
			continue
		}
		at, found := slices.BinarySearchFunc(r.entries, s.Service, func(e *entry, n proxier.NamespacedName) int { return e.group.Name.Compare(n) })
		if found {
			changed := *r.entries[at].group
			r.entries[at].group = &changed
		}
	}
	r.standIn = now
}

// findGroup returns the group of a name, or nil.
func findGroup(groups []*Group, name proxier.NamespacedName) *Group {
	i, ok := slices.BinarySearchFunc(groups, name, func(g *Group, n proxier.NamespacedName) int { return g.Name.Compare(n) })
	if !ok {
		return nil
	}
	return groups[i]
}

// update brings r.entries in line with groups. It returns the entries that came, changed or went,
// and reports whether the problems of any of them changed. If fresh, all count as changed.
func (r *Resolver) update(groups []*Group, fresh bool) (stale []*entry, troubles bool) {
	old, next := r.entries, r.spare[:0]
	change := func(e *entry, g *Group) {
		was := e.resolved
		e.group, e.resolved = g, resolveGroup(r.env, r.standIn, g, was)
		troubles = r.replace(e, was) || troubles
		stale = append(stale, e)
	}
	for len(old) > 0 || len(groups) > 0 {
		switch {
		case len(old) > 0 && len(groups) > 0 && old[0].group == groups[0] && !fresh:
			next, old, groups = append(next, old[0]), old[1:], groups[1:]
		case len(groups) == 0 || (len(old) > 0 && old[0].group.Name.Compare(groups[0].Name) < 0):
			e := old[0]
			was := e.resolved
			e.resolved = nil
			troubles = r.replace(e, was) || troubles
			stale, old = append(stale, e), old[1:]
		case len(old) == 0 || groups[0].Name.Compare(old[0].group.Name) < 0:
			e := &entry{}
			change(e, groups[0])
			next, groups = append(next, e), groups[1:]
		default:
			change(old[0], groups[0])
			next, old, groups = append(next, old[0]), old[1:], groups[1:]
		}
	}
	clear(r.entries)
	r.entries, r.spare = next, r.entries
	return stale, troubles
}

// replace makes claims and indexes follow an entry that was resolved anew, or that is gone and
// has no resolved any more. It reports whether its problems changed.
func (r *Resolver) replace(e *entry, was *resolved) (troubles bool) {
	if was == nil {
		was = &resolved{}
	}
	now := e.resolved
	if now == nil {
		now = &resolved{}
	}
	r.claims.replace(r.env, e, was, now)
	set(r.troubled, e, len(now.problems) > 0)
	return !slices.Equal(was.problems, now.problems)
}

func set(m map[*entry]bool, e *entry, in bool) {
	if in {
		m[e] = true
	} else {
		delete(m, e)
	}
}

// settle works out who has each key whose claims changed. It returns the new frontends, sorted,
// the entries whose health check port may be won or lost, and whether any claim was lost or is no
// longer.
func (r *Resolver) settle() (edits []edit[proxier.FrontendKey, proxier.Frontend], unsettled []*entry, lost bool) {
	keys := slices.SortedFunc(maps.Keys(r.claims.dirty), proxier.FrontendKey.Compare)
	edits = make([]edit[proxier.FrontendKey, proxier.Frontend], 0, len(keys))
	for _, k := range keys {
		f, changed := r.claims.settle(k)
		lost = lost || changed
		edits = append(edits, edit[proxier.FrontendKey, proxier.Frontend]{k, f})
		if k.IsNodePort() {
			for _, cl := range r.claims.byKey[k] {
				if cl.frontend == nil {
					unsettled = append(unsettled, cl.entry)
				}
			}
		}
	}
	clear(r.claims.dirty)
	return edits, unsettled, lost
}

// finish works out the final Service of entries and returns them as edits, sorted. It reports
// whether health check ports may have changed.
func (r *Resolver) finish(list []*entry) (edits []edit[proxier.NamespacedName, proxier.Service], health bool) {
	byName := func(a, b *entry) int { return a.group.Name.Compare(b.group.Name) }
	slices.SortFunc(list, byName)
	list = slices.Compact(list)
	for _, e := range list {
		health = health || r.health[e]
		e.final = r.final(e)
		wants := e.final != nil && e.service.HealthCheckPort != 0
		set(r.health, e, wants)
		health = health || wants
		edits = append(edits, edit[proxier.NamespacedName, proxier.Service]{e.group.Name, e.final})
	}
	return edits, health
}

// final returns the Service of e without a health check port that another Service has.
func (r *Resolver) final(e *entry) *proxier.Service {
	if e.resolved == nil || e.service == nil {
		return nil
	}
	for _, k := range healthKeys(r.env, e.service) {
		if r.claims.winner(k).entry != e {
			s := *e.service
			s.HealthCheckPort = 0
			return reuseService(e.final, &s)
		}
	}
	return e.service
}

// problems returns all problems, sorted; old if it equals them.
func (r *Resolver) problems(old []proxier.Problem) []proxier.Problem {
	out := slices.Clone(r.envNews)
	for e := range r.troubled {
		out = append(out, e.problems...)
	}
	out = append(out, r.claims.problems()...)
	sortProblems(out)
	if slices.Equal(old, out) {
		return old
	}
	return out
}

// healthPorts returns the ports of health checks, sorted; old if it equals them.
func (r *Resolver) healthPorts(old []uint16) []uint16 {
	var out []uint16
	for e := range r.health {
		if e.final.HealthCheckPort != 0 {
			out = append(out, e.final.HealthCheckPort)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if slices.Equal(old, out) {
		return old
	}
	return out
}
