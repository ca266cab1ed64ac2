package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// gone reports whether the other side closes a connection; what it still sends is read.
func gone(t testing.TB, c net.Conn) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// from connects over TCP from an address of loopback.
func from(t testing.TB, source string, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// TestPipeline: many queries in one write are all answered, fast ones before slow ones that wait,
// and no more slow ones are in work than may be.
func TestPipeline(t *testing.T) {
	gate := make(chan struct{})
	l := serve(t, loopback, Options{Slow: slowly(gate), MaxPipeline: 8})
	c := dial(t, "tcp", l.Addr())
	var all [][]byte
	const n = 300
	for id := range uint16(n) {
		name := "www.example."
		switch {
		case id%10 == 3:
			name = "wait.example."
		case id%10 == 4:
			name = "slow.example."
		}
		all = append(all, query(t, id, name, dnswire.TypeA))
	}
	b := framed(all...)
	go func() {
		for len(b) > 0 { // in pieces that do not fit messages
			k := min(97, len(b))
			if _, err := c.Write(b[:k]); err != nil {
				t.Error(err)
				return
			}
			b = b[k:]
		}
	}()
	got := map[uint16]bool{}
	next := func() {
		m, err := receive(c)
		if err != nil {
			t.Fatalf("after %d replies: %v", len(got), err)
		}
		got[m.Id] = true
	}
	for !got[72] { // what came before the eighth that waits
		next()
	}
	if running, waiting := l.o.Pool.Load(); running+waiting > 8 || got[3] {
		t.Errorf("%d run, %d wait, id 3 answered: %v", running, waiting, got[3])
	}
	close(gate)
	for len(got) < n {
		next()
	}
}

// TestHalfClose: a client that sends its queries and then closes its side gets all answers.
func TestHalfClose(t *testing.T) {
	gate := make(chan struct{})
	l := serve(t, loopback, Options{Slow: slowly(gate)})
	c := dial(t, "tcp", l.Addr()).(*net.TCPConn)
	_, _ = c.Write(framed(query(t, 1, "wait.example.", dnswire.TypeA), query(t, 2, "www.example.", dnswire.TypeA)))
	_ = c.CloseWrite()
	if m, err := receive(c); err != nil || m.Id != 2 {
		t.Fatal(m, err)
	}
	close(gate)
	if m, err := receive(c); err != nil || m.Id != 1 {
		t.Fatal(m, err)
	}
	if !gone(t, c) {
		t.Error("left open")
	}
}

// TestDeadlines: who is silent, or slow, is closed. The times are small here, and the test waits
// for as long as it takes.
func TestDeadlines(t *testing.T) {
	l := serve(t, loopback, Options{FirstTimeout: 50 * time.Millisecond, IdleTimeout: 60 * time.Millisecond})
	msg := framed(query(t, 1, "www.example.", dnswire.TypeA))
	t.Run("nothing at all", func(t *testing.T) {
		if !gone(t, dial(t, "tcp", l.Addr())) {
			t.Error("left open")
		}
	})
	t.Run("nothing more", func(t *testing.T) {
		c := dial(t, "tcp", l.Addr())
		_, _ = c.Write(msg)
		if !gone(t, c) {
			t.Error("left open")
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		c := dial(t, "tcp", l.Addr())
		closed := make(chan bool)
		go func() { closed <- gone(t, c) }()
		for i := 0; ; i++ { // never a whole message: a byte that comes does not buy time
			b := byte(0)
			if i == 0 {
				b = 1 // 256 bytes and more
			}
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
			if i == 5000 {
				t.Fatal("a query that never ends is waited for")
			}
		}
		if !<-closed {
			t.Error("left open")
		}
	})
	if s := l.Stats(); s.TimedOut != 3 {
		t.Errorf("%+v", s)
	}
}

// TestUnread: a client that asks much and reads nothing is closed, and holds nobody up.
func TestUnread(t *testing.T) {
	l := serve(t, loopback, Options{Workers: 1, WriteTimeout: 50 * time.Millisecond})
	c := dial(t, "tcp", l.Addr())
	big := framed(query(t, 1, "big.example.", 4000))
	for {
		if _, err := c.Write(big); err != nil {
			break // closed by the server
		}
	}
	if m := ask(t, dial(t, "tcp", l.Addr()), query(t, 2, "www.example.", dnswire.TypeA)); len(m.Answer) != 1 {
		t.Error(m)
	}
	wait.Until(t, "what waited is released", func() bool { return l.tcp.unsent.Load() == 0 && l.Stats().Conns == 1 })
}

// TestAbuse: what no client sends ends the connection.
func TestAbuse(t *testing.T) {
	l := serve(t, loopback, Options{MaxQuery: 1000})
	reply := query(t, 1, "www.example.", dnswire.TypeA)
	reply[2] |= 0x80
	for name, b := range map[string][]byte{
		"too long":      {0x04, 0x00, 1, 2, 3},
		"a reply":       framed(reply),
		"no header":     framed(reply[:5]),
		"empty message": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, "tcp", l.Addr())
			_, _ = c.Write(b)
			if !gone(t, c) {
				t.Error("left open")
			}
		})
	}
	if s := l.Stats(); s.Abused != 4 {
		t.Errorf("%+v", s)
	}
	// The longest that is allowed.
	m := new(dnswire.Msg)
	m.SetQuestion("www.example.", dnswire.TypeA)
	m.SetEdns0(4096, false)
	m.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_PADDING{Padding: make([]byte, 1000-12-17-11-4)}}
	b, err := m.Pack()
	if err != nil || len(b) != 1000 {
		t.Fatal(len(b), err)
	}
	if got := ask(t, dial(t, "tcp", l.Addr()), b); len(got.Answer) != 1 {
		t.Error(got)
	}
}

