package forward

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/proxier/wait"
	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestAnswer: the client gets its own id, spelling and flags back, and the upstream gets a query
// that is ours.
func TestAnswer(t *testing.T) {
	up := (&fake{answer: func(a ask) [][]byte {
		m := a.says(0, strings.ToLower(a.Question[0].Name)+" 60 IN A 192.0.2.1")
		m.AuthenticatedData = true
		return [][]byte{packed(m)}
	}}).start(t)
	f := made(t, quick(up))
	r := request("WwW.example.org. A opt=none cd")
	r.Msg.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_COOKIE{Code: dnswire.EDNS0COOKIE, Cookie: "0011223344556677"}}
	p := f.Wrap(plugin.End).Serve(context.Background(), r)
	if got := got(p); got != "NOERROR WwW.example.org. 192.0.2.1" {
		t.Fatal(got, p.Err)
	}
	m := p.Msg
	if m.Id != 4711 || !m.RecursionAvailable || !m.RecursionDesired || !m.CheckingDisabled || m.AuthenticatedData || m.IsEdns0() != nil || p.Plugin != "forward" {
		t.Errorf("reply: %v", m)
	}
	q := up.asked()[0]
	if q.Id == 4711 && q.from.Port() == 4711 || !q.CheckingDisabled || !q.RecursionDesired || q.IsEdns0() == nil ||
		len(q.IsEdns0().Option) != 0 || q.IsEdns0().UDPSize() != 1232 {
		t.Errorf("the upstream was asked: %v", q)
	}
	if p := serve(f, "www.example.org. A ad"); !p.Msg.AuthenticatedData {
		t.Error("AD is lost for a client that knows it")
	}
}

// TestSend: options that the Corefile wants upstreams to get reach them, and clients share an answer
// only if they have the same.
func TestSend(t *testing.T) {
	hold := make(chan struct{})
	up := (&fake{answer: func(a ask) [][]byte { <-hold; return always("192.0.2.1")(a) }}).start(t)
	f := made(t, quick(up))
	var all sync.WaitGroup
	local := func(b byte) *dnswire.EDNS0_LOCAL { return &dnswire.EDNS0_LOCAL{Code: 65001, Data: []byte{b}} }
	for _, b := range []byte{1, 1, 2} {
		all.Go(func() {
			r := request("www.example. A")
			r.Send = []dnswire.EDNS0{local(b)}
			if got := got(f.Wrap(plugin.End).Serve(context.Background(), r)); got != "NOERROR www.example. 192.0.2.1" {
				t.Error(got)
			}
		})
	}
	all.Go(func() { serve(f, "www.example. A") })
	wait.Until(t, "all wait", func() bool { return waiting(f) == 4 && len(up.asked()) == 3 })
	close(hold)
	all.Wait()
	var got []string
	for _, a := range up.asked() {
		s := ""
		for _, o := range a.IsEdns0().Option {
			s += o.String()
		}
		got = append(got, s)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"", local(1).String(), local(2).String()}, got); diff != "" {
		t.Error(diff)
	}
}

// TestRetry: an upstream in trouble is followed by the next, and not asked again until it answers
// its health checks.
func TestRetry(t *testing.T) {
	var alive atomic.Bool
	first := (&fake{answer: func(a ask) [][]byte {
		if !alive.Load() {
			return [][]byte{nil}
		}
		return always("192.0.2.1")(a)
	}}).start(t)
	second := (&fake{answer: always("192.0.2.2")}).start(t)
	d := quick(first, second)
	d.ForceTCP = true
	f := made(t, d)
	u := f.Upstreams()[0]
	if got := got(serve(f, "a.example. A")); got != "NOERROR a.example. 192.0.2.2" {
		t.Fatal(got)
	}
	wait.Until(t, "the upstream is down", func() bool { return u.down(f.o.MaxFails) })
	if n := testutil.ToFloat64(u.stats.failures); n < 3 {
		t.Error("failed checks:", n)
	}
	before := len(first.asked())
	serve(f, "b.example. A")
	for _, a := range first.asked()[before:] {
		if a.Question[0].Qtype == dnswire.TypeA {
			t.Error("an upstream that is down was asked")
		}
	}
	alive.Store(true)
	wait.Until(t, "the upstream is up again", func() bool { return !u.down(f.o.MaxFails) && !u.checking.Load() })
	if got := got(serve(f, "c.example. A")); got != "NOERROR c.example. 192.0.2.1" {
		t.Error(got)
	}
	check := first.asked()[slices.IndexFunc(first.asked(), func(a ask) bool { return a.Question[0].Qtype == dnswire.TypeNS })]
	if check.Question[0].Name != "." || !check.RecursionDesired {
		t.Errorf("health check: %v", check)
	}
}

