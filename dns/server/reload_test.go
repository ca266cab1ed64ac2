package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/proxier/wait"
)

// A load asks without pause until it is ended, and counts.
type load struct {
	asked, lost, wrong atomic.Int64
	stop               chan struct{}
	running            sync.WaitGroup
}

// startLoad asks a server for names over UDP and TCP, with so many clients of each.
func startLoad(t *testing.T, addr string, clients int, names []string, good func(*dnswire.Msg) bool) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i := range 2 * clients {
		proto := []string{"udp", "tcp"}[i%2]
		l.running.Go(func() { l.ask(t, proto, addr, names[i%len(names)], good) })
	}
	return l
}

func (l *load) ask(t *testing.T, proto, addr, name string, good func(*dnswire.Msg) bool) {
	client := &dnswire.Client{Net: proto, Timeout: patience}
	var conn *dnswire.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		var err error
		if conn == nil {
			if conn, err = client.Dial(addr); err != nil {
				t.Errorf("%s to %s: %v", proto, addr, err)
				return
			}
		}
		l.asked.Add(1)
		reply, _, err := client.ExchangeWithConn(question(name, dnswire.TypeA), conn)
		switch {
		case err != nil:
			l.lost.Add(1)
			t.Errorf("%s over %s: %v", name, proto, err)
			return
		case !good(reply):
			l.wrong.Add(1)
			t.Errorf("%s over %s: %s", name, proto, answer(reply))
			return
		}
	}
}

// end stops the load and returns how many queries were asked.
func (l *load) end() int64 {
	close(l.stop)
	l.running.Wait()
	return l.asked.Load()
}

// TestReloadUnderLoad changes the configuration 100 times, with a broken one among every five,
// while clients ask. No query is lost or answered wrongly, and none of the broken ones changes
// anything.
func TestReloadUnderLoad(t *testing.T) {
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	var forwarded atomic.Int64
	upstream := serveDNS(t, dnswire.HandlerFunc(func(w dnswire.ResponseWriter, q *dnswire.Msg) {
		forwarded.Add(1)
		m := new(dnswire.Msg).SetReply(q)
		m.Answer = []dnswire.RR{&dnswire.A{Hdr: dnswire.RR_Header{Name: q.Question[0].Name, Rrtype: dnswire.TypeA, Class: 1, Ttl: 300}, A: []byte{192, 0, 2, 1}}}
		_ = w.WriteMsg(m) // a client that is gone needs no reply
	}))
	other := netip.MustParseAddrPort("127.0.0.9:0") // comes and goes
	variant := func(n int) string {
		text := fmt.Sprintf(cornerstone, "forward . "+upstream)
		switch n % 5 {
		case 0:
			return text + "example.org:0 {\n bind 127.0.0.9\n whoami\n}\n"
		case 1:
			return strings.ReplaceAll(text, "ttl 30", "ttl "+fmt.Sprint(n))
		case 2:
			return strings.ReplaceAll(text, "errors\n", "errors\nlog . {\n class denial\n}\n")
		case 3:
			return strings.ReplaceAll(text, "cache 30", "cache "+fmt.Sprint(20+n))
		}
		broken := []string{"nonsense", "forward . 300.1.1.1", "cache -1", "bind 192.0.2.77"} // of the last, only listening fails
		return strings.ReplaceAll(text, "reload\n", broken[n/5%len(broken)]+"\n")
	}
	f := start(t, variant(0), c)
	l := startLoad(t, f.Addr(loopback).String(), 3, []string{"web.prod.svc.cluster.local.", "www.example.net."}, func(m *dnswire.Msg) bool {
		return m.Rcode == dnswire.RcodeSuccess && len(m.Answer) == 1
	})
	broken := 0
	for n := 1; n <= 100; n++ {
		before := f.configHash()
		f.write(variant(n))
		err := f.Reload(t.Context())
		switch {
		case n%5 == 4:
			broken++
			if err == nil || f.configHash() != before {
				t.Errorf("broken configuration %d is in force: %v", n, err)
			}
		case err != nil || f.configHash() == before:
			t.Errorf("configuration %d is not in force: %v", n, err)
		case f.Addr(other).IsValid() != (n%5 == 0):
			t.Errorf("after configuration %d the second listener is at %v", n, f.Addr(other))
		}
	}
	asked := l.end()
	if asked < 200 {
		t.Errorf("only %d queries were asked meanwhile", asked)
	}
	if n := c.connections(); n != 1 {
		t.Errorf("the cluster was connected to %d times", n)
	}
	_, page := f.fetch(metricsPage, "/metrics")
	if want := fmt.Sprintf("coredns_reload_failed_total %d\n", broken); !strings.Contains(page, want) {
		t.Errorf("the page lacks %q", want)
	}
	t.Logf("%d queries, of which %d were forwarded", asked, forwarded.Load())
}

