package localport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback returns an address of 127/8 that other test processes do not use.
func loopback(host byte) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, 1 + byte(pid>>8)%254, byte(pid), host})
}

// nodePortNumber differs between processes for the tests that take it on every address.
var nodePortNumber = uint16(20000 + os.Getpid()%10000)

// at is where the tests' frontend is served.
func at() netip.AddrPort { return netip.AddrPortFrom(loopback(1), nodePortNumber) }

func snapshot(affinity time.Duration, endpoints ...netip.AddrPort) *proxier.Snapshot {
	owner := proxier.ServicePortName{NamespacedName: proxier.NamespacedName{Namespace: "default", Name: "web"}, Protocol: proxier.TCP}
	pool := &proxier.Pool{Owner: owner}
	for _, ap := range endpoints {
		pool.Endpoints = append(pool.Endpoints, &proxier.Endpoint{Addr: ap.Addr(), Port: ap.Port()})
	}
	f := &proxier.Frontend{
		FrontendKey: proxier.FrontendKey{Addr: netip.IPv4Unspecified(), Port: nodePortNumber, Protocol: proxier.TCP},
		Kind:        proxier.NodePort, Owner: owner, Affinity: affinity,
	}
	for o := range f.From {
		f.From[o].Pool = pool
	}
	udp := *f
	udp.Protocol, udp.Owner.Protocol = proxier.UDP, proxier.UDP
	vip := *f
	vip.Addr, vip.Kind = loopback(99), proxier.ClusterIP
	s := &proxier.Snapshot{Revision: 1, Node: &proxier.Node{}, Frontends: []*proxier.Frontend{f, &udp, &vip}}
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

// server accepts connections on an address of its own and hands them to f.
func server(t *testing.T, host byte, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback(host).AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// name answers each connection with who it is.
func name(t *testing.T, host byte) netip.AddrPort {
	return server(t, host, func(c *net.TCPConn) {
		fmt.Fprintf(c, "%d", host)
		c.Close()
	})
}

func start(t *testing.T, o Options, s *proxier.Snapshot) (*Forwarder, *proxier.Feed) {
	t.Helper()
	o.Addresses = append(o.Addresses, at().Addr())
	f, feed := New(o), &proxier.Feed{}
	feed.Publish(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx, feed); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, feed
}

func connect(t *testing.T) *net.TCPConn {
	t.Helper()
	var c net.Conn
	wait.Until(t, "connected", func() (ok bool) {
		var err error
		c, err = net.Dial("tcp", at().String())
		return err == nil
	})
	c.SetDeadline(time.Now().Add(wait.Patience))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// ask returns what the other side says until it closes. It says that it has nothing to say, so
// that an echo ends as well.
func ask(t *testing.T) string {
	t.Helper()
	c := connect(t)
	if err := c.CloseWrite(); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func refused() bool {
	c, err := net.Dial("tcp", at().String())
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestSpread(t *testing.T) {
	start(t, Options{}, snapshot(0, name(t, 11), name(t, 12)))
	got := map[string]int{}
	for range 60 {
		got[ask(t)]++
	}
	if got["11"] == 0 || got["12"] == 0 || got["11"]+got["12"] != 60 {
		t.Errorf("answers %v, want 60 from 11 and 12 together, and some from each", got)
	}
}

func TestAffinity(t *testing.T) {
	start(t, Options{}, snapshot(time.Hour, name(t, 11), name(t, 12)))
	first := ask(t)
	for range 20 {
		if got := ask(t); got != first {
			t.Fatalf("answered by %s after %s", got, first)
		}
	}
}

// TestAffinityEnds drives the choice with times of its own.
func TestAffinityEnds(t *testing.T) {
	p := &port{}
	s := snapshot(time.Hour, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1"))
	p.frontend.Store(nodePort(s, at()))
	p.remember(&proxier.Endpoint{Addr: netip.MustParseAddr("10.0.0.2"), Port: 1})
	other := func(when time.Time) bool {
		for range 100 {
			if p.choose(when)[0].String() != "10.0.0.2:1" {
				return true
			}
		}
		return false
	}
	if other(p.since.Add(59 * time.Minute)) {
		t.Error("another endpoint within the affinity")
	}
	if !other(p.since.Add(61 * time.Minute)) {
		t.Error("no other endpoint after the affinity")
	}
}

func TestEndpointThatRefuses(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback(13).AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	f, feed := start(t, Options{}, snapshot(0, name(t, 11), closed))
	for range 10 {
		if got := ask(t); got != "11" {
			t.Fatalf("answered %q, want the endpoint that accepts", got)
		}
	}
	feed.Publish(snapshot(0, closed))
	wait.Until(t, "reset when no endpoint accepts", func() bool { return strings.Contains(ask(t), "reset") })
	if total, reset := f.Connections(); reset == 0 || total < 11 {
		t.Errorf("Connections = %d, %d", total, reset)
	}
}

// TestHalfClose has a client that ends its request by closing its half.
func TestHalfClose(t *testing.T) {
	echo := server(t, 11, func(c *net.TCPConn) {
		defer c.Close()
		b, _ := io.ReadAll(c)
		c.Write(b)
	})
	start(t, Options{}, snapshot(0, echo))
	c := connect(t)
	want := strings.Repeat("fairway ", 1<<17) // 1 MiB, more than the sockets hold
	go func() {
		io.WriteString(c, want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != want {
		t.Errorf("echo of %d bytes, want %d; error %v", len(got), len(want), err)
	}
}

func TestResetTravels(t *testing.T) {
	start(t, Options{}, snapshot(0, server(t, 11, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
		c.Close()
	})))
	c := connect(t)
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// TestFollows opens and closes with the Service's endpoints, and lets connections live.
func TestFollows(t *testing.T) {
	silent := server(t, 12, func(c *net.TCPConn) { io.Copy(c, c); c.Close() })
	_, feed := start(t, Options{}, snapshot(0))
	if !refused() {
		t.Error("a port without endpoints does not refuse")
	}
	feed.Publish(snapshot(0, silent))
	old := connect(t)
	say(t, old, "hello")
	feed.Publish(snapshot(0, name(t, 11)))
	wait.Until(t, "the new endpoint answers", func() bool { return ask(t) == "11" })
	feed.Publish(snapshot(0))
	wait.Until(t, "refused without endpoints", refused)
	feed.Publish(snapshot(0, name(t, 13)))
	wait.Until(t, "the third endpoint answers", func() bool { return ask(t) == "13" })
	feed.Publish(&proxier.Snapshot{Revision: 9, Node: &proxier.Node{}})
	wait.Until(t, "refused without the Service", refused)

	say(t, old, "still here")
}

// say expects an echo.
func say(t *testing.T, c *net.TCPConn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(what))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != what {
		t.Errorf("echo of %q is %q, %v", what, buf, err)
	}
}

// TestTakenPort leaves the port to the process that has it, says so, and takes over when it ends.
func TestTakenPort(t *testing.T) {
	for _, host := range []string{at().Addr().String(), "0.0.0.0"} {
		t.Run(host, func(t *testing.T) {
			owner, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(nodePortNumber)))
			if err != nil {
				t.Fatal(err)
			}
			defer owner.Close()
			go func() {
				for {
					c, err := owner.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, "owner")
					c.Close()
				}
			}()
			f, _ := start(t, Options{Retry: 20 * time.Millisecond}, snapshot(0, name(t, 11)))
			wait.Until(t, "a problem is told", func() bool { return len(f.Problems()) == 1 })
			if p := f.Problems()[0]; p.Object.Name != "web" || !strings.Contains(p.Message, "address already in use") {
				t.Errorf("problem %s", p)
			}
			if got := ask(t); got != "owner" {
				t.Errorf("answered by %q, want the process that has the port", got)
			}
			owner.Close()
			wait.Until(t, "the problem is over", func() bool { return len(f.Problems()) == 0 })
			if got := ask(t); got != "11" {
				t.Errorf("answered by %q, want the endpoint", got)
			}
		})
	}
}

func TestTooMany(t *testing.T) {
	start(t, Options{MaxConns: 2}, snapshot(0, server(t, 11, func(c *net.TCPConn) {
		c.Write([]byte("hi"))
		io.Copy(io.Discard, c)
		c.Close()
	})))
	buf := make([]byte, 2)
	for range 2 {
		if _, err := io.ReadFull(connect(t), buf); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connect(t).Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third connection reads %v, want a reset", err)
	}
}

// TestRunEnds closes ports and connections.
func TestRunEnds(t *testing.T) {
	f, feed := New(Options{Addresses: []netip.Addr{at().Addr()}}), &proxier.Feed{}
	feed.Publish(snapshot(0, server(t, 11, func(c *net.TCPConn) {
		c.Write([]byte("hi"))
		io.Copy(io.Discard, c)
		c.Close()
	})))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx, feed); close(done) }()
	c := connect(t)
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after the end: %v, want a reset", err)
	}
	if !refused() {
		t.Error("the port still listens")
	}
}

// TestIPv6 serves [::1] beside IPv4, and only frontends of that family.
func TestIPv6(t *testing.T) {
	l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatalf("no IPv6 loopback: %v", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			io.WriteString(c, "six")
			c.Close()
		}
	}()
	free, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	number := free.Addr().(*net.TCPAddr).AddrPort().Port()
	free.Close()
	s := snapshot(0, l.Addr().(*net.TCPAddr).AddrPort())
	for _, f := range s.Frontends {
		if f.IsNodePort() && f.Protocol == proxier.TCP {
			f.Addr, f.Port = netip.IPv6Unspecified(), number
		}
	}
	start(t, Options{Addresses: []netip.Addr{netip.IPv6Loopback()}}, s)
	var c net.Conn
	wait.Until(t, "connected", func() bool {
		c, err = net.Dial("tcp", netip.AddrPortFrom(netip.IPv6Loopback(), number).String())
		return err == nil
	})
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "six" {
		t.Errorf("answered %q, %v", got, err)
	}
	if !refused() {
		t.Error("an IPv6 frontend is served over IPv4")
	}
}