// TestConnsPerClient: one client does not get all connections.
func TestConnsPerClient(t *testing.T) {
	l := serve(t, loopback, Options{MaxConnsPerClient: 3})
	for range 3 {
		ask(t, from(t, "127.0.0.2", l.Addr()), query(t, 1, "www.example.", dnswire.TypeA))
	}
	if !gone(t, from(t, "127.0.0.2", l.Addr())) {
		t.Error("the fourth is open")
	}
	ask(t, from(t, "127.0.0.3", l.Addr()), query(t, 1, "www.example.", dnswire.TypeA))
	if s := l.Stats(); s.Refused != 1 || s.Conns != 4 {
		t.Errorf("%+v", s)
	}
}

// TestEvict: beyond the limit the connection goes that asked nothing for longest, and not one that
// waits for its answer.
func TestEvict(t *testing.T) {
	gate := make(chan struct{})
	l := serve(t, loopback, Options{MaxConns: 3, Slow: slowly(gate)})
	waits := dial(t, "tcp", l.Addr())
	_, _ = waits.Write(framed(query(t, 7, "wait.example.", dnswire.TypeA)))
	wait.Until(t, "a query waits", func() bool { r, _ := l.o.Pool.Load(); return r == 1 })
	silent := dial(t, "tcp", l.Addr())
	wait.Until(t, "accepted", func() bool { return l.Stats().Conns == 2 })
	busy := dial(t, "tcp", l.Addr())
	ask(t, busy, query(t, 1, "www.example.", dnswire.TypeA))
	last := dial(t, "tcp", l.Addr())
	ask(t, last, query(t, 1, "www.example.", dnswire.TypeA))
	if !gone(t, silent) {
		t.Error("the silent one is open")
	}
	ask(t, busy, query(t, 2, "www.example.", dnswire.TypeA))
	close(gate)
	if m, err := receive(waits); err != nil || m.Id != 7 {
		t.Error("the one that waited:", m, err)
	}
	if s := l.Stats(); s.Evicted != 1 || s.Conns != 3 {
		t.Errorf("%+v", s)
	}
}

