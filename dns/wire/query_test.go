package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

func pack(t testing.TB, m *dnswire.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ask(t testing.TB, name string, typ uint16) []byte {
	m := new(dnswire.Msg)
	m.SetQuestion(name, typ)
	m.Id = 0x1234
	return pack(t, m)
}

func parse(t rapid.TB, msg []byte) *Query {
	t.Helper()
	q := new(Query)
	if v := q.Parse(msg); v != OK {
		t.Fatalf("verdict %d", v)
	}
	return q
}

func unpack(t rapid.TB, b []byte) *dnswire.Msg {
	t.Helper()
	m := new(dnswire.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return m
}

// edit returns a copy of b changed by f.
func edit(b []byte, f func([]byte) []byte) []byte { return f(bytes.Clone(b)) }

// set returns an edit that writes bytes at an offset.
func set(at int, bytes ...byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], bytes); return b }
}

func add(more ...byte) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, more...) }
}

func withOPT(t testing.TB, f func(*dnswire.OPT)) []byte {
	m := new(dnswire.Msg)
	m.SetQuestion("www.example.", dnswire.TypeA)
	m.SetEdns0(1232, true)
	f(m.IsEdns0())
	return pack(t, m)
}

func TestVerdicts(t *testing.T) {
	plain := ask(t, "www.example.", dnswire.TypeA)
	edns := withOPT(t, func(*dnswire.OPT) {})
	update := new(dnswire.Msg)
	update.SetUpdate("example.")
	notify := new(dnswire.Msg)
	notify.SetNotify("example.")
	ixfr := new(dnswire.Msg)
	ixfr.SetIxfr("example.", 1, "ns.example.", "m.example.")
	tsig := new(dnswire.Msg)
	tsig.SetQuestion("example.", dnswire.TypeA)
	tsig.SetTsig("key.", dnswire.HmacSHA256, 300, 0)
	opt := []byte{0, 0, TypeOPT, 4, 0, 0, 0, 0, 0, 0, 0}
	name := func(labels ...int) []byte { // a question whose labels have these lengths
		b := bytes.Clone(plain[:HeaderLen])
		for _, n := range labels {
			b = append(append(b, byte(n)), bytes.Repeat([]byte{'x'}, n)...)
		}
		return append(b, 0, 0, 1, 0, 1)
	}
	tests := []struct {
		name string
		msg  []byte
		want Verdict
	}{
		{"plain", plain, OK},
		{"root", ask(t, ".", dnswire.TypeNS), OK},
		{"with an OPT", edns, OK},
		{"with a cookie", withOPT(t, func(o *dnswire.OPT) {
			o.Option = append(o.Option, &dnswire.EDNS0_COOKIE{Code: dnswire.EDNS0COOKIE, Cookie: "0123456789abcdef"})
		}), OK},
		{"something after the end", edit(plain, add(1, 2, 3)), OK},
		{"nothing", nil, Drop},
		{"half a header", plain[:11], Drop},
		{"a reply", edit(plain, set(2, 0x80)), Drop},
		{"a malformed reply", edit(plain, set(2, 0x80, 0, 9, 9)), Drop},
		{"UPDATE", pack(t, update), BadOpcode},
		{"NOTIFY", pack(t, notify), BadOpcode},
		{"STATUS", edit(plain, set(2, 2<<3)), BadOpcode},
		{"header only", plain[:12], BadForm},
		{"no question", edit(plain[:12], set(5, 0)), BadForm},
		{"two questions", edit(plain, set(5, 2)), BadForm},
		{"257 questions", edit(plain, set(4, 1)), BadForm},
		{"two answers", edit(plain, set(7, 2)), BadForm},
		{"two of authority", edit(plain, set(9, 2)), BadForm},
		{"three additional", edit(plain, set(11, 3)), BadForm},
		{"an answer", edit(plain, set(7, 1)), Slow},
		{"IXFR", pack(t, ixfr), Slow},
		{"TSIG", pack(t, tsig), Slow},
		{"OPT and TSIG", edit(edit(edns, set(11, 2)), add(1, 'k', 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0)), Slow},
		{"two OPTs", edit(edit(edns, set(11, 2)), add(opt...)), BadForm},
		{"an OPT that is missing", edit(plain, set(11, 1)), BadForm},
		{"a name cut in a label", plain[:14], BadForm},
		{"a name cut before its end", plain[:24], BadForm},
		{"no class", plain[:len(plain)-1], BadForm},
		{"a pointer to the header", edit(plain, set(12, 0xc0, 0)), BadForm},
		{"a pointer to itself", edit(plain, set(12, 0xc0, 12)), BadForm},
		{"a pointer onward", edit(plain, set(12, 0xc0, 20)), BadForm},
		{"an extended label", edit(plain, set(12, 0x41)), BadForm},
		{"a binary label", edit(plain, set(12, 0x80)), BadForm},
		{"64 in a label", name(64), BadForm},
		{"63 in a label", name(63), OK},
		{"255 in all", name(63, 63, 63, 61), OK},
		{"256 in all", name(63, 63, 63, 62), BadForm},
		{"127 labels", name(bytesToInts(bytes.Repeat([]byte{1}, 127))...), OK},
		{"128 labels", name(bytesToInts(bytes.Repeat([]byte{1}, 128))...), BadForm},
		{"an OPT with a name", edit(edit(plain, set(11, 1)), add(append([]byte{1, 'x'}, opt...)...)), Slow},
		{"OPT longer than the message", edit(edns, set(len(edns)-1, 4)), BadForm},
		{"half an option", edit(edit(edns, set(len(edns)-1, 3)), add(0, 10, 0)), BadForm},
		{"an option longer than its OPT", edit(edit(edns, set(len(edns)-1, 4)), add(0, 10, 0, 1, 9)), BadForm},
		{"version 1", withOPT(t, func(o *dnswire.OPT) { o.SetVersion(1) }), BadVersion},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var q Query
			if got := q.Parse(tc.msg); got != tc.want {
				t.Errorf("verdict %d, want %d", got, tc.want)
			}
		})
	}
}