// TestCountersStay: what a listener counted is shown before, while and after it is closed.
func TestCountersStay(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	upstream := serveDNS(t, dnswire.HandlerFunc(func(w dnswire.ResponseWriter, q *dnswire.Msg) {
		close(asked) // there is one query
		<-release
		_ = w.WriteMsg(new(dnswire.Msg).SetReply(q)) // a client that is gone needs no reply
	}))
	const stays, leaves = ".:0 {\n bind 127.0.0.1\n whoami\n}\n", ".:0 {\n bind 127.0.0.9\n forward . "
	f := start(t, stays+leaves+upstream+"\n}\n", newCluster())
	malformed := func() float64 {
		r := prometheus.NewRegistry()
		r.MustRegister(f.Collectors()...)
		list, err := r.Gather()
		if err != nil {
			t.Error(err)
		}
		for _, family := range list {
			for _, m := range family.GetMetric() {
				if family.GetName() == "fairway_dns_drops_total" && m.GetLabel()[0].GetValue() == "malformed" {
					return m.GetCounter().GetValue()
				}
			}
		}
		return -1
	}
	conn, err := net.Dial("udp", f.Addr(netip.MustParseAddrPort("127.0.0.9:0")).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query, err := question("www.example.net.", dnswire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, datagram := range [][]byte{query[:20], query} {
		if _, err := conn.Write(datagram); err != nil {
			t.Fatal(err)
		}
	}
	<-asked // so the listener cannot end
	wait.For(t, "malformed queries", 1, malformed)
	f.write(stays)
	done := make(chan error, 1)
	go func() { done <- f.Reload(t.Context()) }()
	wait.For(t, "listeners", 1, func() int { return len(*f.served.Load()) })
	if got := malformed(); got != 1 {
		t.Errorf("while the listener is closed: %v, want 1", got)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := malformed(); got != 1 {
		t.Errorf("afterwards: %v, want 1", got)
	}
}

// TestCacheSurvives: a change elsewhere leaves the cache as it was, and one that may change answers
// empties it.
func TestCacheSurvives(t *testing.T) {
	var forwarded atomic.Int64
	handler := dnswire.HandlerFunc(func(w dnswire.ResponseWriter, q *dnswire.Msg) {
		if q.Question[0].Qtype == dnswire.TypeA {
			forwarded.Add(1)
		}
		m := new(dnswire.Msg).SetReply(q)
		m.Answer = []dnswire.RR{&dnswire.A{Hdr: dnswire.RR_Header{Name: q.Question[0].Name, Rrtype: dnswire.TypeA, Class: 1, Ttl: 300}, A: []byte{192, 0, 2, 1}}}
		_ = w.WriteMsg(m) // a client that is gone needs no reply
	})
	one, two := serveDNS(t, handler), serveDNS(t, handler)
	text := func(plugins, upstream string) string {
		return fmt.Sprintf(".:0 {\n bind 127.0.0.1\n %s\n cache\n forward . %s\n}\n", plugins, upstream)
	}
	f := start(t, text("", one), newCluster())
	for i, step := range []struct {
		text string
		want int64
	}{
		{text("", one), 1}, {text("errors", one), 1}, {"# a line\n" + text("log", one), 1}, {text("", two), 2}, {text("", two), 2},
	} {
		f.write(step.text)
		if err := f.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			f.ask("www.example.net.", dnswire.TypeA)
		}
		if got := forwarded.Load(); got != step.want {
			t.Errorf("after step %d, %d queries were forwarded, want %d", i, got, step.want)
		}
	}
}

// TestPoll: a changed file is noticed without a signal, a broken one counts once, and the old
// configuration stays.
func TestPoll(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	text := fmt.Sprintf(cornerstone, "")
	f := start(t, strings.Replace(text, "reload", "reload 2s 0s", 1), c)
	reloads := func() int { return strings.Count(f.out.String(), "Running configuration SHA512") }
	f.write(strings.Replace(text, "reload", "reload 2s 0s\nlog", 1))
	wait.For(t, "reloads", 2, reloads)
	f.write("nonsense {")
	wait.For(t, "a failure", true, func() bool { return f.reloadError() != nil })
	if got := answer(f.ask("web.prod.svc.cluster.local.", dnswire.TypeA)); got != "NOERROR 10.96.0.1" {
		t.Errorf("with a broken file: %s", got)
	}
	if code, page := f.fetch("127.0.0.2:0", "/ready?verbose"); code != 200 || !strings.Contains(page, "last reload: ") {
		t.Errorf("/ready: %d %s", code, page)
	}
	f.write(strings.Replace(text, "reload", "reload 2s 0s", 1))
	wait.For(t, "reloads", 3, reloads)
	if err := f.reloadError(); err != nil {
		t.Errorf("the failure stays: %v", err)
	}
	if n := strings.Count(f.out.String(), "reload failed"); n != 1 {
		t.Errorf("one broken file made %d lines of log", n)
	}
}

// TestStartFails: what cannot be served is an error of Run, and leaves nothing open.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	missing := filepath.Join(t.TempDir(), "no", "such", "file")
	for text, named := range map[string]string{
		".:0 {\n nonsense\n}": "Unknown directive 'nonsense'",
		".:0 {\n bind 127.0.0.1\n health " + taken.Addr().String() + "\n}": "address already in use",
		".:0 {\n bind 192.0.2.77\n whoami\n}":                              "cannot assign requested address",
		".:0 {\n bind 127.0.0.1\n forward . " + missing + "\n}":            missing,
	} {
		f := newFixture(t, text, newCluster())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := f.Run(ctx); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("%s\n%v, want something about %q", text, err, named)
		}
	}
}