// TestEvictBusy: a connection that asked nothing goes before any number of others that wait for
// answers, and if all wait, one of the client that has most.
func TestEvictBusy(t *testing.T) {
	gate := make(chan struct{})
	const greedy = 40 // more than are looked at for the client that has most
	l := serve(t, loopback, Options{MaxConns: 1 + greedy + 1, Slow: slowly(gate), FirstTimeout: patience, IdleTimeout: patience})
	asked := 0
	waiting := func(source string) net.Conn {
		c := from(t, source, l.Addr())
		if _, err := c.Write(framed(query(t, 7, "wait.example.", dnswire.TypeA))); err != nil {
			t.Fatal(err)
		}
		asked++
		wait.Until(t, "queries wait", func() bool { r, _ := l.o.Pool.Load(); return r == asked })
		return c
	}
	modest := waiting("127.0.0.2") // the one that asked nothing for longest
	var many []net.Conn
	for range greedy {
		many = append(many, waiting("127.0.0.3"))
	}
	silent := from(t, "127.0.0.4", l.Addr())
	wait.Until(t, "accepted", func() bool { return l.Stats().Conns == 1+greedy+1 })
	late := waiting("127.0.0.5")
	if !gone(t, silent) {
		t.Error("the silent one is open")
	}
	later := waiting("127.0.0.6")
	if s := l.Stats(); s.Evicted != 2 || s.Conns != 1+greedy+1 {
		t.Errorf("%+v", s)
	}
	close(gate)
	answered := 0
	for _, c := range many {
		if m, err := receive(c); err == nil && m.Id == 7 {
			answered++
		}
	}
	if answered != greedy-1 {
		t.Errorf("the client with most got %d answers, want %d", answered, greedy-1)
	}
	for i, c := range []net.Conn{modest, late, later} {
		if m, err := receive(c); err != nil || m.Id != 7 {
			t.Errorf("client %d: %v, %v", i, m, err)
		}
	}
}

// TestTransfer: a slow handler sends several messages to one query, more than waits for a client.
func TestTransfer(t *testing.T) {
	const messages = 50
	l := serve(t, loopback, Options{Slow: func(_ context.Context, m *Message, w Writer) {
		for i := range messages {
			b := make([]byte, 20000)
			copy(b, m.Msg)
			binary.BigEndian.PutUint16(b, uint16(i))
			if err := w.Write(b); err != nil {
				t.Error(err)
			}
		}
		if err := w.Write(make([]byte, maxFrame+1)); err == nil {
			t.Error("a message that has no length")
		}
	}})
	c := dial(t, "tcp", l.Addr())
	if _, err := c.Write(framed(query(t, 1, "slow.example.", dnswire.TypeAXFR))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20002)
	for i := range messages {
		if _, err := io.ReadFull(c, buf); err != nil || binary.BigEndian.Uint16(buf) != 20000 || binary.BigEndian.Uint16(buf[2:]) != uint16(i) {
			t.Fatalf("message %d: % x, %v", i, buf[:4], err)
		}
	}
}

// TestCloseTCP: queries that were sent before Close are answered, on connections that are open and
// on those that nobody has accepted yet.
func TestCloseTCP(t *testing.T) {
	gate := make(chan struct{})
	l, err := Listen(loopback, Options{Slow: slowly(gate), Fast: func(Proto, int) wire.Fast { return &answering{} }})
	if err != nil {
		t.Fatal(err)
	}
	early := dial(t, "tcp", l.Addr())
	_, _ = early.Write(framed(query(t, 1, "slow.example.", dnswire.TypeA)))
	l.Start()
	c := dial(t, "tcp", l.Addr())
	_, _ = c.Write(framed(query(t, 2, "wait.example.", dnswire.TypeA), query(t, 3, "www.example.", dnswire.TypeA)))
	wait.Until(t, "they are in work", func() bool { return l.Stats().Slow[TCP] == 2 })
	l.tcp.mu.Lock() // whoever accepts stands still, and what connects now waits in the kernel
	late, later := dial(t, "tcp", l.Addr()), dial(t, "tcp", l.Addr())
	_, _ = late.Write(framed(query(t, 4, "www.example.", dnswire.TypeA)))
	_, _ = later.Write(framed(query(t, 5, "www.example.", dnswire.TypeA)))
	closed := make(chan struct{})
	go func() { shut(t, l); close(closed) }()
	wait.Until(t, "the listener closes", l.tcp.ending.Load)
	l.tcp.mu.Unlock()
	for want, conn := range map[uint16]net.Conn{1: early, 3: c, 4: late, 5: later} {
		if m, err := receive(conn); err != nil || m.Id != want {
			t.Errorf("query %d: %v, %v", want, m, err)
		}
	}
	close(gate)
	if m, err := receive(c); err != nil || m.Id != 2 {
		t.Errorf("query 2: %v, %v", m, err)
	}
	for _, conn := range []net.Conn{early, c, late, later} {
		if !gone(t, conn) {
			t.Error("left open")
		}
	}
	<-closed
}
