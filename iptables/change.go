package iptables

import (
	"context"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// Most changes only give some pools other endpoints. Then nothing differs but the chains of those
// pools, and there is no need to compile ten thousand others to find that out.

// rewrite brings the kernel from f.last to in, if they differ in nothing but the endpoints of pools
// that have some. Otherwise it does nothing and returns false.
func (f *family) rewrite(ctx context.Context, in input, ch *proxier.Changes) (bool, error) {
	e, ok := f.editTo(in)
	if !ok {
		return false, nil
	}
	if len(e.write) > 0 {
		f.current = false
		if err := f.kernel.rewrite(ctx, "nat", e.was, e.write); err != nil {
			return true, err
		}
		f.current = true
	}
	f.adopt(e)
	for _, chain := range e.write {
		ch.Updated++
		ch.Lines += len(chain.Rules)
	}
	return true, nil
}

// An edit is what a change of endpoints comes to.
type edit struct {
	gone  []poolKey
	came  map[poolKey]restore.Chain
	write []restore.Chain          // those of came that the kernel has not, sorted by name
	was   map[string]restore.Chain // what they were, by name
}

// editTo returns the edit from f.last to in. It returns false if they differ in more.
func (f *family) editTo(in input) (edit, bool) {
	e := edit{came: map[poolKey]restore.Chain{}, was: map[string]restore.Chain{}}
	if !f.current || f.options.hairpinList { // that lists endpoints elsewhere too
		return e, false
	}
	changed, ok := changedPools(f.last, in)
	c := newCompiler(in, f.options, nil)
	for was, now := range changed {
		if f.pools[was].Name == "" {
			return e, false
		}
		e.gone = append(e.gone, was)
		key := poolKey{now, was.affinity}
		chain := c.poolChain(key)
		e.came[key] = chain
		if f.nat.chains[chain.Name] != sum(chain.Rules) {
			e.write = append(e.write, chain)
			e.was[chain.Name] = f.pools[was]
		}
	}
	slices.SortFunc(e.write, func(a, b restore.Chain) int { return strings.Compare(a.Name, b.Name) })
	return e, ok
}

// adopt makes f know that the kernel has what e says.
func (f *family) adopt(e edit) {
	for _, key := range e.gone {
		delete(f.pools, key)
	}
	for key, chain := range e.came {
		f.pools[key] = chain
		f.nat.chains[chain.Name] = sum(chain.Rules)
	}
}

// changedPools returns the pools of was that in has others for. It returns false if in differs in
// anything that other rules than those of the pools' own chains could tell of.
func changedPools(was, in input) (map[poolKey]*proxier.Pool, bool) {
	if was.node != in.node || len(was.frontends) != len(in.frontends) || !slices.Equal(was.healthPorts, in.healthPorts) {
		return nil, false
	}
	out := map[poolKey]*proxier.Pool{}
	for i, b := range in.frontends {
		a := was.frontends[i]
		if a == b {
			continue
		}
		if a.FrontendKey != b.FrontendKey || a.Owner != b.Owner || a.Affinity != b.Affinity || a.Balance != b.Balance || a.StandIn != b.StandIn ||
			(a.Sources == nil) != (b.Sources == nil) || !slices.Equal(a.Sources, b.Sources) {
			return nil, false
		}
		for o, from := range a.From {
			to := b.From[o]
			if from.Masquerade != to.Masquerade || from.Pool.Scope != to.Pool.Scope || from.Pool.Owner != to.Pool.Owner ||
				(from.Pool != to.Pool && (len(from.Pool.Endpoints) == 0 || len(to.Pool.Endpoints) == 0)) {
				return nil, false
			}
			if from.Pool != to.Pool {
				out[keyOf(from.Pool, a)] = to.Pool
			}
		}
	}
	return out, true
}
