package iptables

import (
	"iter"
	"slices"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// Most changes are of a few frontends among thousands. So what is compiled is always a change: from
// what the kernel has to what it shall have, or from nothing if that is not known. Only the
// comparison of pointers that finds it looks at every frontend.

// A compiled is what an input comes to, as far as that is kept: the entries of the dispatch trees.
// The chains are made where they are to be written, so that their text need not be remembered.
type compiled struct {
	in       input
	entries  forest  // of the nat table
	deny     []entry // of the filter table
	partial  []entry // see partials
	standIns []entry // see standIns
}

// A change leads from one compiled input to another.
type change struct {
	*compiler
	was, now *compiled
	// whole says that was is nothing: all that now comes to is to be compared with what there is.
	whole bool
	// gone and came are the chains of Services' own that may not be the same before and after.
	gone, came []restore.Chain
	// differ and denies are the entries that are not the same before and after.
	differ forest
	denies []entry
}

// compile returns the change to what in comes to, from what an earlier compile with the same options
// came to, or from nothing. It is pure, and where it leads to does not depend on where it starts.
func compile(was *compiled, in input, o Options) *change {
	c := newCompiler(in, o)
	ch := &change{compiler: c, was: was, now: &compiled{in: c.in}}
	if was == nil || was.in.node != in.node || was.in.commented() != in.commented() || o.hairpinList {
		ch.was, ch.whole = &compiled{}, true // every chain may differ
	}
	gone, came := ch.frontends()
	var before, after forest
	ch.gone, before = ch.services(gone, ch.was.partial)
	ch.came, after = ch.services(came, ch.now.partial)
	ch.keepShared(gone)
	for i, list := range ch.was.entries {
		ch.now.entries[i], ch.differ[i] = replace(list, before[i], after[i], compareEntries)
	}
	ch.now.standIns, _ = replace(ch.was.standIns, ch.standIns(gone), ch.standIns(came), compareEntries)
	ch.now.deny, ch.denies = replace(ch.was.deny, ch.denyEntries(gone), ch.denyEntries(came), compareEntries)
	return ch
}

// frontends returns the frontends that are not the same before and after, and those whose entry
// depends on one of them. It sets ch.now.partial.
func (ch *change) frontends() (gone, came []*proxier.Frontend) {
	was, now := ch.was.in, ch.now.in
	for a, b := range proxier.Diff(&proxier.Snapshot{Frontends: was.frontends}, &proxier.Snapshot{Frontends: now.frontends}) {
		if a != nil {
			gone = append(gone, a)
		}
		if b != nil {
			came = append(came, b)
		}
	}
	var differ []entry
	ch.now.partial, differ = replace(ch.was.partial, ch.partials(gone), ch.partials(came), comparePartials)
	var last *proxier.Frontend
	for _, e := range differ { // those of one NodePort are next to each other
		port := e.key
		port.Addr = unspecified(port.Addr.Is6())
		if f := now.frontend(port); f != nil && f != last && f == was.frontend(port) {
			gone, came, last = append(gone, f), append(came, f), f
		}
	}
	return gone, came
}

// keepShared adds to ch.came the chains of ch.gone that other frontends of the same owners use.
func (ch *change) keepShared(gone []*proxier.Frontend) {
	names := map[string]bool{}
	for _, c := range ch.came {
		names[c.Name] = true
	}
	if !slices.ContainsFunc(ch.gone, func(c restore.Chain) bool { return !names[c.Name] }) {
		return
	}
	owners := map[proxier.ServicePortName]bool{}
	for _, f := range gone {
		owners[f.Owner] = true
	}
	var others []*proxier.Frontend
	for _, f := range ch.now.in.frontends {
		if owners[f.Owner] {
			others = append(others, f)
		}
	}
	chains, _ := ch.services(others, nil)
	for _, c := range chains {
		if !names[c.Name] {
			ch.came = append(ch.came, c)
		}
	}
}

// nat returns what the nat table needs.
func (ch *change) nat() patch {
	p := patch{table: "nat", whole: ch.whole}
	p.want = append(ch.natChains(ch.now, ch.was, ch.differ), ch.came...)
	if !p.whole {
		p.was = append(ch.natChains(ch.was, ch.now, ch.differ), ch.gone...)
	}
	return p
}

// filter returns what the filter table needs to get from some entries to others: those before, those
// after, or those in between; see transition.
func (ch *change) filter(from, to []entry) patch {
	if ch.whole {
		return patch{table: "filter", whole: true, want: ch.filterChains(to, nil, to)}
	}
	return patch{table: "filter", was: ch.filterChains(from, to, ch.denies), want: ch.filterChains(to, from, ch.denies)}
}

// ruleset returns all that a change from nothing leads to.
func (ch *change) ruleset() restore.Ruleset {
	return restore.Ruleset{ch.filter(nil, ch.now.deny).tableOf(), ch.nat().tableOf()}
}

// replace returns a sorted list without the entries of gone, which are in it, and with those of came,
// and in differ those of the two that do not stay as they are. All are in the same order.
func replace(list, gone, came []entry, order func(a, b entry) int) (out, differ []entry) {
	for was, now := range pairs(gone, came, order) {
		if was != nil && now != nil && slices.Equal(was.rules, now.rules) {
			continue
		}
		if out == nil {
			out = make([]entry, 0, len(list)+len(came))
		}
		e := now
		if e == nil {
			e = was
		}
		differ = append(differ, *e)
		at, there := slices.BinarySearchFunc(list, *e, order)
		out = append(out, list[:at]...)
		if list = list[at:]; there {
			list = list[1:]
		}
		if now != nil {
			out = append(out, *now)
		}
	}
	if out == nil {
		return list, nil
	}
	return append(out, list...), differ
}

// pairs yields the entries of two sorted lists, in order: together those with the same key, and
// others with nil.
func pairs(a, b []entry, order func(a, b entry) int) iter.Seq2[*entry, *entry] {
	return func(yield func(*entry, *entry) bool) {
		for len(a) > 0 || len(b) > 0 {
			var x, y *entry
			c := 0
			switch {
			case len(a) == 0:
				c = 1
			case len(b) == 0:
				c = -1
			default:
				c = order(a[0], b[0])
			}
			if c <= 0 {
				x, a = &a[0], a[1:]
			}
			if c >= 0 {
				y, b = &b[0], b[1:]
			}
			if !yield(x, y) {
				return
			}
		}
	}
}
