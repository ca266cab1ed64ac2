package xtables

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A blueprint is a table before its offsets are known: what the tests hold edits against.
type blueprint struct {
	*layout
	builtin []string // in the order of hooks; their last rule is the policy
	chains  []sketch // those that somebody made
}

type sketch struct {
	name  string
	rules []rule
}

// A rule is an entry: one that this package encodes, or a verdict, or a jump, or neither.
type rule struct {
	id    int    // what its counters say; 0 for a new rule
	text  string // encoded, if not empty
	match int    // bytes of a match that nobody knows
	to    string // jump to this chain
	next  bool   // no target: go on with the next entry
}

// assemble is the naive way to make the bytes of a table: first without offsets, to learn where
// each chain begins, then with. ids are those of the entries.
func (b blueprint) assemble(t interface{ Fatal(...any) }) (out *table, ids []int) {
	starts := map[string]int{}
	for range 2 {
		out, ids = &table{layout: b.layout}, nil
		add := func(id int, e []byte) {
			if id > 0 {
				order.PutUint64(e[b.counters:], uint64(id))
				order.PutUint32(e[b.comefrom:], 1)
			}
			out.entries = append(out.entries, e...)
			out.count++
			ids = append(ids, id)
		}
		put := func(rules []rule) (last int) {
			for _, r := range rules {
				last = len(out.entries)
				add(r.id, b.entry(t, r, last, starts))
			}
			return last
		}
		for i, name := range b.builtin {
			out.valid |= 1 << i
			out.hook[i] = uint32(len(out.entries))
			for _, c := range b.chains {
				if c.name == name {
					out.underflow[i] = uint32(put(c.rules))
				}
			}
		}
		for _, c := range b.chains {
			if slices.Contains(b.builtin, c.name) {
				continue
			}
			add(0, b.named(c.name))
			starts[c.name] = len(out.entries)
			put(c.rules)
		}
		add(0, b.named(errorName))
	}
	return out, ids
}

