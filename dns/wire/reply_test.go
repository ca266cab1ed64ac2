package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

func lines(sections ...[]dnswire.RR) (out []string) {
	for _, s := range sections {
		for _, rr := range s {
			out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return out
}

// TestReply builds one reply with all there is, and reads it with miekg/dns.
func TestReply(t *testing.T) {
	m := new(dnswire.Msg)
	m.SetQuestion("_http._TCP.Web.Prod.svc.Cluster.local.", dnswire.TypeSRV)
	m.Id, m.CheckingDisabled = 0xabcd, true
	m.SetEdns0(1400, true)
	q := parse(t, pack(t, m))
	out := make([]byte, 1400)
	b := Begin(q, 1232, out)
	at, ok := b.Target(Answer, Asked, TypeSRV, 30, []byte{0, 0, 0, 100, 31, 144}, Name{Labels: []byte("\x02h1"), Tail: q.Tail(2).Tail})
	host, near := At(at)
	zone := q.Tail(5)
	soa := SOA{Primary: []byte("\x02ns\x03dns"), Mailbox: []byte("\x0ahostmaster"), TTL: 30, Serial: 7, Refresh: 7200, Retry: 1800, Expire: 86400, Minimum: 30}
	if !ok || !near || !b.SOA(Authority, zone, &soa) ||
		!b.Record(Additional, host, TypeA, 30, []byte{10, 0, 0, 1}) ||
		!b.Record(Additional, Name{Labels: []byte("\x05other\x00")}, TypeA, 5, []byte{10, 0, 0, 2}) ||
		!b.Add(Additional, []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x03"), 1) {
		t.Fatal("no room")
	}
	length := b.Len()
	n := b.Finish(FlagAA, NXDomain)
	if n != length+optLen {
		t.Errorf("%d bytes, without OPT %d", n, length)
	}
	got := unpack(t, out[:n])
	want := []string{
		"_http._TCP.Web.Prod.svc.Cluster.local. 30 IN SRV 0 100 8080 h1.Web.Prod.svc.Cluster.local.",
		"Cluster.local. 30 IN SOA ns.dns.Cluster.local. hostmaster.Cluster.local. 7 7200 1800 86400 30",
		"h1.Web.Prod.svc.Cluster.local. 30 IN A 10.0.0.1",
		"other. 5 IN A 10.0.0.2",
		"_http._TCP.Web.Prod.svc.Cluster.local. 5 IN A 10.0.0.3",
	}
	if diff := cmp.Diff(want, lines(got.Answer, got.Ns, got.Extra[:3])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if opt := got.IsEdns0(); opt == nil || opt.UDPSize() != 1400 || !opt.Do() || opt.Version() != 0 || len(opt.Option) != 0 {
		t.Errorf("OPT %v", opt)
	}
	head := got.MsgHdr
	if want := (dnswire.MsgHdr{Id: 0xabcd, Response: true, Authoritative: true, RecursionDesired: true, CheckingDisabled: true, Rcode: NXDomain}); head != want {
		t.Errorf("header %+v, want %+v", head, want)
	}
	if Rcode(out) != NXDomain {
		t.Error("rcode", Rcode(out))
	}
}

// TestReject: what clients are told whose query is not answered.
func TestReject(t *testing.T) {
	plain := ask(t, "www.example.", dnswire.TypeA)
	var q Query
	var out [MinUDP]byte
	if n := Reject(&q, q.Parse(edit(plain, set(5, 2))), out[:]); n != HeaderLen || unpack(t, out[:n]).Rcode != dnswire.RcodeFormatError {
		t.Errorf("FORMERR: %x", out[:n])
	}
	if n := Reject(&q, q.Parse(edit(plain, set(2, 5<<3))), out[:]); n != HeaderLen || unpack(t, out[:n]).Opcode != dnswire.OpcodeUpdate {
		t.Errorf("NOTIMP: %x", out[:n])
	}
	v := q.Parse(withOPT(t, func(o *dnswire.OPT) { o.SetVersion(1) }))
	n := Reject(&q, v, out[:])
	m := unpack(t, out[:n])
	if opt := m.IsEdns0(); opt == nil || m.Rcode|opt.ExtendedRcode() != dnswire.RcodeBadVers || opt.UDPSize() != 0 || opt.Version() != 0 || len(m.Question) != 1 {
		t.Errorf("BADVERS: %v", m)
	}
	if q.UDPSize != 1232 || !q.DO {
		t.Error("Reject changed the query")
	}
	if n := Reject(&q, Drop, out[:]); n != 0 {
		t.Errorf("an answer of %d bytes to what has none", n)
	}
	q.Parse(plain)
	if m := unpack(t, out[:Refuse(&q, Refused, out[:])]); m.Rcode != dnswire.RcodeRefused || len(m.Question) != 1 || m.Authoritative {
		t.Errorf("REFUSED: %v", m)
	}
}

// TestLimits: a reply is never longer than it may be, whatever is added, and is always well formed.
func TestLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := new(dnswire.Msg)
		m.SetQuestion(names().Draw(t, "name"), dnswire.TypeTXT)
		if rapid.Bool().Draw(t, "edns") {
			m.SetEdns0(4096, false)
		}
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		q := parse(t, msg)
		limit := rapid.IntRange(MinUDP, 2000).Draw(t, "limit")
		out := make([]byte, rapid.IntRange(MinUDP, 2000).Draw(t, "room"))
		b := Begin(q, limit, out)
		counts := [3]int{}
		s := Answer
		soa := SOA{Primary: []byte("\x01p"), Mailbox: []byte("\x01m")}
		for range rapid.IntRange(0, 100).Draw(t, "records") {
			s = max(s, Section(rapid.IntRange(0, 2).Draw(t, "section")))
			before := b.Len()
			var ok bool
			switch size := rapid.IntRange(1, 120).Draw(t, "size"); rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				ok = b.Record(s, q.Tail(rapid.IntRange(0, q.Labels()).Draw(t, "skip")), TypeTXT, 1, append([]byte{byte(size)}, make([]byte, size)...))
			case 1:
				ok = b.SOA(s, q.Tail(q.Labels()), &soa)
			case 2:
				_, ok = b.Target(s, Asked, TypeCNAME, 1, nil, Name{Labels: []byte("\x01x\x00")})
			case 3:
				ok = b.Add(s, []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x03"), 1)
			}
			if ok {
				counts[s]++
			} else if b.Len() != before {
				t.Fatal("half a record was written")
			}
			if b.Room() < 0 {
				t.Fatal("negative room")
			}
		}
		b.Truncate()
		n := b.Finish(0, Success)
		if n > limit || n > len(out) {
			t.Fatalf("%d bytes, limit %d, room %d", n, limit, len(out))
		}
		got := unpack(t, out[:n])
		if q.EDNS {
			counts[Additional]++
		}
		if have := [3]int{len(got.Answer), len(got.Ns), len(got.Extra)}; have != counts || !got.Truncated {
			t.Fatalf("sections %v, want %v", have, counts)
		}
	})
}

