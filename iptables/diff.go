package iptables

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A state is what is known of one table in the kernel: of our chains a hash each, so that ten
// thousand Services need not be remembered as text.
type state struct {
	chains map[string]uint64
	// jumps are our rules in built-in chains, in order.
	jumps map[string][]string
	// pinned are our chains that somebody else's rules refer to: they cannot be deleted.
	pinned map[string]bool
}

var seed = maphash.MakeSeed()

func sum(rules []string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, r := range rules {
		h.WriteString(r)
		h.WriteByte('\n')
	}
	return h.Sum64()
}

// stateOf extracts what is ours from a table as it was read.
func stateOf(t restore.Table) state {
	s := state{chains: map[string]uint64{}, jumps: map[string][]string{}, pinned: map[string]bool{}}
	for _, c := range t.Chains {
		if c.Policy == "" && isOurs(t.Name, c.Name) {
			s.chains[c.Name] = sum(c.Rules)
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

// diff returns the input for iptables-restore that makes a table in state have into want, nil if
// it is already, and what has been done then. Foreign rules and chains are not looked at.
//
// Only chains that differ are written, each as a whole. All of it is one transaction, so the
// order in it matters to the tool only: declare, rewrite, delete.
func diff(have state, want restore.Table) (script []byte, after state, ch proxier.Changes) {
	after = state{chains: make(map[string]uint64, len(want.Chains)), jumps: map[string][]string{}, pinned: have.pinned}
	var write []restore.Chain // new, changed, or to be emptied
	for _, c := range want.Chains {
		if c.Policy != "" {
			after.jumps[c.Name] = c.Rules
			continue
		}
		h := sum(c.Rules)
		after.chains[c.Name] = h
		was, known := have.chains[c.Name]
		switch {
		case known && was == h:
			continue
		case known:
			ch.Updated++
		default:
			ch.Added++
		}
		write = append(write, c)
		ch.Lines += len(c.Rules)
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(have.chains)) {
		if _, ok := after.chains[name]; ok {
			continue
		}
		empty := sum(nil)
		if have.pinned[name] {
			after.chains[name] = empty
			if have.chains[name] == empty {
				continue
			}
		} else {
			gone = append(gone, name)
		}
		write = append(write, restore.Chain{Name: name})
		ch.Removed++
	}
	drop, add := diffJumps(have.jumps, after.jumps)
	ch.Lines += len(drop) + len(add)
	if len(write)+len(drop)+len(add) == 0 {
		return nil, after, ch
	}
	return scriptOf(want.Name, write, gone, drop, add), after, ch
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