// TestShutdown: /ready fails at once, answers go on for as long as lameduck says.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for lameduck := time.Second; !shutdown(t, lameduck); lameduck *= 4 {
		if lameduck > patience {
			t.Fatal("no query in time")
		}
	}
}

// shutdown ends a server and looks at what it does. It returns false if the lameduck time was over
// before the test had done that: then it says nothing.
func shutdown(t *testing.T, lameduck time.Duration) bool {
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	f := start(t, strings.Replace(fmt.Sprintf(cornerstone, ""), "health 127.0.0.1:0", fmt.Sprintf("health 127.0.0.1:0 {\nlameduck %v\n}", lameduck), 1), c)
	at := f.Addr(loopback).String()
	ready := f.PageAddr("127.0.0.2:0")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- f.end() }()
	wait.For(t, "/ready", true, func() bool {
		resp, err := client.Get("http://" + ready + "/ready")
		if err != nil {
			return true // closed
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	resolver := &dnswire.Client{Timeout: patience}
	r, _, err := resolver.Exchange(question("web.prod.svc.cluster.local.", dnswire.TypeA), at)
	inTime := time.Since(began) < lameduck
	if inTime && (err != nil || answer(r) != "NOERROR 10.96.0.1") {
		t.Errorf("in lameduck: %v, %v", r, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < lameduck {
		t.Errorf("ended after %v", took)
	}
	if c, err := net.DialTimeout("tcp", at, patience); err == nil {
		c.Close()
		t.Errorf("TCP is still accepted at %s", at)
	}
	return inTime
}

// TestStale: out of contact with the cluster, answers go on, and a metric says how old they are.
func TestStale(t *testing.T) {
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	f := start(t, fmt.Sprintf(cornerstone, ""), c)
	c.setStale(time.Minute)
	if got := answer(f.ask("web.prod.svc.cluster.local.", dnswire.TypeA)); got != "NOERROR 10.96.0.1" {
		t.Errorf("out of contact: %s", got)
	}
	_, page := f.fetch(metricsPage, "/metrics")
	if !strings.Contains(page, "fairway_dns_staleness_seconds 60\n") {
		t.Error("the metric does not say how old answers are")
	}
}

// TestNotSynced: a server whose cluster does not answer starts all the same, is not ready, and
// says SERVFAIL for the names that it cannot know.
func TestNotSynced(t *testing.T) {
	c := newCluster()
	text := strings.Replace(fmt.Sprintf(cornerstone, ""), "ttl 30", "ttl 30\nstartup_timeout 10ms", 1)
	f := start(t, strings.Replace(text, "errors", "errors\nlog . {\nclass error\n}", 1), c)
	if got := answer(f.ask("web.prod.svc.cluster.local.", dnswire.TypeA)); got != "SERVFAIL" {
		t.Errorf("before the first state: %s", got)
	}
	wait.For(t, "a line of log", true, func() bool {
		return strings.Contains(f.out.String(), `"A IN web.prod.svc.cluster.local. udp 44 false 512" SERVFAIL`)
	})
	if code, body := f.fetch("127.0.0.2:0", "/ready"); code != 503 || body != "kubernetes" {
		t.Errorf("/ready: %d %q", code, body)
	}
	c.set(state(service("web", "10.96.0.1")))
	wait.For(t, "an answer", "NOERROR 10.96.0.1", func() string { return answer(f.ask("web.prod.svc.cluster.local.", dnswire.TypeA)) })
	if code, body := f.fetch("127.0.0.2:0", "/ready"); code != 200 || body != "OK" {
		t.Errorf("/ready: %d %q", code, body)
	}
}
