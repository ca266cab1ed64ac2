package rewrite

import (
	"bytes"
	"sync"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/wire"
)

// A condition is what a rule asks of a question, in a form that needs no message.
type condition struct {
	always bool   // the rule is for every question
	qtype  uint16 // not 0: for questions of the type, whatever their name
	match  *corefile.NameMatch
	text   []byte // of match
}

func conditionOf(c corefile.RewriteRule) condition {
	name := func(m corefile.NameMatch) condition { return condition{match: &m, text: []byte(m.Text)} }
	switch {
	case c.Name != nil:
		return name(c.Name.Match)
	case c.TTL != nil:
		return name(c.TTL.Match)
	case c.Rcode != nil:
		return name(c.Rcode.Match)
	case c.Type != nil:
		return condition{qtype: c.Type.From}
	case c.Class != nil && c.Class.From != wire.ClassIN:
		return condition{}
	}
	return condition{always: true}
}

// holds reports whether the condition may be met. name is in presentation format. Patterns are not
// looked at here.
func (c *condition) holds(name []byte, qtype uint16) bool {
	switch {
	case c.always, c.qtype != 0 && c.qtype == qtype:
		return true
	case c.match == nil:
		return false
	}
	switch c.match.Kind {
	case "prefix":
		return bytes.HasPrefix(name, c.text)
	case "suffix":
		return bytes.HasSuffix(name, c.text)
	case "substring":
		return bytes.Contains(name, c.text)
	case "exact":
		return bytes.Equal(name, c.text)
	}
	return false
}

// names are buffers for the names that patterns look at. What a pattern sees cannot be on the stack.
var names = sync.Pool{New: func() any { return new([wire.MaxName + 1]byte) }}

// Passes implements plugin.Passer.
func (w *Rewrite) Passes(q *wire.Query) bool {
	var buffer [wire.MaxName + 1]byte
	name, ok := appendPlain(buffer[:0], q)
	if !ok {
		return false
	}
	for i := range w.conditions {
		if w.conditions[i].holds(name, q.Type) {
			return false
		}
	}
	if len(w.patterns) == 0 {
		return true
	}
	kept := names.Get().(*[wire.MaxName + 1]byte)
	defer names.Put(kept)
	n := copy(kept[:], name)
	for _, p := range w.patterns {
		if p.Match(kept[:n]) {
			return false
		}
	}
	return true
}

// appendPlain writes a name that has no character to escape, and false for any other.
func appendPlain(b []byte, q *wire.Query) ([]byte, bool) {
	for i := range q.Labels() {
		for _, c := range q.Label(i) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return b, false
			}
			b = append(b, c)
		}
		b = append(b, '.')
	}
	if len(b) == 0 {
		b = append(b, '.')
	}
	return b, true
}
