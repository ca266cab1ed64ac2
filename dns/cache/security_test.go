package cache

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
)

// TestNotKept: answers that must not be given to the next client.
func TestNotKept(t *testing.T) {
	change := func(f func(*dnswire.Msg)) func(*plugin.Request) plugin.Reply {
		return func(r *plugin.Request) plugin.Reply {
			p := gives(r.Spelled() + " 60 IN A 192.0.2.1")(r)
			f(p.Msg)
			return p
		}
	}
	for _, tt := range []struct {
		name, ask string
		reply     func(*plugin.Request) plugin.Reply
	}{
		// The reply does not match the question (cure53 2018, coredns 5174).
		{"another name", "www.example. A", change(func(m *dnswire.Msg) {
			m.Question[0].Name, m.Answer[0].Header().Name = "other.example.", "other.example."
		})},
		{"another type", "www.example. AAAA", change(func(m *dnswire.Msg) { m.Question[0].Qtype = dnswire.TypeA })},
		{"another class", "www.example. A", change(func(m *dnswire.Msg) {
			m.Question[0].Qclass, m.Answer[0].Header().Class = dnswire.ClassCHAOS, dnswire.ClassCHAOS
		})},
		{"a query", "www.example. A", change(func(m *dnswire.Msg) { m.Response = false })},
		{"no question", "www.example. A", change(func(m *dnswire.Msg) { m.Question = nil })},
		{"an answer to something else", "www.example. A", gives("other.example. 60 IN A 192.0.2.1")},
		// Nobody says how long it holds (coredns 8232).
		{"NXDOMAIN without SOA", "www.example. A", gives("NXDOMAIN")},
		{"NOERROR without SOA", "www.example. A", gives()},
		{"a referral", "www.example. A", gives("example. 60 IN NS ns.example.")},
		{"a chain without end", "www.example. A", gives("www.example. 60 IN CNAME a.example.")},
		{"a chain in a circle", "www.example. A", gives("www.example. 60 IN CNAME a.example.", "a.example. 60 IN CNAME www.example.")},
		{"a chain that forks", "www.example. A", gives("www.example. 60 IN CNAME a.example.", "www.example. 60 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1")},
		{"an NXDOMAIN with records", "www.example. A", gives("NXDOMAIN", "www.example. 60 IN A 192.0.2.1", soa)},
		// Not whole, or not for everyone.
		{"truncated", "www.example. A", change(func(m *dnswire.Msg) { m.Truncated = true })},
		{"REFUSED", "www.example. A", gives("REFUSED")},
		{"FORMERR", "www.example. A", gives("FORMERR")},
		{"a zone transfer", "example. AXFR", gives("example. 60 IN AXFR \\# 0")},
		{"asked without RD", "www.example. A norec", gives("www.example. 60 IN A 192.0.2.1")},
		{"a cluster's answer", "www.example. A", func(r *plugin.Request) plugin.Reply {
			return plugin.Answered("kubernetes", message(r.Msg, "www.example. 60 IN A 192.0.2.1"))
		}},
		{"expired signatures", "www.example. A do", gives("www.example. 60 IN A 192.0.2.1",
			"www.example. 60 IN RRSIG A 8 2 60 20200101000000 20190101000000 1 example. AAAA")},
		{"nothing", "www.example. A", func(*plugin.Request) plugin.Reply { return plugin.Reply{Drop: true} }},
		// A cache of 64 KiB messages would be as large as whoever owns a zone likes.
		{"too long", "www.example. TXT", gives("www.example. 60 IN TXT " + strings.Repeat(strings.Repeat("x", 250)+" ", 17))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "a zone transfer" {
				tt.reply = func(r *plugin.Request) plugin.Reply {
					return plugin.Answered("transfer", message(r.Msg, soa))
				}
			}
			g := newRig(t, directive(), tt.reply)
			g.ask(tt.ask)
			// Also the next client, who asks properly.
			next := strings.TrimSuffix(tt.ask, " norec")
			if g.ask(next); g.asked() != 2 {
				t.Error("kept")
			}
			if g.stores[successes].entries.Load()+g.stores[denials].entries.Load() > 0 && tt.ask == next {
				t.Error("there is an entry")
			}
		})
	}
}

// TestServfailShadowsNothing (coredns 8003): an upstream's trouble does not stand in the way of an
// answer that is still good.
func TestServfailShadowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.Prefetch, d.PrefetchPercentage = 1, 90
		g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
		g.ask("a.example. A")
		g.set(gives("SERVFAIL"))
		time.Sleep(30 * time.Second)
		g.ask("a.example. A") // fetched again, in vain
		synctest.Wait()
		if g.stores[denials].entries.Load() != 1 {
			t.Fatal("the failure is not kept")
		}
		if got := g.ask("a.example. A"); got != "NOERROR a.example. 30 A 192.0.2.1" {
			t.Error(got)
		}
		g.o.Prefetch = 0
		if got := g.fast(t, "a.example. A"); got != "NOERROR a.example. 30 A 192.0.2.1" {
			t.Error("fast:", got)
		}
	})
}

