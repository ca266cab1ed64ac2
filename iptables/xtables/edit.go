package xtables

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// An Edit gives a chain other rules. Rules are written as iptables-save prints them.
type Edit struct {
	Chain     string
	Was, Want []string
}

// A patch is an edit in bytes.
type patch struct {
	chain string
	was   []byte   // entries
	want  []string // rules; all of them encoded would take as much memory as the table
	size  int      // bytes of their entries
	place          // where was is
}

// grows returns by how many bytes the table grows.
func (p patch) grows() int { return p.size - len(p.was) }

// patches encodes edits. Their places are not known yet.
func (l *layout) patches(edits []Edit) ([]patch, error) {
	out := make([]patch, len(edits))
	enc := encoder{layout: l}
	for i, e := range edits {
		was, err := enc.encode(e.Was)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", e.Chain, err)
		}
		was = bytes.Clone(was)
		want, err := enc.encode(e.Want)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", e.Chain, err)
		}
		out[i] = patch{chain: e.Chain, was: was, want: e.Want, size: len(want)}
	}
	return out, nil
}

// room returns how many bytes of free space in front of a table patches may need.
func room(patches []patch) int {
	n := 0
	for _, p := range patches {
		n += max(0, p.grows())
	}
	return n
}

// edit applies patches, and sorts them by their places. The entries of t must be the end of buf,
// with room for the patches in front; those of the result are at the start of buf. It is undone
// by nothing: after an error the entries are good for nothing.
func (t *table) edit(buf []byte, patches []patch) (*table, error) {
	wanted := map[string]bool{}
	for _, p := range patches {
		wanted[p.chain] = true
	}
	s, err := t.survey(wanted)
	if err != nil {
		return nil, err
	}
	if len(wanted) != len(patches) || len(s.chains) != len(patches) {
		return nil, fmt.Errorf("%d edits of %d chains, of which %d are there", len(patches), len(wanted), len(s.chains))
	}
	for i := range patches {
		p := &patches[i]
		p.place = s.chains[p.chain]
		if !t.same(p.place, p.was) {
			return nil, fmt.Errorf("chain %s is not what it is taken for", p.chain)
		}
	}
	slices.SortFunc(patches, func(a, b patch) int { return cmp.Compare(a.from, b.from) })
	out := *t
	if err := out.point(s.jumps, patches); err != nil {
		return nil, err
	}
	if err := out.splice(buf, patches); err != nil {
		return nil, err
	}
	return &out, nil
}

// same reports whether a chain has these entries, whatever its counters are.
func (t *table) same(p place, want []byte) bool {
	if p.to-p.from != len(want) {
		return false
	}
	have := bytes.Clone(t.entries[p.from:p.to])
	for at := 0; at < len(have); {
		e := have[at:]
		clear(e[t.comefrom : t.comefrom+4])
		clear(e[t.counters : t.counters+counterSize])
		at += int(order.Uint16(e[t.target+2:]))
	}
	return bytes.Equal(have, want)
}

// point moves all offsets to where patches, which are sorted, move what is there.
func (t *table) point(jumps []int, patches []patch) error {
	moved := make([]int, len(patches)+1) // by the first so many patches
	for i, p := range patches {
		moved[i+1] = moved[i] + p.grows()
	}
	// A chain begins where its first patched entry does, and that stays where it is.
	offset := func(at uint32) (uint32, error) {
		if int(at) >= len(t.entries) {
			return 0, fmt.Errorf("offset %d is outside of the table", at)
		}
		n, _ := slices.BinarySearchFunc(patches, int(at), func(p patch, at int) int { return cmp.Compare(p.from, at) })
		if n > 0 && int(at) < patches[n-1].to {
			return 0, fmt.Errorf("offset %d is inside of chain %s", at, patches[n-1].chain)
		}
		return uint32(int(at) + moved[n]), nil
	}
	var err error
	for i := range hooks {
		if t.valid&(1<<i) == 0 {
			continue
		}
		for _, p := range []*uint32{&t.hook[i], &t.underflow[i]} {
			if *p, err = offset(*p); err != nil {
				return err
			}
		}
	}
	for _, at := range jumps {
		to, err := offset(order.Uint32(t.entries[at:]))
		if err != nil {
			return err
		}
		order.PutUint32(t.entries[at:], to)
	}
	return nil
}

// splice moves the entries to the start of buf, patched. What is copied never gets ahead of what
// is still to be copied: that is what the room is for.
func (t *table) splice(buf []byte, patches []patch) error {
	n, at := 0, 0
	put := func(b []byte) { n += copy(buf[n:], b) }
	enc := encoder{layout: t.layout}
	for _, p := range patches {
		want, err := enc.encode(p.want)
		if err != nil {
			return err
		}
		put(t.entries[at:p.from])
		put(want)
		at = p.to
		t.count += len(p.want) - p.n
	}
	put(t.entries[at:])
	t.entries = buf[:n]
	return nil
}

// carry copies counters from those of a table before patches to those after. What is new starts at
// zero.
func carry(old, into []byte, patches []patch) {
	from, to := 0, 0
	put := func(n int) {
		copy(into[to*counterSize:], old[from*counterSize:(from+n)*counterSize])
		from, to = from+n, to+n
	}
	for _, p := range patches {
		put(p.first - from)
		from, to = from+p.n, to+len(p.want)
	}
	put(len(old)/counterSize - from)
}
