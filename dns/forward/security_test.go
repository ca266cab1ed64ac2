package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/wait"
	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// forgeries are messages that a forger could send without knowing everything: each differs from
// the reply in one respect.
func forgeries(a ask) map[string][]byte {
	evil := func() *dnswire.Msg { return a.says(0, a.Question[0].Name+" 60 IN A 203.0.113.66") }
	out := map[string][]byte{"empty": {}, "short": {1, 2, 3}, "noise": make([]byte, 200)}
	m := evil()
	m.Id++
	out["other id"] = packed(m)
	m = evil()
	m.Question[0].Name = "other.example."
	out["other name"] = packed(m)
	m = evil()
	m.Question[0].Qtype = dnswire.TypeAAAA
	out["other type"] = packed(m)
	m = evil()
	m.Question[0].Qclass = dnswire.ClassCHAOS
	out["other class"] = packed(m)
	m = evil()
	m.Response = false
	out["a query"] = packed(m)
	m = evil()
	m.Question = nil
	out["no question"] = packed(m)
	m = evil()
	m.Question = append(m.Question, m.Question[0])
	out["two questions"] = packed(m)
	m = evil()
	m.Opcode = dnswire.OpcodeUpdate
	out["other opcode"] = packed(m)
	b := packed(evil())
	out["cut short"] = b[:len(b)-1-wire.HeaderLen]
	return out
}

// TestForgedReply (CVE-2023-28452, CVE-2023-30464, coredns 8287): a message that is not the reply
// neither answers the client nor ends the wait for the reply.
func TestForgedReply(t *testing.T) {
	for _, kind := range []string{"empty", "short", "noise", "other id", "other name", "other type", "other class",
		"a query", "no question", "two questions", "other opcode", "cut short"} {
		t.Run(kind, func(t *testing.T) {
			up := (&fake{answer: func(a ask) [][]byte {
				b := forgeries(a)[kind]
				return [][]byte{b, b, packed(a.says(0, a.Question[0].Name+" 60 IN A 192.0.2.1"))}
			}}).start(t)
			f := made(t, quick(up))
			if got := got(serve(f, "www.example. A")); got != "NOERROR www.example. 192.0.2.1" {
				t.Error(got)
			}
			if n := testutil.ToFloat64(f.Upstreams()[0].stats.mismatches); n != 2 {
				t.Error("counted:", n)
			}
		})
	}
}

// TestForgedReplies: after a number of them the question goes over TCP.
func TestForgedReplies(t *testing.T) {
	up := (&fake{answer: func(a ask) [][]byte {
		if a.proto == "tcp" {
			return always("192.0.2.1")(a)
		}
		var out [][]byte
		for range maxForged {
			out = append(out, forgeries(a)["other id"])
		}
		return append(out, packed(a.says(0, a.Question[0].Name+" 60 IN A 203.0.113.66")))
	}}).start(t)
	if got := got(serve(made(t, quick(up)), "www.example. A")); got != "NOERROR www.example. 192.0.2.1" {
		t.Error(got)
	}
}

// TestForgedStream: on a connection nothing but the reply may come.
func TestForgedStream(t *testing.T) {
	for kind := range forgeries(ask{Msg: request("www.example. A").Msg}) {
		if kind == "empty" {
			continue // no message at all
		}
		t.Run(kind, func(t *testing.T) {
			up := (&fake{answer: func(a ask) [][]byte { return [][]byte{forgeries(a)[kind]} }}).start(t)
			d := quick(up)
			d.HealthCheck = 0
			if p := serve(made(t, d), "www.example. A tcp"); p.Code() != dnswire.RcodeServerFailure || p.Err == nil {
				t.Error(got(p), p.Err)
			}
		})
	}
}

// TestUnpredictable (CVE-2019-19794, CVE-2023-30464): every query has a port and an id of its own.
func TestUnpredictable(t *testing.T) {
	up := (&fake{answer: always("192.0.2.1")}).start(t)
	f := made(t, quick(up))
	const n = 64
	for range n {
		serve(f, "www.example. A")
	}
	ports, ids := map[uint16]bool{}, map[uint16]bool{}
	var steps int
	seen := up.asked()
	for i, a := range seen {
		ports[a.from.Port()], ids[a.Id] = true, true
		if i > 0 && a.from.Port()-seen[i-1].from.Port() < 8 {
			steps++
		}
	}
	// Of 64 draws from 28,232 ports or 65,536 ids, hardly any are the same.
	if len(ports) < n-4 || len(ids) < n-4 || steps > n/4 {
		t.Errorf("%d ports, %d ids, %d small steps in %d queries", len(ports), len(ids), steps, n)
	}
}