func (b blueprint) entry(t interface{ Fatal(...any) }, r rule, at int, starts map[string]int) []byte {
	if r.text != "" {
		e, err := (&encoder{layout: b.layout}).encode([]string{r.text})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := encoder{layout: b.layout, entry: make([]byte, b.header)}
	if r.match > 0 {
		copy(e.extend("unheard-of", 3, r.match), bytes.Repeat([]byte{7}, r.match))
	}
	return e.end("", standardSize-extHeader, func(data []byte, size int) {
		switch {
		case r.next:
			order.PutUint32(data, uint32(at+size))
		case r.to != "":
			order.PutUint32(data, uint32(starts[r.to]))
		default: // return, or accept in a built-in chain: the same to this package
			var verdict int32 = -verdictReturn
			order.PutUint32(data, uint32(verdict))
		}
	})
}

func (b blueprint) named(name string) []byte {
	e := encoder{layout: b.layout, entry: make([]byte, b.header)}
	return e.end(errorName, errorSize-extHeader, func(data []byte, _ int) { copy(data, name) })
}

// end appends a target.
func (e *encoder) end(name string, size int, fill func(data []byte, size int)) []byte {
	at := len(e.entry)
	data := e.extend(name, 0, size)
	fill(data, len(e.entry))
	order.PutUint16(e.entry[e.target:], uint16(at))
	order.PutUint16(e.entry[e.target+2:], uint16(len(e.entry)))
	return e.entry
}

// drawPool draws rules as those of a pool, which may be none.
func drawPool(t *rapid.T, v6 bool) (out []string) {
	n := rapid.IntRange(0, 4).Draw(t, "endpoints")
	affinity := rapid.Bool().Draw(t, "affinity")
	mask, addr := "255.255.255.255", "10.244.0.%d"
	if v6 {
		mask, addr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[fd00:244::%d]"
	}
	for i := range n {
		var b strings.Builder
		b.WriteString("-p " + rapid.SampledFrom([]string{"tcp", "udp", "sctp"}).Draw(t, "protocol"))
		if rapid.Bool().Draw(t, "comment") {
			b.WriteString(` -m comment --comment "shop/web:http"`)
		}
		if i < n-1 {
			fmt.Fprintf(&b, " -m statistic --mode random --probability %.11f", 1/float64(n-i))
		}
		list := fmt.Sprintf(" --name KUBE-SEP-%d --mask %s --rsource", i, mask)
		switch {
		case affinity && rapid.Bool().Draw(t, "update"):
			b.WriteString(" -m recent --update --seconds 10800 --reap" + list)
		case affinity:
			b.WriteString(" -m recent --set" + list)
		}
		fmt.Fprintf(&b, " -j DNAT --to-destination "+addr+":%d", rapid.IntRange(1, 9).Draw(t, "host"), rapid.IntRange(1, 65535).Draw(t, "port"))
		out = append(out, b.String())
	}
	return out
}

// drawBlueprint draws a table, edits for it, and the table that they make.
func drawBlueprint(t *rapid.T) (before, after blueprint, edits []Edit) {
	v6 := rapid.Bool().Draw(t, "IPv6")
	before = blueprint{layout: families[v6].layout, builtin: []string{"PREROUTING", "INPUT"}}
	names := append(slices.Clone(before.builtin), "A", "B", "C", "D", "E")
	id := 0
	for i, name := range names {
		c := sketch{name: name}
		add := func(r rule) { id++; r.id = id; c.rules = append(c.rules, r) }
		var edit *Edit
		if i >= len(before.builtin) && rapid.Bool().Draw(t, "pool") {
			edit = &Edit{Chain: name, Was: drawPool(t, v6)}
			for _, text := range edit.Was {
				add(rule{text: text})
			}
		} else {
			for range rapid.IntRange(0, 3).Draw(t, "rules") {
				add(rapid.SampledFrom([]rule{{next: true}, {}, {to: "A"}, {to: "B"}, {to: "D", match: 10}, {to: "E"}, {match: 24}}).Draw(t, "rule"))
			}
		}
		add(rule{}) // returns
		before.chains = append(before.chains, c)
		if edit != nil && rapid.Bool().Draw(t, "edited") {
			edit.Want = drawPool(t, v6)
			edits = append(edits, *edit)
			last := c.rules[len(c.rules)-1]
			c.rules = nil
			for _, text := range edit.Want {
				c.rules = append(c.rules, rule{text: text})
			}
			c.rules = append(c.rules, last)
		}
		after.chains = append(after.chains, c)
	}
	after.layout, after.builtin = before.layout, before.builtin
	return before, after, edits
}

// try edits a table as Rewrite does.
func try(t *table, edits []Edit) (*table, []patch, error) {
	patches, err := t.patches(edits)
	if err != nil {
		return nil, nil, err
	}
	buf := append(make([]byte, room(patches)), t.entries...)
	was := *t
	was.entries = buf[room(patches):]
	out, err := was.edit(buf, patches)
	return out, patches, err
}

// difference is cmp.Diff, which takes long to find large slices equal.
func difference(want, got *table) string {
	a, b := *want, *got
	a.entries, b.entries = nil, nil
	if reflect.DeepEqual(a, b) && bytes.Equal(want.entries, got.entries) {
		return ""
	}
	return cmp.Diff(want, got, cmp.AllowUnexported(table{}, layout{}))
}

// TestEdit: an edited table is the table that would have been made with the other rules, and every
// rule that was there has its counters.
func TestEdit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after, edits := drawBlueprint(t)
		was, ids := before.assemble(t)
		want, wantIDs := after.assemble(t)
		got, patches, err := try(was, edits)
		if err != nil {
			t.Fatal(err)
		}
		if diff := difference(want, got); diff != "" {
			t.Fatalf("%v (-want +got):\n%s", edits, diff)
		}
		counters := func(ids []int) (b []byte) {
			for _, id := range ids {
				b = order.AppendUint64(order.AppendUint64(b, uint64(id)), uint64(10*id))
			}
			return b
		}
		into := make([]byte, want.count*counterSize)
		carry(counters(ids), into, patches)
		if diff := cmp.Diff(counters(wantIDs), into); diff != "" {
			t.Fatalf("counters (-want +got):\n%s", diff)
		}
	})
}

const (
	poolA = "-p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.1.11:8080"
	poolB = "-p tcp -j DNAT --to-destination 10.244.1.12:8080"
	poolC = `-p tcp -m comment --comment "shop/web" -j DNAT --to-destination 10.244.1.12:8080`
)

// example is a table with one pool.
func example(t testing.TB) *table {
	b := blueprint{layout: ipv4, builtin: []string{"PREROUTING"}, chains: []sketch{
		{"PREROUTING", []rule{{to: "KUBE-SVC-A"}, {}}},
		{"CNI", []rule{{next: true}, {match: 4, to: "KUBE-SVC-A"}, {}}},
		{"KUBE-SVC-A", []rule{{text: poolA}, {text: poolB}, {}}},
		{"ZZZ", []rule{{to: "CNI"}, {}}},
	}}
	out, _ := b.assemble(t)
	return out
}