// TestNoReply: an upstream that says nothing is asked again.
func TestNoReply(t *testing.T) {
	var n atomic.Int32
	d := quick((&fake{answer: func(a ask) [][]byte {
		if n.Add(1) == 1 {
			return nil
		}
		return always("192.0.2.1")(a)
	}}).start(t))
	d.ReadTimeout, d.MaxConnectAttempts, d.MaxFails = 100*time.Millisecond, 0, 0
	if got := got(serve(made(t, d), "a.example. A")); got != "NOERROR a.example. 192.0.2.1" {
		t.Error(got)
	}
}

// nobody is an address where nothing listens: port 1 is that of a service of 1988.
var nobody = netip.MustParseAddrPort("127.0.0.1:1")

// TestAllDown: when no upstream answers, clients get SERVFAIL after a bounded number of attempts;
// when all are known to be down, one is still tried, unless the directive says not to.
func TestAllDown(t *testing.T) {
	gone := &fake{addr: nobody}
	d := quick(gone, gone)
	f := made(t, d)
	if n := len(f.Upstreams()); n != 1 {
		t.Fatal("upstreams:", n)
	}
	p := serve(f, "a.example. A")
	if p.Code() != dnswire.RcodeServerFailure || p.Err == nil {
		t.Error(got(p), p.Err)
	}
	if n := testutil.ToFloat64(f.metrics.connMisses.WithLabelValues("forward", gone.addr.String(), "udp")); n < 2 {
		t.Error("attempts:", n)
	}
	wait.Until(t, "down", func() bool { return f.Upstreams()[0].down(2) })
	before := testutil.ToFloat64(f.metrics.broken)
	serve(f, "b.example. A")
	if n := testutil.ToFloat64(f.metrics.broken) - before; n != 1 {
		t.Error("broken:", n)
	}
	f.o.FailfastUnhealthy = true
	if p := serve(f, "c.example. A"); p.Err != errNoHealthy {
		t.Error(p.Err)
	}
}

// TestDeadline: a query ends in time, with however many attempts to go.
func TestDeadline(t *testing.T) {
	d := quick((&fake{answer: silent}).start(t))
	d.MaxConnectAttempts = 0
	f := made(t, d)
	f.limit = 50 * time.Millisecond
	if p := serve(f, "a.example. A"); p.Code() != dnswire.RcodeServerFailure || p.Err == nil {
		t.Error(got(p), p.Err)
	}
}

// TestMaxConcurrent: above the limit, clients are refused at once.
func TestMaxConcurrent(t *testing.T) {
	hold := make(chan struct{})
	up := (&fake{answer: func(a ask) [][]byte { <-hold; return always("192.0.2.1")(a) }}).start(t)
	d := quick(up)
	d.MaxConcurrent = 2
	f := made(t, d)
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() { serve(f, "n"+strconv.Itoa(i)+".example. A") })
	}
	wait.Until(t, "two wait", func() bool { return f.active.Load() == 2 })
	if p := serve(f, "c.example. A"); p.Code() != dnswire.RcodeRefused || p.Err == nil {
		t.Error(got(p), p.Err)
	}
	close(hold)
	all.Wait()
	if p := serve(f, "c.example. A"); p.Code() != dnswire.RcodeSuccess {
		t.Error(got(p), p.Err)
	}
	if n := testutil.ToFloat64(f.metrics.rejected); n != 1 {
		t.Error("rejected:", n)
	}
}

