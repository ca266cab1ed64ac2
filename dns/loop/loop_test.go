package loop

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/forward"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/proxier/wait"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve makes an upstream of a function, until the test ends.
func serve(t *testing.T, answer func(*dnswire.Msg) *dnswire.Msg) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			buf := make([]byte, 4096)
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dnswire.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			all.Go(func() {
				if m := answer(q); m != nil {
					b, _ := m.Pack()
					c.WriteTo(b, from)
				}
			})
		}
	})
	t.Cleanup(func() {
		c.Close()
		all.Wait()
	})
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func nothing(q *dnswire.Msg) *dnswire.Msg {
	return new(dnswire.Msg).SetRcode(q, dnswire.RcodeNameError)
}

func directive(from string, to ...netip.AddrPort) *corefile.Forward {
	d := &corefile.Forward{From: from, Policy: "sequential", ReadTimeout: 10 * time.Second, MaxConnectAttempts: -1, HealthDomain: "."}
	for _, a := range to {
		d.To = append(d.To, corefile.Upstream{Scheme: "dns", Addr: a})
	}
	return d
}

// A log is what a Loop said.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestLoop: an upstream that forwards to us is not asked any more, another one of the same block
// answers, and the looping one comes back when it has stopped.
func TestLoop(t *testing.T) {
	var chain plugin.Handler
	var ready sync.WaitGroup
	ready.Add(1)
	var loops atomic.Bool
	loops.Store(true)
	var probes sync.Map
	bad := serve(t, func(q *dnswire.Msg) *dnswire.Msg {
		if !loops.Load() {
			return nothing(q)
		}
		ready.Wait()
		if q.Question[0].Qtype == dnswire.TypeHINFO {
			probes.Store(q.Question[0].Name, true)
		}
		p := chain.Serve(context.Background(), &plugin.Request{Msg: q, Proto: "udp"})
		return p.Own(&plugin.Request{Msg: q}).Msg
	})
	good := serve(t, nothing)
	f, err := forward.New(directive(".", bad, good), forward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said := &log{}
	l := New(&corefile.Loop{Zone: "."}, Options{Log: slog.New(slog.NewTextHandler(said, nil))})
	l.soon, l.later, l.wait = time.Millisecond, time.Millisecond, time.Minute
	l.Watch(f)
	chain = plugin.Chain(l, f)
	ready.Done()
	if err := l.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	us := f.Upstreams()
	wait.Until(t, "the upstream is isolated", us[0].Isolated)
	p := chain.Serve(context.Background(), request("www.example.", dnswire.TypeA))
	if p.Code() != dnswire.RcodeNameError || us[1].Isolated() {
		t.Errorf("the other upstream does not answer: %v", p)
	}
	loops.Store(false)
	wait.Until(t, "the upstream is in use again", func() bool { return !us[0].Isolated() })
	l.Close()
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 || !strings.Contains(said.String(), bad.String()) {
		t.Errorf("said %d times: %s", n, said)
	}
	names, shape := 0, regexp.MustCompile(`^\d{1,19}\.\d{1,19}\.$`)
	probes.Range(func(n, _ any) bool {
		names++
		if !shape.MatchString(n.(string)) {
			t.Errorf("name %s", n)
		}
		return true
	})
	if names == 0 {
		t.Error("no names")
	}
	if len(l.names.seen) != 0 {
		t.Errorf("names stay: %v", l.names.seen)
	}
}

func request(name string, qtype uint16) *plugin.Request {
	return &plugin.Request{Msg: new(dnswire.Msg).SetQuestion(name, qtype), Proto: "udp"}
}

// TestOnlyUpstream: with no upstream left, clients get SERVFAIL, and the process lives.
func TestOnlyUpstream(t *testing.T) {
	f, err := forward.New(directive(".", serve(t, nothing)), forward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Upstreams()[0].Isolate(true)
	if p := plugin.Chain(f).Serve(context.Background(), request("www.example.", dnswire.TypeA)); p.Code() != dnswire.RcodeServerFailure || p.Err == nil {
		t.Error(p)
	}
}

// TestPacketsAreHarmless (CVE-2026-26018): queries of any name, in any number, neither end the
// process nor change anything, while names that nobody can guess are awaited.
func TestPacketsAreHarmless(t *testing.T) {
	f, err := forward.New(directive("example.org.", serve(t, nothing)), forward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := New(&corefile.Loop{Zone: "."}, Options{})
	l.Watch(f)
	h := l.Wrap(plugin.HandlerFunc(func(_ context.Context, r *plugin.Request) plugin.Reply {
		return plugin.Fail("next", dnswire.RcodeSuccess, nil)
	}))
	a, err := l.secret(f)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := l.secret(f)
	if a == b || !strings.HasSuffix(a, ".example.org.") {
		t.Error(a, b)
	}
	l.names.add(a)
	for range 5 {
		for _, r := range []*plugin.Request{request(b, dnswire.TypeHINFO), request("1.2.", dnswire.TypeHINFO), request(a, dnswire.TypeA), request(".", dnswire.TypeHINFO)} {
			if p := h.Serve(context.Background(), r); p.Plugin != "next" {
				t.Errorf("%s is not answered: %v", r.Name(), p)
			}
		}
	}
	if l.names.seen[a] {
		t.Error("the name came, and did not")
	}
	// The right name many times: refused each time, and that is all.
	for range 5 {
		if p := h.Serve(context.Background(), request(strings.ToUpper(a), dnswire.TypeHINFO)); p.Code() != dnswire.RcodeRefused {
			t.Error(p)
		}
	}
	if !l.names.take(a) || l.names.take(a) {
		t.Error("not seen, or seen twice")
	}
}

// TestDeadUpstream: an upstream without an answer is asked again for a while, and not for ever.
func TestDeadUpstream(t *testing.T) {
	var n atomic.Int32
	silent := serve(t, func(*dnswire.Msg) *dnswire.Msg { n.Add(1); return nil })
	f, err := forward.New(directive(".", silent), forward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := New(&corefile.Loop{Zone: "."}, Options{})
	l.wait, l.patience = time.Millisecond, 0
	u, k := f.Upstreams()[0], &look{since: time.Now().Add(-time.Hour)}
	l.ask(context.Background(), f, u, k)
	if !k.settled || u.Isolated() {
		t.Error("an upstream that is dead is not settled, or isolated")
	}
	l.patience, k.settled = time.Hour*2, false
	l.ask(context.Background(), f, u, k)
	if k.settled {
		t.Error("given up early")
	}
	if got := l.pause(map[*forward.Upstream]*look{u: k}); got != l.soon {
		t.Error("pause", got)
	}
	if got := l.pause(nil); got != l.later {
		t.Error("pause", got)
	}
	if err := l.Close(); err != nil { // never started
		t.Error(err)
	}
}