// TestEditRefuses: what is not as expected is an error.
func TestEditRefuses(t *testing.T) {
	at := func(name string, back int) func(t *table) []byte { // bytes before a chain's first rule
		return func(t *table) []byte {
			return t.entries[bytes.Index(t.entries, append([]byte(name), 0))-back:]
		}
	}
	edit := Edit{"KUBE-SVC-A", []string{poolA, poolB}, []string{poolB}}
	for name, c := range map[string]struct {
		edits []Edit
		spoil func(*table)
		want  string
	}{
		"no such chain":         {edits: []Edit{{"KUBE-SVC-B", nil, nil}}, want: "1 edits of 1 chains, of which 0"},
		"a built-in chain":      {edits: []Edit{{"PREROUTING", nil, nil}}, want: "of which 0"},
		"the end of the table":  {edits: []Edit{{"ERROR", nil, nil}}, want: "ends in a chain"},
		"twice":                 {edits: []Edit{edit, edit}, want: "2 edits of 1 chains"},
		"other rules":           {edits: []Edit{{"KUBE-SVC-A", []string{poolB, poolA}, nil}}, want: "not what it is taken for"},
		"fewer rules":           {edits: []Edit{{"KUBE-SVC-A", []string{poolA}, nil}}, want: "not what it is taken for"},
		"more rules":            {edits: []Edit{{"KUBE-SVC-A", []string{poolA, poolB, poolB}, nil}}, want: "not what it is taken for"},
		"another's rules":       {edits: []Edit{{"CNI", nil, nil}}, want: "not what it is taken for"},
		"cut off":               {edits: []Edit{edit}, spoil: func(t *table) { t.entries = t.entries[:len(t.entries)-8] }, want: "target at 112 of 176 bytes"},
		"too many entries":      {edits: []Edit{edit}, spoil: func(t *table) { t.count-- }, want: "more entries than counted"},
		"too few entries":       {edits: []Edit{edit}, spoil: func(t *table) { t.count++ }, want: "entries, counted"},
		"no target":             {edits: []Edit{edit}, spoil: func(t *table) { order.PutUint16(t.entries[t.target:], 8) }, want: "target at 8"},
		"size of a target":      {edits: []Edit{edit}, spoil: func(t *table) { order.PutUint16(t.entries[t.header:], 8) }, want: "target of 8 bytes"},
		"jump into a chain":     {edits: []Edit{edit}, spoil: func(t *table) { order.PutUint32(t.entries[t.header+extHeader:], uint32(jumpInto(t))) }, want: "inside of chain KUBE-SVC-A"},
		"jump into nowhere":     {edits: []Edit{edit}, spoil: func(t *table) { order.PutUint32(t.entries[t.header+extHeader:], 1<<31-5) }, want: "offset 2147483643 is outside of the table"},
		"hook inside a chain":   {edits: []Edit{edit}, spoil: func(t *table) { t.hook[0] = uint32(jumpInto(t)) }, want: "inside of chain KUBE-SVC-A"},
		"no return":             {edits: []Edit{edit}, spoil: func(t *table) { at("ZZZ", 2*ipv4.header+standardSize+extHeader)(t)[0] = 1 }, want: "does not end with a return"},
		"chain of two places":   {edits: []Edit{edit}, spoil: func(t *table) { copy(at("ZZZ", 0)(t), "KUBE-SVC-A") }, want: "occurs twice"},
		"bit in an address":     {edits: []Edit{edit}, spoil: func(t *table) { t.entries[jumpInto(t)] = 1 }, want: "not what it is taken for"},
		"revision of a target":  {edits: []Edit{edit}, spoil: func(t *table) { b := at("DNAT", extName)(t); b[extRevision] = 1 }, want: "not what it is taken for"},
		"unknown rule, wanted":  {edits: []Edit{{"KUBE-SVC-A", edit.Was, []string{"-j KUBE-MARK-MASQ"}}}, want: `target "KUBE-MARK-MASQ" is not known`},
		"unknown match, before": {edits: []Edit{{"KUBE-SVC-A", []string{"-m mark --mark 1 " + poolB}, nil}}, want: `match "mark" is not known`},
	} {
		tab := example(t)
		if c.spoil != nil {
			c.spoil(tab)
		}
		if _, _, err := try(tab, c.edits); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := try(example(t), []Edit{edit}); err != nil {
		t.Error(err)
	}
}

// jumpInto returns an offset inside of KUBE-SVC-A: of its second rule.
func jumpInto(t *table) int {
	s, err := t.survey(map[string]bool{"KUBE-SVC-A": true})
	if err != nil {
		panic(err)
	}
	size, _, _ := t.entry(s.chains["KUBE-SVC-A"].from)
	return s.chains["KUBE-SVC-A"].from + size
}

// FuzzEdit: whatever the kernel shows, an edit is refused, or can be taken back.
func FuzzEdit(f *testing.F) {
	e := example(f)
	f.Add(e.entries, uint32(e.count), e.hook[0], e.underflow[0], true)
	f.Add(e.entries, uint32(e.count), e.hook[0], e.underflow[0], false)
	f.Add([]byte{}, uint32(0), uint32(0), uint32(0), true)
	f.Fuzz(func(t *testing.T, entries []byte, count, hook, underflow uint32, grow bool) {
		was := &table{layout: ipv4, valid: 1, count: int(count), entries: entries}
		was.hook[0], was.underflow[0] = hook, underflow
		edit := Edit{"KUBE-SVC-A", []string{poolA, poolB}, []string{poolC}}
		if grow {
			edit.Want = []string{poolA, poolC, poolB}
		}
		now, patches, err := try(was, []Edit{edit})
		if err != nil {
			return
		}
		back, _, err := try(now, []Edit{{edit.Chain, edit.Want, edit.Was}})
		if err != nil {
			t.Fatal(err)
		}
		want := *was
		want.entries = slices.Concat(entries[:patches[0].from], patches[0].was, entries[patches[0].to:])
		if diff := difference(&want, back); diff != "" {
			t.Fatalf("there and back (-want +got):\n%s", diff)
		}
	})
}