func bytesToInts(b []byte) (out []int) {
	for _, c := range b {
		out = append(out, int(c))
	}
	return out
}

func TestQuery(t *testing.T) {
	var q Query
	if v := q.Parse(ask(t, "WwW.Example.ORG.", dnswire.TypeAAAA)); v != OK {
		t.Fatal(v)
	}
	type part struct {
		Name, Suffix, Deep, Root, First, Last, Asked string
		Labels                                       int
		Tail                                         Name
	}
	got := part{string(q.Name()), string(q.Suffix(1)), string(q.Suffix(2)), string(q.Suffix(3)), string(q.Label(0)), string(q.Label(2)), string(q.Question()), q.Labels(), q.Tail(1)}
	want := part{"\x03www\x07example\x03org\x00", "\x07example\x03org\x00", "\x03org\x00", "\x00", "www", "org",
		"\x03WwW\x07Example\x03ORG\x00\x00\x1c\x00\x01", 3, Name{Tail: 0xc010}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The next message leaves nothing of the one before.
	q.Parse(withOPT(t, func(*dnswire.OPT) {}))
	if !q.EDNS || !q.DO || q.UDPSize != 1232 || q.Limit(4096) != 1232 || q.Limit(600) != 600 {
		t.Errorf("EDNS: %+v", q)
	}
	q.Parse(ask(t, ".", dnswire.TypeNS))
	if q.EDNS || q.DO || q.UDPSize != 0 || q.Labels() != 0 || len(q.Name()) != 1 || q.Limit(4096) != MinUDP || q.Tail(0).Tail != Asked.Tail {
		t.Errorf("the query before shows through: %+v", q)
	}
}

// names are names in presentation format, with bytes of every kind.
func names() *rapid.Generator[string] {
	label := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9_-]{1,12}`),
		rapid.SampledFrom([]string{"svc", "cluster", "LOCAL", "a", "A", strings.Repeat("x", 63)}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 20), func(b []byte) string {
			var s strings.Builder
			for _, c := range b {
				s.WriteString(`\` + string([]byte{'0' + c/100, '0' + c/10%10, '0' + c%10}))
			}
			return s.String()
		}))
	return rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(label, 0, 8).Draw(t, "labels"), ".") + "."
		var b [300]byte
		if n, err := dnswire.PackDomainName(s, b[:], 0, nil, false); err != nil || n > MaxName { // it takes one byte more
			return "too.long."
		}
		return s
	})
}

// TestNames: names go to the wire and back as with miekg/dns.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := names().Draw(t, "name")
		var want [300]byte
		n, err := dnswire.PackDomainName(name, want[:], 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := AppendName([]byte("before"), name)
		if err != nil || string(got) != "before"+string(want[:n]) {
			t.Fatalf("%q: %q, want %q, %v", name, got, want[:n], err)
		}
		text, _, err := dnswire.UnpackDomainName(want[:], 0)
		if err != nil || Text(got[len("before"):]) != text {
			t.Fatalf("text %q, want %q, %v", Text(got[len("before"):]), text, err)
		}
	})
	for _, bad := range []string{"..", ".a.", "a..b", strings.Repeat("x", 64), strings.Repeat("x.", 128), `a\`, `a\300.`, strings.Repeat(strings.Repeat("x", 63)+".", 4)} {
		if b, err := AppendName(nil, bad); err == nil || len(b) != 0 {
			t.Errorf("%q became %q", bad, b)
		}
	}
	if b, err := AppendName(nil, "a.b"); err != nil || string(b) != "\x01a\x01b\x00" {
		t.Errorf("without final dot: %q, %v", b, err)
	}
	if got := Text([]byte{5, 'a'}); got != "" {
		t.Errorf("text of what is no name: %q", got)
	}
}

// TestLower: whole words or single bytes, only letters change.
func TestLower(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "name")
		want := make([]byte, len(in))
		for i, c := range in {
			if want[i] = c; 'A' <= c && c <= 'Z' {
				want[i] += 32
			}
		}
		got := make([]byte, len(in))
		if lower(got, in); !bytes.Equal(got, want) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}

// agree compares a verdict with what miekg/dns makes of the same message.
func agree(t rapid.TB, msg []byte) {
	t.Helper()
	var q Query
	v := q.Parse(msg)
	m := new(dnswire.Msg)
	err := m.Unpack(msg)
	if bare := q.end + 4 + optLen; err != nil && v <= BadVersion && q.EDNS {
		// miekg/dns reads what is in the options; here they are skipped.
		err = m.Unpack(edit(msg[:bare], set(bare-2, 0, 0)))
	}
	switch v {
	case OK, BadVersion:
		if err != nil || len(m.Question) != 1 {
			t.Fatalf("verdict %d of what miekg/dns does not take (%v): %x", v, err, msg)
		}
		text, _, err := dnswire.UnpackDomainName(q.Name(), 0)
		asked := m.Question[0]
		if err != nil || !strings.EqualFold(text, asked.Name) || q.Type != asked.Qtype || q.Class != asked.Qclass || q.ID != m.Id {
			t.Fatalf("question %q %d %d, want %v: %x", text, q.Type, q.Class, asked, msg)
		}
		opt := m.IsEdns0()
		if q.EDNS != (opt != nil) || opt != nil && (opt.UDPSize() != q.UDPSize || opt.Do() != q.DO || opt.Version() != q.Version) {
			t.Fatalf("EDNS %v %d %v, want %v: %x", q.EDNS, q.UDPSize, q.DO, opt, msg)
		}
		if (q.Version != 0) != (v == BadVersion) || q.Flags&FlagQR != 0 {
			t.Fatalf("verdict %d of %+v", v, q)
		}
	case Drop:
		if len(msg) >= HeaderLen && !m.Response {
			t.Fatalf("dropped %x", msg)
		}
	case BadOpcode:
		if err == nil && m.Opcode == dnswire.OpcodeQuery {
			t.Fatalf("NOTIMP to %v", m)
		}
	case BadForm:
		// miekg/dns forgives more that is missing, a second OPT, and a question whose name is the
		// header. CoreDNS's rules about counts are outside of it.
		if err == nil && plausible(msg, m) {
			t.Fatalf("FORMERR to %x:\n%v", msg, m)
		}
	}
	var out [MinUDP]byte
	if n := Reject(&q, v, out[:]); n > 0 {
		r := new(dnswire.Msg)
		if err := r.Unpack(out[:n]); err != nil || !r.Response || r.Id != q.ID {
			t.Fatalf("rejected with %v, %v", r, err)
		}
	}
}

// plausible reports whether all that a header announces is there, once.
func plausible(msg []byte, m *dnswire.Msg) bool {
	opts := 0
	for _, r := range m.Extra {
		if r.Header().Rrtype == dnswire.TypeOPT {
			opts++
		}
	}
	counts := [4]uint16{}
	for i := range counts {
		counts[i] = binary.BigEndian.Uint16(msg[4+2*i:])
	}
	name, end, _ := dnswire.UnpackDomainName(msg, HeaderLen)
	packed, _ := AppendName(nil, name)
	plain := end-HeaderLen == len(packed) // without a pointer
	return opts <= 1 && plain && end+4 <= len(msg) && counts[0] == 1 && counts[1] <= 1 && counts[2] <= 1 && counts[3] <= 2 &&
		len(m.Question) == 1 && len(m.Answer) == int(counts[1]) && len(m.Ns) == int(counts[2]) && len(m.Extra) == int(counts[3])
}

func FuzzParse(f *testing.F) {
	f.Add(ask(f, "www.example.", dnswire.TypeA))
	f.Add(withOPT(f, func(o *dnswire.OPT) {
		o.Option = append(o.Option, &dnswire.EDNS0_COOKIE{Code: dnswire.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	}))
	f.Add(edit(ask(f, "a.", dnswire.TypeA), set(12, 0xc0, 12)))
	f.Fuzz(func(t *testing.T, msg []byte) { agree(t, msg) })
}

// TestParseAgrees: what miekg/dns packs is read alike, and so is what is left of it when bytes are
// changed or missing.
func TestParseAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := new(dnswire.Msg)
		m.SetQuestion(names().Draw(t, "name"), rapid.Uint16().Draw(t, "type"))
		m.Question[0].Qclass = rapid.SampledFrom([]uint16{1, 3, 255}).Draw(t, "class")
		m.CheckingDisabled = rapid.Bool().Draw(t, "cd")
		if rapid.Bool().Draw(t, "edns") {
			m.SetEdns0(rapid.Uint16().Draw(t, "size"), rapid.Bool().Draw(t, "do"))
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q Query
		if v := q.Parse(b); v != OK {
			t.Fatalf("verdict %d of %v", v, m)
		}
		agree(t, b)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		agree(t, b[:rapid.IntRange(0, len(b)).Draw(t, "length")])
	})
}
