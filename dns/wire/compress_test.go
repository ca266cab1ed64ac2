package wire

import (
	"slices"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

// A said is a name of a message, whole and in wire format.
type said struct {
	name []byte
	hops int // pointers in a row
}

// A script is bytes that decide which names a message is made of. At its end it is all zeros.
type script []byte

func (s *script) next() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// labels takes some labels without their final zero, no longer than room.
func (s *script) labels(most, room int) (out []byte) {
	for range most {
		n := int(s.next() & 63)
		if n == 0 || n > len(*s) || len(out)+1+n > room {
			break
		}
		out = append(append(out, byte(n)), (*s)[:n]...)
		*s = (*s)[n:]
	}
	return out
}

// A writer writes records with a Builder, and knows what a reader must find.
type writer struct {
	*script
	q     *Query
	b     Builder
	known []said // names and ends of names in the message
	at    []int  // their offsets
	want  []string
}

// name chooses labels, and what they end with: some of the question, an earlier name, or nothing.
func (w *writer) name() (Name, said) {
	kind := w.next()
	labels := w.labels(int(kind>>2&3), MaxName-1)
	join := func(n Name, end said) (Name, said) {
		if len(labels)+len(end.name) > MaxName {
			return n, end
		}
		n.Labels = labels
		return n, said{append(slices.Clip(labels), end.name...), end.hops}
	}
	switch kind & 3 {
	case 0:
		skip := int(w.next()) % (w.q.Labels() + 1)
		spelled := w.q.Question()[len(w.q.Name())-len(w.q.Suffix(skip)) : len(w.q.Name())]
		return join(w.q.Tail(skip), said{spelled, 1})
	case 1:
		if len(w.known) > 0 {
			i := len(w.known) - 1 - int(w.next())%len(w.known)
			if n, near := At(w.at[i]); near && w.known[i].hops < 100 { // readers give up at some point
				return join(n, said{w.known[i].name, w.known[i].hops + 1})
			}
		}
		fallthrough
	case 2:
		return join(Asked, said{w.q.Question()[:len(w.q.Name())], 1})
	}
	whole := append(labels, 0)
	return Name{Labels: whole}, said{whole, 0}
}

// wrote notes that a name is in the message, with each end that later names may point to.
func (w *writer) wrote(at int, n Name, s said) {
	for i := 0; i < len(n.Labels) && n.Labels[i] != 0; i += int(n.Labels[i]) + 1 {
		w.known, w.at = append(w.known, said{s.name[i:], s.hops}), append(w.at, at+i)
	}
	if n.Tail != 0 {
		w.known, w.at = append(w.known, said{s.name[len(n.Labels):], s.hops}), append(w.at, at+len(n.Labels))
	}
}

// record writes one, and reports whether there was room.
func (w *writer) record() bool {
	kind := w.next()
	owner, ownerSaid := w.name()
	start := w.b.Len()
	if kind&3 == 0 {
		if !w.b.Record(Answer, owner, TypeA, 1, []byte{10, 0, 0, 1}) {
			return false
		}
		w.want = append(w.want, Text(ownerSaid.name), "")
	} else {
		target, targetSaid := w.name()
		typ, data := uint16(TypePTR), []byte(nil)
		if kind&3 == 1 {
			typ, data = TypeSRV, make([]byte, 6)
		}
		at, ok := w.b.Target(Answer, owner, typ, 1, data, target)
		if !ok {
			return false
		}
		w.wrote(at, target, targetSaid)
		w.want = append(w.want, Text(ownerSaid.name), Text(targetSaid.name))
	}
	w.wrote(start, owner, ownerSaid)
	return true
}

// compress makes a message out of a script, and reads it with miekg/dns.
func compress(t rapid.TB, s script) {
	t.Helper()
	limit := min(MinUDP+256*int(s.next()), 0xffff)
	name := append(s.labels(20, MaxName-1), 0)
	q := parse(t, slices.Concat([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name, []byte{0, 12, 0, 1}))
	w := writer{script: &s, q: q, b: Begin(q, limit, make([]byte, limit))}
	for len(s) > 0 && w.record() {
	}
	n := w.b.Finish(0, Success)
	msg := w.b.buf[:n]
	var got []string
	for _, rr := range unpack(t, msg).Answer {
		target := ""
		switch rr := rr.(type) {
		case *dnswire.PTR:
			target = rr.Ptr
		case *dnswire.SRV:
			target = rr.Target
		}
		got = append(got, rr.Header().Name, target)
	}
	if !slices.Equal(got, w.want) {
		t.Fatalf("%x\nsays  %q\nwants %q", msg, got, w.want)
	}
	if end, ok := walk(msg, func(record) bool { return true }); !ok || end != n {
		t.Fatalf("walk ends at %d of %d, %v", end, n, ok)
	}
}

// Each name of a reply is read as it was meant, whatever it shares with the names before it.
func TestCompress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { compress(t, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "script")) })
	far := "\x02\x04\x01a\x00\x07\x3f" + strings.Repeat("x", 63) + "\x02\x01\x00\x05\x01b\x01"
	compress(t, append([]byte{255}, strings.Repeat(far, 400)...)) // beyond what pointers reach
}

// FuzzCompress is TestCompress with scripts that look for other ways through the code.
func FuzzCompress(f *testing.F) {
	f.Add([]byte("\x00\x03www\x07example\x03org\x00\x01\x04\x01\x01a\x05\x00\x01b\x02\x05\x01\x01c\x09\x00\x01b\x01a"))
	f.Add([]byte("\xff\x05_http\x04_TCP\x03Web\x03svc\x00\x01\x02\x04\x02\x02h1\x00\x01\x01\x01\x02\x04\x02\x02h2"))
	f.Fuzz(func(t *testing.T, data []byte) { compress(t, data) })
}