// TestNext: the options that hand a reply, or a name, to the next forward.
func TestNext(t *testing.T) {
	first := (&fake{answer: func(a ask) [][]byte {
		switch a.Question[0].Name {
		case "nx.example.":
			return [][]byte{packed(a.says(dnswire.RcodeNameError))}
		case "none.example.":
			return [][]byte{packed(a.says(dnswire.RcodeSuccess))}
		}
		return always("192.0.2.1")(a)
	}}).start(t)
	second := (&fake{answer: always("192.0.2.2")}).start(t)
	d := quick(first)
	d.From, d.Except = "example.", []string{"not.example."}
	d.NextRcodes, d.NextOnNoData = []int{dnswire.RcodeNameError}, true
	chain := plugin.Chain(made(t, d), made(t, quick(second)))
	for q, want := range map[string]string{
		"a.example. A":     "NOERROR a.example. 192.0.2.1",
		"example. A":       "NOERROR example. 192.0.2.1",
		"a.not.example. A": "NOERROR a.not.example. 192.0.2.2",
		"badexample. A":    "NOERROR badexample. 192.0.2.2",
		"nx.example. A":    "NOERROR nx.example. 192.0.2.2",
		"none.example. A":  "NOERROR none.example. 192.0.2.2",
	} {
		if got := got(chain.Serve(context.Background(), request(q))); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	self := quick(first)
	self.From, self.Except = "example.", []string{"example."}
	selfOnly := plugin.Chain(made(t, self), made(t, quick(second)))
	for q, want := range map[string]string{"example. A": "NOERROR example. 192.0.2.1", "a.example. A": "NOERROR a.example. 192.0.2.2"} {
		if got := got(selfOnly.Serve(context.Background(), request(q))); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	if got := got(plugin.Chain(made(t, d)).Serve(context.Background(), request("nx.example. A"))); got != "NXDOMAIN" {
		t.Error("without a next forward:", got)
	}
	if p := serve(made(t, d), "example. AXFR tcp"); p.Code() != dnswire.RcodeRefused {
		t.Error("AXFR:", got(p))
	}
}

// TestFailover: a reply with one of the codes makes the next upstream answer; the last one's counts.
func TestFailover(t *testing.T) {
	code := func(rcode int) *fake {
		return (&fake{answer: func(a ask) [][]byte { return [][]byte{packed(a.says(rcode))} }}).start(t)
	}
	d := quick(code(dnswire.RcodeServerFailure), code(dnswire.RcodeRefused), (&fake{answer: always("192.0.2.3")}).start(t))
	d.FailoverRcodes = []int{dnswire.RcodeServerFailure, dnswire.RcodeRefused}
	if got := got(serve(made(t, d), "a.example. A")); got != "NOERROR a.example. 192.0.2.3" {
		t.Error(got)
	}
	d.To = d.To[:2]
	if got := got(serve(made(t, d), "a.example. A")); got != "REFUSED" {
		t.Error(got)
	}
}

func TestPolicies(t *testing.T) {
	us := []*Upstream{{}, {}, {}}
	order := func(p policy) (out string) {
		for _, u := range p(slices.Clone(us)) {
			out += strconv.Itoa(slices.Index(us, u))
		}
		return out
	}
	sequential, _ := policyOf("sequential")
	turns, _ := policyOf("round_robin")
	random, _ := policyOf("random")
	if got := order(sequential); got != "012" {
		t.Error(got)
	}
	var got []string
	for range 4 {
		got = append(got, order(turns))
	}
	if diff := cmp.Diff([]string{"102", "201", "012", "102"}, got); diff != "" {
		t.Error(diff)
	}
	firsts := map[byte]int{}
	for range 300 {
		firsts[order(random)[0]]++
	}
	for u, n := range firsts {
		if n < 50 || len(firsts) != 3 {
			t.Errorf("upstream %c is first %d times of 300", u, n)
		}
	}
	if _, err := policyOf("best"); err == nil {
		t.Error("an unknown policy is taken")
	}
}

// TestFile: when a resolv.conf changes, the upstreams do; those that stay keep their state, and a
// file that cannot be read changes nothing.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := quick()
	fixed := corefile.Upstream{Scheme: "dns", Addr: netip.MustParseAddrPort("192.0.2.9:53")}
	from := func(a string) corefile.Upstream {
		return corefile.Upstream{Scheme: "dns", Addr: netip.MustParseAddrPort(a), File: file}
	}
	d.To = []corefile.Upstream{from("192.0.2.1:53"), from("192.0.2.2:53"), fixed}
	f := made(t, d)
	list := func() (out []string) {
		for _, u := range f.Upstreams() {
			out = append(out, u.Addr())
		}
		return out
	}
	stays := f.Upstreams()[1]
	write("nameserver 192.0.2.2\nnameserver 2001:db8::1\nsearch example.org\n")
	if err := f.rereadNow(); err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.2:53", "[2001:db8::1]:53", "192.0.2.9:53"}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Error(diff)
	}
	if f.Upstreams()[0] != stays {
		t.Error("an upstream that stayed lost its state")
	}
	if stays.inUse() != true {
		t.Error("not in use")
	}
	for _, bad := range []string{"nameserver nonsense\n", ""} {
		write(bad)
		f.rereadNow()
		if bad != "" {
			if diff := cmp.Diff(want, list()); diff != "" {
				t.Error(diff)
			}
		}
	}
	os.Remove(file)
	if f.rereadNow() == nil {
		t.Error("no error")
	}
	if err := f.Start(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestIsolatedGauge: the metric tells of upstreams that are in use, by any directive, and of no others.
func TestIsolatedGauge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(a string) corefile.Upstream {
		return corefile.Upstream{Scheme: "dns", Addr: netip.MustParseAddrPort(a), File: file}
	}
	d := quick()
	d.To = []corefile.Upstream{at("192.0.2.1:53"), at("192.0.2.2:53")}
	m := NewMetrics()
	one, err := New(d, Options{Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	d.To = []corefile.Upstream{{Scheme: "dns", Addr: netip.MustParseAddrPort("192.0.2.1:53")}}
	other, err := New(d, Options{Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	expect := func(when string, want map[string]float64) {
		t.Helper()
		r := prometheus.NewRegistry()
		r.MustRegister(m)
		list, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range list {
			for _, x := range f.GetMetric() {
				if f.GetName() == "fairway_dns_forward_isolated" {
					got[x.GetLabel()[0].GetValue()] = x.GetGauge().GetValue()
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	for _, u := range one.Upstreams() {
		u.Isolate(true)
	}
	expect("isolated", map[string]float64{"192.0.2.1:53": 1, "192.0.2.2:53": 1})
	if err := one.rereadNow(); err != nil {
		t.Fatal(err)
	}
	expect("gone from the file", map[string]float64{"192.0.2.1:53": 0, "192.0.2.3:53": 0})
	one.Close()
	expect("gone from the Corefile", map[string]float64{"192.0.2.1:53": 0})
}

// TestHost: a host name among the upstreams is looked up with the resolvers of the directive.
func TestHost(t *testing.T) {
	resolver := (&fake{answer: func(a ask) [][]byte {
		if a.Question[0].Qtype == dnswire.TypeA {
			return always("127.0.0.1")(a)
		}
		return [][]byte{packed(a.says(0))}
	}}).start(t)
	up := (&fake{answer: always("192.0.2.7")}).start(t)
	d := quick()
	d.To = []corefile.Upstream{{Scheme: "dns", Host: "dns.corp.example", Port: up.addr.Port()}}
	d.Resolver = []string{resolver.addr.String()}
	if got := got(serve(made(t, d), "a.example. A")); got != "NOERROR a.example. 192.0.2.7" {
		t.Error(got)
	}
}

// TestSourceAddress: queries leave from the address that the directive names.
func TestSourceAddress(t *testing.T) {
	up := (&fake{answer: always("192.0.2.1")}).start(t)
	d := quick(up)
	d.SourceAddress = netip.MustParseAddr("127.0.0.3")
	f := made(t, d)
	serve(f, "a.example. A")
	serve(f, "a.example. A tcp")
	for _, a := range up.asked() {
		if a.from.Addr() != d.SourceAddress {
			t.Errorf("%s from %s", a.proto, a.from)
		}
	}
	if len(up.asked()) != 2 {
		t.Error("asked", len(up.asked()))
	}
}

// TestClose: closing ends what is under way, for clients too, and leaves nothing behind (TestMain
// looks for goroutines).
func TestClose(t *testing.T) {
	up := (&fake{answer: silent}).start(t)
	f := made(t, quick(up))
	done := make(chan plugin.Reply)
	go func() { done <- serve(f, "a.example. A") }()
	wait.Until(t, "asked", func() bool { return len(up.asked()) == 1 })
	f.Close()
	if p := <-done; p.Code() != dnswire.RcodeServerFailure {
		t.Error(got(p))
	}
	if p := serve(f, "b.example. A"); p.Err == nil {
		t.Error("a closed Forward answers")
	}
	// A client that goes does not end the flight, but its own wait.
	f2 := made(t, quick(up))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if p := f2.Wrap(plugin.End).Serve(ctx, request("a.example. A")); p.Err != context.Canceled {
		t.Error(p.Err)
	}
}
