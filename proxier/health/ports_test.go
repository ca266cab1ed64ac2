package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// freePort returns a port that is free on the loopback addresses now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// snapshot returns one with a Service per port, in the order given: web-0, web-1 ...
func snapshot(prefixes []string, localReady int, ports ...uint16) *proxier.Snapshot {
	s := revision(1)
	for _, p := range prefixes {
		s.Node.NodePorts = append(s.Node.NodePorts, netip.MustParsePrefix(p))
	}
	for i, port := range ports {
		s.Services = append(s.Services, &proxier.Service{
			NamespacedName:  proxier.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("web-%d", i)},
			HealthCheckPort: port, LocalReady: localReady,
		})
		s.HealthPorts = append(s.HealthPorts, port)
	}
	slices.Sort(s.HealthPorts)
	return s
}

// start runs Ports until the test ends.
func start(t *testing.T, m *Monitor) *Ports {
	t.Helper()
	p := NewPorts(m)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// failed lists the Services whose ports are busy.
func failed(p *Ports) []string {
	var out []string
	for _, problem := range p.Problems() {
		if problem.Reason == "FailedToStartServiceHealthcheck" && strings.Contains(problem.Message, "address already in use") {
			out = append(out, problem.Object.String())
		}
	}
	return out
}

// client makes a connection per request, so that nothing outlives a test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := client.Post(url, "text/plain", strings.NewReader("any method will do"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestPortsAnswer(t *testing.T) {
	m := NewMonitor(time.Minute)
	p := start(t, m)
	port := freePort(t)
	tests := []struct {
		name   string
		ready  int
		behind bool
		code   int
		body   string
	}{
		{"none here", 0, false, 503, `{"service":{"namespace":"shop","name":"web-0"},"localEndpoints":0,"serviceProxyHealthy":true}`},
		{"two here", 2, false, 200, `{"service":{"namespace":"shop","name":"web-0"},"localEndpoints":2,"serviceProxyHealthy":true}`},
		{"two here, node behind", 2, true, 503, `{"service":{"namespace":"shop","name":"web-0"},"localEndpoints":2,"serviceProxyHealthy":false}`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := snapshot([]string{"0.0.0.0/0"}, tc.ready, port)
			m.timeout = time.Minute
			m.Published(s)
			m.Applied(proxier.Applied{Now: s})
			if tc.behind {
				m.timeout = 0
				m.Published(revision(2))
			}
			p.Sync(s)
			code, body, header := get(t, fmt.Sprintf("http://127.0.0.1:%d/any/path", port))
			if code != tc.code || body != tc.body {
				t.Errorf("answer %d %s, want %d %s", code, body, tc.code, tc.body)
			}
			want := map[string]string{
				"Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
				"X-Load-Balancing-Endpoint-Weight": fmt.Sprint(tc.ready),
			}
			for k, v := range want {
				if header.Get(k) != v {
					t.Errorf("%s: %q, want %q", k, header.Get(k), v)
				}
			}
		})
	}
}

// reachable lists which of the addresses accept a connection on port.
func reachable(port uint16, addrs ...string) []string {
	var out []string
	for _, a := range addrs {
		if c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), port).String()); err == nil {
			c.Close()
			out = append(out, a)
		}
	}
	return out
}

func TestPortsListenWhereNodePortsAre(t *testing.T) {
	p := start(t, NewMonitor(time.Minute))
	// 127.0.0.0/8 is local as a whole, so these stand in for the node's addresses; as loopback
	// addresses they are passed off as others by locals.
	locals := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	p.locals = func() ([]netip.Addr, error) { return locals, nil }
	port := freePort(t)

	p.Sync(snapshot([]string{"0.0.0.0/0", "::/0"}, 1, port))
	if diff := cmp.Diff([]string{"127.0.0.1", "::1"}, reachable(port, "127.0.0.1", "::1")); diff != "" {
		t.Errorf("all addresses (-want +got):\n%s", diff)
	}
	p.Sync(snapshot([]string{"::/0"}, 1, port))
	if diff := cmp.Diff([]string{"::1"}, reachable(port, "127.0.0.1", "::1")); diff != "" {
		t.Errorf("IPv6 only (-want +got):\n%s", diff)
	}
	p.Sync(snapshot([]string{"192.0.2.0/24"}, 1, port))
	if got := reachable(port, "127.0.0.1", "::1"); got != nil {
		t.Errorf("a range without a local address is reachable at %v", got)
	}
}