// TestDOandCD (CVE-2024-0874, coredns 8272): an answer to a client that checks signatures itself is
// not given to one that does not, nor across classes. See also TestKeys.
func TestDOandCD(t *testing.T) {
	g := newRig(t, directive(), func(r *plugin.Request) plugin.Reply {
		if r.Msg.CheckingDisabled {
			return gives("www.example. 60 IN A 203.0.113.66")(r) // bogus, and the client wanted it
		}
		return gives("SERVFAIL")(r)
	})
	g.ask("www.example. A cd")
	if got := g.ask("www.example. A"); got != "SERVFAIL" {
		t.Error(got)
	}
	if got := g.fast(t, "www.example. A"); got != "SERVFAIL" {
		t.Error(got)
	}
}

// TestCachedIsNotShared: what a client's chain does to a reply must not be seen by the next.
func TestCachedIsNotShared(t *testing.T) {
	shared := message(request("www.example. A").Msg, "www.example. 600 IN A 192.0.2.1")
	shared.AuthenticatedData = true
	before := shared.Copy()
	d := directive()
	d.SuccessTTL = 30 * time.Second
	g := newRig(t, d, func(*plugin.Request) plugin.Reply { return plugin.Answered("forward", shared) })
	for range 2 {
		p := g.h.Serve(context.Background(), request("www.example. A"))
		if got := words(p); got != "NOERROR www.example. 30 A 192.0.2.1" {
			t.Error(got)
		}
		p.Msg.Answer[0].(*dnswire.A).A[3] = 66
	}
	if diff := cmp.Diff(before.String(), shared.String()); diff != "" {
		t.Errorf("the message of another was changed: %s", diff)
	}
	if got := g.fast(t, "www.example. A"); got != "NOERROR www.example. 30 A 192.0.2.1" {
		t.Error(got)
	}
}

// FuzzStore puts whatever message into a cache as the answer to its own question. What comes out
// again must be a message, must answer the question, must obey the limits, and must be the same on
// both paths.
func FuzzStore(f *testing.F) {
	for _, lines := range [][]string{
		{"www.example. 300 IN A 192.0.2.1", "www.example. 300 IN A 192.0.2.2"},
		{"www.example. 0 IN CNAME WWW2.example.", "www2.example. 4294967295 IN A 192.0.2.1"},
		{"NXDOMAIN", soa}, {soa}, {"SERVFAIL"},
	} {
		m := message(request("www.example. A opt=none").Msg, lines...)
		m.SetEdns0(4096, true)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(512))
	}
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		m := new(dnswire.Msg)
		if m.Unpack(b) != nil || len(m.Question) != 1 {
			return
		}
		r := &plugin.Request{Msg: new(dnswire.Msg), Proto: "udp"}
		r.Msg.SetQuestion(m.Question[0].Name, m.Question[0].Qtype)
		r.Msg.Question = m.Question
		raw, err := r.Msg.Pack()
		if err != nil {
			return
		}
		g := newRig(t, directive(), func(*plugin.Request) plugin.Reply { return plugin.Answered("forward", m) })
		g.h.Serve(context.Background(), r)
		q := new(wire.Query)
		if q.Parse(raw) != wire.OK {
			return
		}
		out := make([]byte, max(int(limit), wire.MinUDP))
		n, ok := g.Answer(q, len(out), out)
		if !ok {
			return
		}
		checkReply(t, g, r, m, out[:n])
	})
}

func checkReply(t *testing.T, g *rig, r *plugin.Request, stored *dnswire.Msg, out []byte) {
	t.Helper()
	fast := new(dnswire.Msg)
	if err := fast.Unpack(out); err != nil {
		t.Fatalf("%v\n%x", err, out)
	}
	if len(fast.Question) != 1 || fast.Question[0] != r.Question() || !fast.Response || fast.Id != r.Msg.Id || fast.Rcode != stored.Rcode {
		t.Fatalf("%v", fast)
	}
	before := g.asked()
	slow := g.h.Serve(context.Background(), r)
	if g.asked() != before {
		t.Fatal("a hit on the fast path is none on the slow one")
	}
	for _, s := range [][]dnswire.RR{fast.Answer, fast.Ns, fast.Extra} {
		for _, rr := range s {
			if ttl := rr.Header().Ttl; ttl > 3600 {
				t.Fatalf("TTL %d", ttl)
			}
		}
	}
	if fast.Truncated {
		return
	}
	show := func(m *dnswire.Msg) string { return fmt.Sprint(m.Answer, m.Ns, m.Extra) }
	if diff := cmp.Diff(show(slow.Msg), show(fast)); diff != "" {
		t.Fatalf("slow and fast (-slow +fast): %s", diff)
	}
}
