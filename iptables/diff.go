package iptables

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A state is what is known of one table in the kernel: of our chains a sum each, so that ten
// thousand Services need not be remembered as text.
type state struct {
	chains map[string]chainSum
	// jumps are our rules in built-in chains, in order.
	jumps map[string][]string
	// pinned are our chains that somebody else's rules refer to: they cannot be deleted.
	pinned map[string]bool

	rules int // in chains
}

// A chainSum stands for the rules of a chain.
type chainSum struct {
	hash  uint64
	rules int
}

var seed = maphash.MakeSeed()

func sum(rules []string) chainSum {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, r := range rules {
		h.WriteString(r)
		h.WriteByte('\n')
	}
	return chainSum{h.Sum64(), len(rules)}
}

// stateOf extracts what is ours from a table as it was read.
func stateOf(t restore.Table) state {
	s := state{chains: map[string]chainSum{}, jumps: map[string][]string{}, pinned: map[string]bool{}}
	for _, c := range t.Chains {
		if c.Policy == "" && isOurs(t.Name, c.Name) {
			s.put(c)
			continue
		}
		for _, r := range c.Rules {
			switch to := restore.Target(r); {
			case c.Policy != "" && isOurJump(t.Name, r):
				s.jumps[c.Name] = append(s.jumps[c.Name], r)
			case isOurs(t.Name, to):
				s.pinned[to] = true
			}
		}
	}
	return s
}

// ours returns the part of a table that is ours.
func oursOf(t restore.Table) restore.Table {
	out := restore.Table{Name: t.Name}
	for _, c := range t.Chains {
		if c.Policy != "" {
			c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r string) bool { return !isOurJump(t.Name, r) })
		} else if !isOurs(t.Name, c.Name) {
			continue
		}
		out.Chains = append(out.Chains, c)
	}
	return out
}

// A patch says what a table is to become.
type patch struct {
	table string
	// want are chains as they are to be, was those that there may be in their place. With whole, want
	// are all there is to be, whatever there was.
	was, want []restore.Chain
	whole     bool
}

// tableOf returns the table that a whole patch leads to.
func (p patch) tableOf() restore.Table {
	t := restore.Table{Name: p.table, Chains: slices.Clone(p.want)}
	t.Sort()
	return t
}

// names returns the names of chains that may have to go.
func (p patch) names(have state) []string {
	if p.whole {
		return slices.Sorted(maps.Keys(have.chains))
	}
	var out []string
	for _, c := range p.was {
		if c.Policy == "" {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// An edit is what one transaction does to a table.
type edit struct {
	table     string
	write     []restore.Chain // as a whole: new, changed, or to be emptied; sorted by name
	gone      []string        // to be deleted; they are in write too
	drop, add []jump          // to be deleted and inserted
	jumps     map[string][]string
	changes   proxier.Changes
}

// empty reports whether there is nothing to do.
func (e edit) empty() bool { return len(e.write)+len(e.drop)+len(e.add) == 0 }

// script returns the input for iptables-restore.
func (e edit) script() []byte { return scriptOf(e.table, e.write, e.gone, e.drop, e.add) }

// diff returns what makes a table in state have what p says. Foreign rules and chains are not looked at.
//
// Only chains that differ are written, each as a whole. All of it is one transaction, so the
// order in it matters to the tool only: declare, rewrite, delete.
func diff(have state, p patch) edit {
	e := edit{table: p.table, jumps: map[string][]string{}}
	wanted := make(map[string]bool, len(p.want))
	for _, c := range p.want {
		if c.Policy != "" {
			e.jumps[c.Name] = c.Rules
			continue
		}
		wanted[c.Name] = true
		was, known := have.chains[c.Name]
		switch {
		case known && was == sum(c.Rules):
			continue
		case known:
			e.changes.Updated++
		default:
			e.changes.Added++
		}
		e.write = append(e.write, c)
		e.changes.Lines += len(c.Rules)
	}
	for _, name := range p.names(have) {
		switch {
		case wanted[name] || have.pinned[name] && have.chains[name] == sum(nil):
			continue
		case !have.pinned[name]:
			e.gone = append(e.gone, name)
		}
		e.write = append(e.write, restore.Chain{Name: name})
		e.changes.Removed++
	}
	slices.SortFunc(e.write, func(a, b restore.Chain) int { return strings.Compare(a.Name, b.Name) })
	e.drop, e.add = diffJumps(have.jumps, e.jumps)
	e.changes.Lines += len(e.drop) + len(e.add)
	return e
}

// adopt makes s what it is after an edit.
func (s *state) adopt(e edit) {
	for _, c := range e.write {
		s.put(c)
	}
	for _, name := range e.gone {
		s.drop(name)
	}
	s.jumps = e.jumps
}

// put remembers a chain.
func (s *state) put(c restore.Chain) {
	s.drop(c.Name)
	s.chains[c.Name] = sum(c.Rules)
	s.rules += len(c.Rules)
}

// drop forgets a chain.
func (s *state) drop(name string) {
	s.rules -= s.chains[name].rules
	delete(s.chains, name)
}

// count returns how many rules of ours a table has.
func (s *state) count() int {
	n := s.rules
	for _, rules := range s.jumps {
		n += len(rules)
	}
	return n
}

// scriptOf writes a transaction: chains to write as a whole, chains to delete, and rules of
// built-in chains to delete and to insert.
func scriptOf(table string, write []restore.Chain, gone []string, drop, add []jump) []byte {
	size := 64
	for _, c := range write {
		size += len(c.Name) + 16
		for _, r := range c.Rules {
			size += len(c.Name) + len(r) + 8
		}
	}
	b := make([]byte, 0, size) // of tens of thousands of rules; do not grow it step by step
	line := func(parts ...string) {
		for i, p := range parts {
			if i > 0 {
				b = append(b, ' ')
			}
			b = append(b, p...)
		}
		b = append(b, '\n')
	}
	line("*" + table)
	// Backwards, as iptables-nft-restore keeps chains in a list by name and looks for a place from
	// its head: 100,000 declarations by name take it 40 s, backwards 6.
	for _, c := range slices.Backward(write) {
		b = append(append(append(b, ':'), c.Name...), " - [0:0]\n"...)
	}
	for _, j := range drop {
		line("-D", j.chain, j.rule)
	}
	for _, c := range write {
		for _, r := range c.Rules {
			line("-A", c.Name, r)
		}
	}
	for _, j := range add {
		line("-I", j.chain, j.rule)
	}
	for _, name := range gone {
		line("-X", name)
	}
	line("COMMIT")
	return b
}

// A jump is a rule of a built-in chain.
type jump struct{ chain, rule string }

// diffJumps returns the rules to delete, and those to insert at the head of their chain, one
// after the other. Rules that are there, and in order, stay where they are.
func diffJumps(have, want map[string][]string) (drop, add []jump) {
	for _, chain := range slices.Sorted(maps.Keys(have)) {
		if keep := stay(have[chain], want[chain]); keep == 0 {
			for _, r := range have[chain] {
				drop = append(drop, jump{chain, r})
			}
		}
	}
	for _, chain := range slices.Sorted(maps.Keys(want)) {
		rules := want[chain]
		rules = rules[:len(rules)-stay(have[chain], rules)]
		for _, r := range slices.Backward(rules) {
			add = append(add, jump{chain, r})
		}
	}
	return drop, add
}

// stay returns how many rules stay: all there are if they are what the wanted rules end in, so
// that the others can be inserted before them, or else none.
func stay(have, want []string) int {
	if n := len(want) - len(have); n < 0 || !slices.Equal(have, want[n:]) {
		return 0
	}
	return len(have)
}