func TestAddresses(t *testing.T) {
	local := []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"),
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1"),
	}
	tests := map[string][]string{
		"":                           nil,
		"0.0.0.0/0":                  {"0.0.0.0"},
		"0.0.0.0/0 ::/0":             {"0.0.0.0", "::"},
		"192.0.2.0/24":               {"192.0.2.1"},
		"192.0.2.1/32 198.51.0.0/16": {"192.0.2.1", "198.51.100.1"},
		"192.0.2.0/24 192.0.2.0/25":  {"192.0.2.1"},
		"0.0.0.0/0 2001:db8::/32":    {"0.0.0.0", "2001:db8::1"},
		"0.0.0.0/0 192.0.2.0/24":     {"0.0.0.0"},
		"127.0.0.0/8":                nil,
		"10.0.0.0/8":                 nil,
	}
	for prefixes, want := range tests {
		p := &Ports{locals: func() ([]netip.Addr, error) { return local, nil }}
		var in []netip.Prefix
		for _, s := range strings.Fields(prefixes) {
			in = append(in, netip.MustParsePrefix(s))
		}
		addrs, err := p.addresses(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", prefixes, diff)
		}
	}
}

// TestPortsFollow: ports of Services that go are closed, a port that moves to another Service
// is answered for that one, and an address that comes later is listened on.
func TestPortsFollow(t *testing.T) {
	p := start(t, NewMonitor(time.Minute))
	one, two := freePort(t), freePort(t)
	for one == two {
		two = freePort(t)
	}
	p.Sync(snapshot([]string{"0.0.0.0/0"}, 1, one, two))
	for i, port := range []uint16{one, two} {
		if _, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); !strings.Contains(body, fmt.Sprintf("web-%d", i)) {
			t.Errorf("port %d answers %s", port, body)
		}
	}
	p.Sync(snapshot([]string{"0.0.0.0/0"}, 1, two))
	if got := reachable(one, "127.0.0.1"); got != nil {
		t.Errorf("the port of a Service that went is open")
	}
	if _, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", two)); !strings.Contains(body, "web-0") {
		t.Errorf("the port that moved answers %s", body)
	}
	p.Sync(snapshot([]string{"0.0.0.0/0"}, 1))
	if got := reachable(two, "127.0.0.1"); got != nil {
		t.Errorf("the port of a Service that went is open")
	}
	if got := failed(p); got != nil {
		t.Errorf("failures: %v", got)
	}
}

// TestPortsRetry: a busy port is reported, never stops other ports, and is taken when it
// becomes free.
func TestPortsRetry(t *testing.T) {
	t.Parallel()
	p := start(t, NewMonitor(time.Minute))
	busy, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken, free := netip.MustParseAddrPort(busy.Addr().String()).Port(), freePort(t)
	s := snapshot([]string{"0.0.0.0/0"}, 1, taken, free)
	p.Sync(s)
	p.Sync(s)
	if diff := cmp.Diff([]string{"shop/web-0"}, failed(p)); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if code, _, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", free)); code != 200 {
		t.Errorf("the other port answers %d", code)
	}
	busy.Close()
	wait.Until(t, "the port is taken once it is free", func() bool { return len(reachable(taken, "127.0.0.1")) > 0 })
	if got := failed(p); got != nil {
		t.Errorf("failures after the port was taken: %v", got)
	}
}

// TestSameHealthPort: of two Services that ask for one port, the first by name has it.
func TestSameHealthPort(t *testing.T) {
	p := start(t, NewMonitor(time.Minute))
	port := freePort(t)
	p.Sync(snapshot([]string{"0.0.0.0/0"}, 1, port, port))
	if _, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); !strings.Contains(body, "web-0") {
		t.Errorf("the port answers %s", body)
	}
	if diff := cmp.Diff([]string{"shop/web-1"}, failed(p)); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestServeHardFail(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	err = Serve(t.Context(), busy.Addr().String(), http.NotFoundHandler(), true, nil)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want address in use", err)
	}
}

func TestServeRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		ctx, cancel := context.WithCancel(t.Context())
		failures := 0
		err = Serve(ctx, busy.Addr().String(), http.NotFoundHandler(), false, func(error) {
			if failures++; failures == 3 {
				cancel()
			}
		})
		if err != nil || failures != 3 {
			t.Errorf("error %v after %d failures, want none after 3", err, failures)
		}
	})
}

func TestServeEnds(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Serve(ctx, addr, http.NotFoundHandler(), true, nil)
	}()
	wait.Until(t, "somebody listens", func() bool {
		c, err := net.Dial("tcp4", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	// A client that sends nothing does not hold up the end.
	slow, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("error %v", err)
	}
}

// TestSlowClient: a client that never ends its request is cut off.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	p := start(t, NewMonitor(time.Minute))
	port := freePort(t)
	p.Sync(snapshot([]string{"0.0.0.0/0"}, 1, port))
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: slow"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the server kept a slow client: %v", err)
	}
}