// TestOneFlight (birthday attacks): however many clients ask for a name at the same time, the
// upstream is asked once, so that a forger has one id to guess. What makes another answer makes
// another question.
func TestOneFlight(t *testing.T) {
	hold := make(chan struct{})
	up := (&fake{answer: func(a ask) [][]byte { <-hold; return always("192.0.2.1")(a) }}).start(t)
	f := made(t, quick(up))
	const clients = 200
	var all sync.WaitGroup
	answers := make([]string, clients)
	for i := range clients {
		name := []byte("www.example.")
		for j := range name {
			if rand.IntN(2) == 0 && name[j] >= 'a' {
				name[j] -= 'a' - 'A'
			}
		}
		all.Go(func() {
			p := serve(f, string(name)+" A ad")
			answers[i] = strings.TrimSuffix(got(p), " "+string(name)+" 192.0.2.1")
		})
	}
	wait.Until(t, "all wait", func() bool { return waiting(f) == clients })
	others := []string{"www.example. AAAA", "www.example. A do", "www.example. A cd", "www.example. A norec", "www.example. A tcp", "w.example. A"}
	for _, q := range others {
		all.Go(func() { serve(f, q) })
	}
	wait.Until(t, "all are asked", func() bool { return len(up.asked()) == 1+len(others) })
	close(hold)
	all.Wait()
	for i, a := range answers {
		if a != "NOERROR" {
			t.Errorf("client %d: %s", i, a)
		}
	}
	if n := len(up.asked()); n != 1+len(others) {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestScrub (cure53 2018, coredns 5174): what does not belong to the question is taken out of a
// reply before anyone sees it.
func TestScrub(t *testing.T) {
	for _, tt := range []struct {
		name, ask               string
		answer, ns, extra       []string
		want, wantNs, wantExtra []string
	}{
		{name: "another name in the answer", ask: "www.example.org. A",
			answer: []string{"www.example.org. 60 IN A 192.0.2.1", "bank.example. 60 IN A 203.0.113.66"},
			want:   []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{name: "another type", ask: "www.example.org. A",
			answer: []string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN TXT \"x\""},
			want:   []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{name: "another class", ask: "www.example.org. A",
			answer: []string{"www.example.org. 60 CH A 192.0.2.1"}},
		{name: "a chain in disorder", ask: "a.example.org. A",
			answer: []string{"c.example. 60 IN A 192.0.2.1", "b.example. 60 IN CNAME c.example.", "a.example.org. 60 IN CNAME B.example.", "d.example. 60 IN A 203.0.113.66"},
			want:   []string{"a.example.org. 60 IN CNAME B.example.", "b.example. 60 IN CNAME c.example.", "c.example. 60 IN A 192.0.2.1"}},
		{name: "a circle", ask: "a.example.org. A",
			answer: []string{"a.example.org. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example.org."},
			want:   []string{"a.example.org. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example.org."}},
		{name: "a CNAME is the answer", ask: "a.example.org. CNAME",
			answer: []string{"a.example.org. 60 IN CNAME b.example.", "b.example. 60 IN A 203.0.113.66"},
			want:   []string{"a.example.org. 60 IN CNAME b.example."}},
		{name: "a tree is renamed", ask: "a.old.example. A",
			answer: []string{"old.example. 60 IN DNAME new.example.", "a.old.example. 60 IN CNAME a.new.example.", "a.new.example. 60 IN A 192.0.2.1", "other.example. 60 IN DNAME evil.example."},
			want:   []string{"old.example. 60 IN DNAME new.example.", "a.old.example. 60 IN CNAME a.new.example.", "a.new.example. 60 IN A 192.0.2.1"}},
		{name: "other zones in the authority", ask: "www.example.org. A",
			answer: []string{"www.example.org. 60 IN A 192.0.2.1"},
			ns:     []string{"example.org. 60 IN NS ns.example.org.", "example.com. 60 IN NS ns.evil.example.", "xample.org. 60 IN SOA a. b. 1 2 3 4 5"},
			extra:  []string{"ns.example.org. 60 IN A 192.0.2.53", "www.bank.example. 60 IN A 203.0.113.66", "ns.evil.example. 60 IN A 203.0.113.66", "ns.example.org. 60 IN TXT \"x\""},
			want:   []string{"www.example.org. 60 IN A 192.0.2.1"}, wantNs: []string{"example.org. 60 IN NS ns.example.org."},
			wantExtra: []string{"ns.example.org. 60 IN A 192.0.2.53"}},
		{name: "a denial", ask: "nx.example.org. A",
			ns:     []string{"example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5", "a.example.org. 60 IN NSEC c.example.org. A"},
			wantNs: []string{"example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"}},
		{name: "a denial with its proof", ask: "nx.example.org. A do",
			ns:     []string{"example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5", "a.example.org. 60 IN NSEC z.example.org. A", "evil.example. 60 IN NSEC f.evil.example. A"},
			wantNs: []string{"example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5", "a.example.org. 60 IN NSEC z.example.org. A"}},
		{name: "a service", ask: "_s._tcp.example.org. SRV",
			answer:    []string{"_s._tcp.example.org. 60 IN SRV 0 0 1 h.example."},
			extra:     []string{"h.example. 60 IN AAAA 2001:db8::1", "i.example. 60 IN AAAA 2001:db8::2"},
			want:      []string{"_s._tcp.example.org. 60 IN SRV 0 0 1 h.example."},
			wantExtra: []string{"h.example. 60 IN AAAA 2001:db8::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := (&fake{answer: func(a ask) [][]byte {
				m := a.says(0, tt.answer...)
				m.Ns = records(tt.ns...)
				m.Extra = append(m.Extra, records(tt.extra...)...)
				return [][]byte{packed(m)}
			}}).start(t)
			f := made(t, quick(up))
			m := serve(f, tt.ask).Msg
			for _, s := range []struct {
				want []string
				have []dnswire.RR
			}{{tt.want, m.Answer}, {tt.wantNs, m.Ns}, {tt.wantExtra, m.Extra}} {
				var have []string
				for _, rr := range s.have {
					have = append(have, strings.ReplaceAll(rr.String(), "\t", " "))
				}
				if diff := cmp.Diff(s.want, have); diff != "" {
					t.Error(diff)
				}
			}
			dropped := len(tt.answer) + len(tt.ns) + len(tt.extra) - len(m.Answer) - len(m.Ns) - len(m.Extra)
			if n := testutil.ToFloat64(f.metrics.scrubbed); int(n) != dropped {
				t.Errorf("counted %v, dropped %d", n, dropped)
			}
		})
	}
}

