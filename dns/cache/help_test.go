package cache

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directive is what a Corefile with nothing but "cache" says.
func directive() *corefile.Cache {
	return &corefile.Cache{Zones: []string{"."}, SuccessCap: 9984, SuccessTTL: time.Hour, SuccessMinTTL: 5 * time.Second,
		DenialCap: 9984, DenialTTL: 30 * time.Minute, DenialMinTTL: 5 * time.Second, ServfailTTL: 5 * time.Second,
		PrefetchDuration: time.Minute, PrefetchPercentage: 10}
}

// A source is what is behind a cache.
type source struct {
	mu    sync.Mutex
	n     int // requests
	last  *plugin.Request
	reply func(*plugin.Request) plugin.Reply
	delay time.Duration
}

func (s *source) Serve(ctx context.Context, r *plugin.Request) plugin.Reply {
	s.mu.Lock()
	s.n++
	s.last = r
	reply, delay := s.reply, s.delay
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return plugin.Fail("forward", dnswire.RcodeServerFailure, ctx.Err())
		}
	}
	return reply(r)
}

func (s *source) set(reply func(*plugin.Request) plugin.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = reply
}

func (s *source) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// gives answers with records, one a line: those with an SOA or NS go to the authority section. A
// first word such as NXDOMAIN is the code.
func gives(lines ...string) func(*plugin.Request) plugin.Reply {
	return func(r *plugin.Request) plugin.Reply {
		return plugin.Answered("forward", message(r.Msg, lines...))
	}
}

func message(q *dnswire.Msg, lines ...string) *dnswire.Msg {
	m := new(dnswire.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	for _, l := range lines {
		if rcode, ok := dnswire.StringToRcode[l]; ok {
			m.Rcode = rcode
			continue
		}
		rr, err := dnswire.NewRR(l)
		if err != nil {
			panic(err)
		}
		switch rr.(type) {
		case *dnswire.SOA, *dnswire.NS:
			m.Ns = append(m.Ns, rr)
		default:
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

const soa = "example.org. 3600 IN SOA ns.example.org. host.example.org. 1 7200 1800 86400 60"

// A rig is a cache with a source behind it.
type rig struct {
	*Cache
	*source
	h plugin.Handler
	m *Metrics
}

// newRig makes a cache that is closed with the test.
func newRig(t testing.TB, d *corefile.Cache, reply func(*plugin.Request) plugin.Reply) *rig {
	t.Helper()
	m := NewMetrics()
	c, err := New(d, Options{Server: "dns://:53", Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	s := &source{reply: reply}
	t.Cleanup(func() { c.Close() })
	return &rig{c, s, c.Wrap(s), m}
}

// request makes a request of what [dnstest.Parse] reads.
func request(s string) *plugin.Request {
	m, proto, err := dnstest.Parse(s)
	if err != nil {
		panic(err)
	}
	m.Id = 4711
	return &plugin.Request{Msg: m, Proto: proto, Zone: "."}
}

// ask asks on the slow path and puts the reply in words.
func (g *rig) ask(s string) string { return words(g.h.Serve(context.Background(), request(s))) }

// fast asks on the fast path and puts the reply in words, or returns "" if it has none.
func (g *rig) fast(t testing.TB, s string) string {
	t.Helper()
	m := g.fastMsg(t, s)
	if m == nil {
		return ""
	}
	return words(plugin.Answered("", m))
}

func (g *rig) fastMsg(t testing.TB, s string) *dnswire.Msg {
	t.Helper()
	raw, err := request(s).Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if v := q.Parse(raw); v != wire.OK {
		t.Fatal("verdict", v)
	}
	out := make([]byte, 4096)
	n, ok := g.Answer(&q, len(out), out)
	if !ok {
		return nil
	}
	m := new(dnswire.Msg)
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatal(err)
	}
	return m
}

// words are the code, the flags and the records of a reply: NOERROR aa www.example.org. 30 A x.
func words(p plugin.Reply) string {
	out := dnswire.RcodeToString[p.Code()]
	if p.Msg == nil {
		return out + " -"
	}
	for _, f := range []struct {
		name string
		on   bool
	}{{"aa", p.Msg.Authoritative}, {"tc", p.Msg.Truncated}, {"ad", p.Msg.AuthenticatedData}, {"cd", p.Msg.CheckingDisabled}} {
		if f.on {
			out += " " + f.name
		}
	}
	for _, s := range [][]dnswire.RR{p.Msg.Answer, p.Msg.Ns, p.Msg.Extra} {
		for _, rr := range s {
			h := rr.Header()
			if h.Rrtype == dnswire.TypeOPT {
				continue
			}
			out += " " + h.Name + " " + strconv.Itoa(int(h.Ttl)) + " " + dnswire.TypeToString[h.Rrtype]
			if h.Rrtype != dnswire.TypeSOA {
				out += " " + strings.TrimPrefix(rr.String(), h.String())
			}
		}
	}
	return out
}
