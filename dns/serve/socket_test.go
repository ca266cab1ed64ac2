package serve

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	dnswire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// TestSendingSocketLosesNothing: what the kernel gave to the socket that sends, in the moment before
// nobody could reach it, is answered.
func TestSendingSocketLosesNothing(t *testing.T) {
	for name, addr := range map[string]netip.AddrPort{"one address": loopback, "wildcard": {}} {
		t.Run(name, func(t *testing.T) {
			l, err := Listen(addr, Options{Workers: 1, Slow: slowly(nil)})
			if err != nil {
				t.Fatal(err)
			}
			defer shut(t, l)
			s := l.udp[0].sock
			if s.out == s.fd {
				t.Fatal("one socket receives and sends")
			}
			if err := unix.Close(s.out); err != nil {
				t.Fatal(err)
			}
			if s.out, err = s.open(); err != nil { // as Listen did, up to detach
				t.Fatal(err)
			}
			var asked []net.Conn
			for queued := false; !queued; queued = readable(t, s.out) {
				c := dial(t, "udp", netip.AddrPortFrom(loopback.Addr(), l.Addr().Port()))
				if _, err := c.Write(query(t, 3, "www.example.", dnswire.TypeA)); err != nil {
					t.Fatal(err)
				}
				asked = append(asked, c)
			}
			if err := s.detach(s.out); err != nil {
				t.Fatal(err)
			}
			l.Start()
			for _, c := range asked {
				if m, err := receive(c); err != nil || m.Id != 3 {
					t.Errorf("%v, %v", m, err)
				}
			}
		})
	}
}

// TestChosenPort: a port that the kernel chooses is nobody else's.
func TestChosenPort(t *testing.T) {
	taken := map[uint16]bool{}
	for range 1000 { // of 28,000 ports: a choice among those in use would fall on one of them
		s, err := bindUDP(loopback)
		if err != nil {
			t.Fatal(err)
		}
		defer s.release()
		if taken[s.addr.Port()] {
			t.Fatalf("port %d was chosen twice", s.addr.Port())
		}
		taken[s.addr.Port()] = true
	}
}

// TestSpread: the kernel spreads clients over all sockets of a listener, also of one that was bound
// beside another, before and after that one is closed.
func TestSpread(t *testing.T) {
	for name, addr := range map[string]netip.AddrPort{"IPv4": loopback, "IPv6": netip.AddrPortFrom(netip.IPv6Loopback(), 0), "wildcard": {}} {
		t.Run(name, func(t *testing.T) {
			var before *Listener
			for range 3 {
				l, err := Listen(addr, Options{Workers: 8, Slow: slowly(nil)})
				if err != nil {
					t.Fatal(err)
				}
				defer shut(t, l)
				addr = l.Addr()
				allAsked(t, l)
				if before != nil {
					shut(t, before)
					allAsked(t, l)
				}
				before = l
			}
		})
	}
}

// TestSpreadEvenly: no socket gets much less than its share.
func TestSpreadEvenly(t *testing.T) {
	const clients, sockets = 1000, 5
	for name, addr := range map[string]netip.AddrPort{"IPv4": loopback, "IPv6": netip.AddrPortFrom(netip.IPv6Loopback(), 0), "wildcard": {}} {
		t.Run(name, func(t *testing.T) {
			l := serve(t, addr, Options{Workers: 2 * sockets})
			for range clients {
				c := dial(t, "udp", l.Addr())
				defer c.Close() // a port of its own for each
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			wait.Until(t, "all came", func() bool { return l.Stats().Queries[UDP][wire.Drop] == clients })
			for i, w := range l.udp {
				// Of a share of 200 the standard deviation is 13.
				if n := w.stats.verdicts[wire.Drop].Load(); n < clients/sockets-70 {
					t.Errorf("socket %d got %d of %d", i, n, clients)
				}
			}
		})
	}
}

// allAsked waits until every socket of a listener that has not started got something new.
func allAsked(t *testing.T, l *Listener) {
	t.Helper()
	for _, w := range l.udp {
		for readable(t, w.sock.fd) {
			if _, _, err := unix.Recvfrom(w.sock.fd, make([]byte, 1), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	wait.Until(t, "every socket is asked", func() bool {
		c := dial(t, "udp", l.Addr())
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(l.udp, func(w *worker) bool { return !readable(t, w.sock.fd) })
	})
}

// readable reports whether something is queued in a socket.
func readable(t *testing.T, fd int) bool {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err == nil {
			return n > 0
		}
		if err != unix.EINTR { // by a signal of Go's scheduler
			t.Fatal(err)
		}
	}
}