// TestOPT: of an upstream's EDNS only an explanation reaches the client, and codes that need EDNS
// do not.
func TestOPT(t *testing.T) {
	up := (&fake{answer: func(a ask) [][]byte {
		m := a.says(dnswire.RcodeServerFailure)
		if a.Question[0].Name == "odd.example." {
			m.Rcode = dnswire.RcodeBadCookie
		}
		m.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_EDE{InfoCode: 6, ExtraText: "bogus"},
			&dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID, Nsid: "aa"}, &dnswire.EDNS0_COOKIE{Code: dnswire.EDNS0COOKIE, Cookie: "0011223344556677"}}
		return [][]byte{packed(m)}
	}}).start(t)
	f := made(t, quick(up))
	for _, name := range []string{"www.example.", "odd.example."} {
		m := serve(f, name+" A do").Msg
		if opt := m.IsEdns0(); m.Rcode != dnswire.RcodeServerFailure || len(m.Extra) != 1 || opt == nil || len(opt.Option) != 1 || opt.Option[0].Option() != dnswire.EDNS0EDE {
			t.Errorf("%v", m)
		}
	}
}

// FuzzRead: nothing is taken for the reply but a message with the id and the question, whatever
// comes; and no record of it survives that does not belong to the question.
func FuzzRead(f *testing.F) {
	q, err := newQuestion(flightKey{name: "www.example.", typ: dnswire.TypeA, class: dnswire.ClassINET, do: true}, "WWW.example.", nil)
	if err != nil {
		f.Fatal(err)
	}
	a := ask{Msg: new(dnswire.Msg)}
	if err := a.Unpack(q.wire); err != nil {
		f.Fatal(err)
	}
	for _, b := range forgeries(a) {
		f.Add(b)
	}
	f.Add(packed(a.says(0, "www.example. 60 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1", "c.example. 60 IN A 192.0.2.2")))
	bare := a.says(0, "www.example. 60 IN A 192.0.2.1")
	bare.Answer = append(bare.Answer, &dnswire.RR_Header{Name: "www.example.", Rrtype: dnswire.TypeSOA, Class: dnswire.ClassINET})
	f.Add(packed(bare))
	fw := &Forward{metrics: NewMetrics()}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, v := q.read(b, a.Id)
		if v != reply {
			return
		}
		if binary.BigEndian.Uint16(b) != a.Id || !m.Response || len(m.Question) != 1 || plugin.Canonical(m.Question[0].Name) != "www.example." {
			t.Fatalf("taken: %v", m)
		}
		m = fw.scrub(m, q)
		for _, rr := range m.Answer {
			if rr.Header().Class != dnswire.ClassINET {
				t.Fatalf("kept: %v", rr)
			}
		}
		if m.Rcode > 15 {
			t.Fatalf("code %d", m.Rcode)
		}
		out, err := dress(&plugin.Request{Msg: a.Msg}, m).Pack()
		if err != nil {
			return // the server answers SERVFAIL
		}
		if err := new(dnswire.Msg).Unpack(out); err != nil {
			t.Fatalf("cannot be read again: %v: %v", err, m)
		}
	})
}
