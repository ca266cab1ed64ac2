package xtables

import (
	"bytes"
	"errors"
	"fmt"
)

// A table is a table as the kernel shows it: the entries of all chains, one after the other, and
// where the built-in ones begin (hook) and end (underflow). Chains that somebody made begin with
// an entry that names them, and end with one that returns.
type table struct {
	*layout
	hook, underflow [hooks]uint32
	valid           uint32 // which of them are used, a bit each
	count           int    // of entries
	entries         []byte
}

// A place is where the rules of a chain are: bytes from to to of the table, and n entries from
// first on. The entry that returns is not among them.
type place struct {
	from, to int
	first, n int
}

// A survey is what an edit has to know of a table.
type survey struct {
	chains map[string]place
	jumps  []int // where the offsets are that rules jump to
}

// survey walks through the table. It looks for the chains wanted, and finds every jump. An error
// means that the table is not what this package takes it for.
func (t *table) survey(wanted map[string]bool) (survey, error) {
	s := survey{chains: map[string]place{}}
	current := ""            // the wanted chain that we are in
	last := 0                // offset of the entry before
	var size, at, target int // of the entry
	for index := 0; at < len(t.entries); index++ {
		var err error
		if size, target, err = t.entry(at); err != nil {
			return s, fmt.Errorf("entry %d: %w", index, err)
		}
		e := t.entries[at : at+size]
		switch ext := e[target:]; {
		case ext[extName] == 0: // standard
			if len(ext) != standardSize {
				return s, fmt.Errorf("entry %d: standard target of %d bytes", index, len(ext))
			}
			if int32(order.Uint32(ext[extHeader:])) >= 0 {
				s.jumps = append(s.jumps, at+target+extHeader)
			}
		case bytes.HasPrefix(ext[extName:], []byte(errorName+"\x00")):
			if len(ext) != errorSize {
				return s, fmt.Errorf("entry %d: error target of %d bytes", index, len(ext))
			}
			if current != "" {
				if err := t.close(&s, current, last, index-1); err != nil {
					return s, err
				}
			}
			current = name(ext[extHeader:])
			if !wanted[current] {
				current = ""
			} else if _, ok := s.chains[current]; ok {
				return s, fmt.Errorf("chain %s occurs twice", current)
			} else {
				s.chains[current] = place{from: at + size, first: index + 1}
			}
		}
		last = at
		at += size
		if index >= t.count {
			return s, errors.New("more entries than counted")
		}
		if at == len(t.entries) && index+1 != t.count {
			return s, fmt.Errorf("%d entries, counted %d", index+1, t.count)
		}
	}
	if current != "" {
		return s, errors.New("the table ends in a chain")
	}
	return s, nil
}

// entry checks the entry at an offset and returns its size and that of all before its target.
func (t *table) entry(at int) (size, target int, err error) {
	b := t.entries[at:]
	if len(b) < t.header {
		return 0, 0, errors.New("cut off")
	}
	target, size = int(order.Uint16(b[t.target:])), int(order.Uint16(b[t.target+2:]))
	if target < t.header || target%align != 0 || size < target+extHeader || size%align != 0 || size > len(b) {
		return 0, 0, fmt.Errorf("target at %d of %d bytes", target, size)
	}
	if n := int(order.Uint16(b[target:])); n != size-target {
		return 0, 0, fmt.Errorf("target of %d bytes in %d", n, size-target)
	}
	return size, target, nil
}

// close notes where a chain ends: its last entry, at an offset, returns.
func (t *table) close(s *survey, chain string, last, index int) error {
	p := s.chains[chain]
	if last < p.from || !t.returns(t.entries[last:]) {
		return fmt.Errorf("chain %s does not end with a return", chain)
	}
	p.to, p.n = last, index-p.first
	s.chains[chain] = p
	return nil
}

// returns reports whether an entry returns without a condition.
func (t *table) returns(e []byte) bool {
	size := t.header + standardSize
	const verdict = -verdictReturn
	return int(order.Uint16(e[t.target:])) == t.header && int(order.Uint16(e[t.target+2:])) == size &&
		len(bytes.TrimLeft(e[:t.ip], "\x00")) == 0 && e[t.header+extName] == 0 &&
		int32(order.Uint32(e[t.header+extHeader:])) == verdict
}