// reply packs an answer with records in every section, with compression as an upstream would.
func reply(t testing.TB, answers int, opt bool) []byte {
	t.Helper()
	m := new(dnswire.Msg)
	m.SetQuestion("www.example.org.", dnswire.TypeA)
	m.Response, m.RecursionAvailable, m.Compress = true, true, true
	rr := func(s string) dnswire.RR {
		r, err := dnswire.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	m.Answer = append(m.Answer, rr("www.example.org. 300 IN CNAME cdn.example.net."))
	for i := range answers {
		m.Answer = append(m.Answer, rr(fmt.Sprintf("cdn.example.net. %d IN A 198.51.%d.%d", 60+i, i/256, i%256)))
	}
	m.Ns = append(m.Ns, rr("example.net. 9000 IN NS ns.example.net."))
	m.Extra = append(m.Extra, rr("ns.example.net. 77 IN AAAA 2001:db8::1"))
	if opt {
		m.SetEdns0(4096, false)
	}
	return pack(t, m)
}

func TestPacked(t *testing.T) {
	for _, opt := range []bool{false, true} {
		orig := reply(t, 2, opt)
		kept := bytes.Clone(orig)
		p, err := Pack(orig)
		if err != nil {
			t.Fatal(err)
		}
		if p.Rcode() != Success {
			t.Error("code", p.Rcode())
		}
		m := new(dnswire.Msg)
		m.SetQuestion("wWw.eXample.org.", dnswire.TypeA)
		m.Id, m.RecursionDesired, m.CheckingDisabled = 77, false, true
		m.SetEdns0(1232, true)
		q := parse(t, pack(t, m))
		out := make([]byte, 1232)
		n, ok := p.Reply(q, 1232, out, FlagAA, 9)
		if !ok || n != p.Len()+optLen {
			t.Fatal(n, ok)
		}
		got := unpack(t, out[:n])
		want := []string{"wWw.eXample.org. 9 IN CNAME cdn.example.net.", "cdn.example.net. 9 IN A 198.51.0.0", "cdn.example.net. 9 IN A 198.51.0.1",
			"example.net. 9 IN NS ns.example.net.", "ns.example.net. 9 IN AAAA 2001:db8::1"}
		if diff := cmp.Diff(want, lines(got.Answer, got.Ns, got.Extra[:1])); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if h := (dnswire.MsgHdr{Id: 77, Response: true, Authoritative: true, RecursionAvailable: true, CheckingDisabled: true}); got.MsgHdr != h {
			t.Errorf("header %+v, want %+v", got.MsgHdr, h)
		}
		if o := got.IsEdns0(); o == nil || !o.Do() || o.UDPSize() != 1232 || len(got.Extra) != 2 {
			t.Errorf("extra %v", got.Extra)
		}
		n, _ = p.Reply(parse(t, ask(t, "www.example.org.", dnswire.TypeA)), 512, out, 0, 9)
		if got := unpack(t, out[:n]); got.IsEdns0() != nil || got.Authoritative {
			t.Errorf("without EDNS: %v", got)
		}
		if _, ok := p.Reply(parse(t, ask(t, "ww.example.org.", dnswire.TypeA)), 512, out, 0, 1); ok {
			t.Error("an answer to another question")
		}
		if !bytes.Equal(orig, kept) {
			t.Error("Pack changed the message")
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "no question": make([]byte, HeaderLen), "cut": reply(t, 2, true)[:60],
		"two OPTs": edit(edit(reply(t, 0, true), set(11, 3)), add(0, 0, TypeOPT, 4, 0, 0, 0, 0, 0, 0, 0)),
	} {
		if _, err := Pack(bad); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}

// FuzzPatch makes replies of whatever Pack takes, and cuts them at all lengths.
func FuzzPatch(f *testing.F) {
	f.Add(reply(f, 3, true), uint16(600))
	f.Add(reply(f, 60, false), uint16(512))
	f.Fuzz(func(t *testing.T, msg []byte, limit uint16) { patch(t, msg, max(MinUDP, int(limit))) })
}

func TestPatchEverySize(t *testing.T) {
	for limit := MinUDP; limit < 1200; limit += 7 {
		patch(t, reply(t, 60, limit%2 == 0), limit)
	}
}

// patch makes a reply of a message as it comes, which must not do harm, and one of the same message
// as this process would pack it, which must say the same.
func patch(t *testing.T, msg []byte, limit int) {
	t.Helper()
	replyTo(t, msg, limit)
	m := new(dnswire.Msg)
	if m.Unpack(msg) != nil {
		return
	}
	m.Compress = true
	clean, err := m.Pack()
	if err != nil || m.Unpack(clean) != nil {
		return
	}
	p, q, out := replyTo(t, clean, limit)
	if out == nil {
		return
	}
	check(t, p, q, out, limit)
}

// replyTo returns nothing if there can be no reply.
func replyTo(t *testing.T, msg []byte, limit int) (*Packed, *Query, []byte) {
	t.Helper()
	p, err := Pack(msg)
	if err != nil {
		return nil, nil, nil
	}
	question := skipName(msg, HeaderLen)
	query := append([]byte{9, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, msg[HeaderLen:question+4]...)
	query = append(query, 0, 0, TypeOPT, 4, 0, 0, 0, 0, 0, 0, 0)
	q := new(Query)
	if q.Parse(query) != OK {
		return nil, nil, nil
	}
	out := make([]byte, limit)
	n, ok := p.Reply(q, limit, out, 0, 5)
	if !ok || n > limit {
		t.Fatalf("%d bytes of at most %d, %v", n, limit, ok)
	}
	return p, q, out[:n]
}

// check compares a reply with what was packed.
func check(t *testing.T, p *Packed, q *Query, out []byte, limit int) {
	t.Helper()
	whole, got := unpack(t, p.msg), unpack(t, out)
	if cut := p.Len()+optLen > limit; cut && !got.Truncated || len(got.Answer) > len(whole.Answer) || !cut && len(got.Answer) != len(whole.Answer) {
		t.Fatalf("limit %d, length %d: %v", limit, p.Len(), got)
	}
	if got.IsEdns0() == nil || got.Id != 0x0909 || !got.Response {
		t.Fatalf("%v", got)
	}
	for _, rr := range append(got.Answer, got.Ns...) {
		if rr.Header().Ttl != 5 {
			t.Fatalf("TTL stayed: %v", rr)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	edns := withOPT(t, func(*dnswire.OPT) {})
	p, err := Pack(reply(t, 10, true))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := Pack(reply(t, 60, false))
	if err != nil {
		t.Fatal(err)
	}
	hit := ask(t, "www.example.org.", dnswire.TypeA)
	var q Query
	out := make([]byte, 4096)
	for name, f := range map[string]func(){
		"parse":  func() { q.Parse(edns) },
		"build":  func() { q.Parse(edns); answer(&q, 1232, out) },
		"reject": func() { q.Parse(edns); Refuse(&q, Refused, out) },
		"patch":  func() { q.Parse(hit); p.Reply(&q, 512, out, FlagAA, 3) },
		"cut":    func() { q.Parse(hit); whole.Reply(&q, 512, out, 0, 3) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var soa = SOA{Primary: []byte("\x02ns\x03dns"), Mailbox: []byte("\x0ahostmaster"), TTL: 30, Serial: 7, Minimum: 30}

func answer(q *Query, limit int, out []byte) int {
	b := Begin(q, limit, out)
	b.Record(Answer, Asked, TypeA, 30, []byte{10, 0, 0, 1})
	b.SOA(Authority, q.Tail(1), &soa)
	return b.Finish(FlagAA, Success)
}

func BenchmarkParse(b *testing.B) {
	msg := ask(b, "kubernetes.default.svc.cluster.local.", dnswire.TypeA)
	var q Query
	b.ReportAllocs()
	for b.Loop() {
		q.Parse(msg)
	}
}

func BenchmarkParseBuild(b *testing.B) {
	msg := withOPT(b, func(*dnswire.OPT) {})
	var q Query
	out := make([]byte, 1232)
	b.ReportAllocs()
	for b.Loop() {
		q.Parse(msg)
		answer(&q, 1232, out)
	}
}

func BenchmarkPackedReply(b *testing.B) {
	p, err := Pack(reply(b, 4, true))
	if err != nil {
		b.Fatal(err)
	}
	msg := ask(b, "www.example.org.", dnswire.TypeA)
	var q Query
	out := make([]byte, 1232)
	b.ReportAllocs()
	for b.Loop() {
		q.Parse(msg)
		p.Reply(&q, 512, out, FlagAA, 3)
	}
}
