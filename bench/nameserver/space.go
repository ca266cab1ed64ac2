package nameserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/bench/peerbin"
)

// A Space is a network namespace without a name. It has a loopback device and no way out. It
// lasts until it is closed and nothing in it runs or listens any more. Its methods are safe for
// concurrent use, but for Close.
type Space struct{ ns netns.NsHandle }

// NewSpace makes a Space whose loopback device has the given addresses besides its own two.
func NewSpace(addrs ...netip.Addr) (*Space, error) {
	s := &Space{ns: netns.None()}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends, and is not used elsewhere
		done <- s.fill(addrs)
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return s, nil
}

func (s *Space) fill(addrs []netip.Addr) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if s.ns, err = netns.Get(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range addrs {
		bits := a.BitLen()
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, bits)},
			Flags: unix.IFA_F_NODAD,
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

// TestSpace makes a Space for a test, which closes it. The test is skipped where it cannot be,
// for want of root, unless REQUIRE names one of the lanes net and peers.
func TestSpace(t testing.TB, addrs ...netip.Addr) *Space {
	t.Helper()
	if os.Geteuid() != 0 {
		if peerbin.Required("net") || peerbin.Required("peers") {
			t.Fatal("network namespaces need root")
		}
		t.Skip("SKIPPED: network namespaces need root")
	}
	s, err := NewSpace(addrs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// In runs f on a thread in the space. Sockets that f opens stay in the space.
func (s *Space) In(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock, see NewSpace
		if err := netns.Set(s.ns); err != nil {
			done <- fmt.Errorf("network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen is net.Listen in the space.
func (s *Space) Listen(network, address string) (l net.Listener, err error) {
	err = s.In(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket in the space.
func (s *Space) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = s.In(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects from an address of the space, or from any if from is the zero Addr.
func (s *Space) Dial(ctx context.Context, network, address string, from netip.Addr) (c net.Conn, err error) {
	d := net.Dialer{}
	if from.IsValid() {
		if network == "tcp" {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		} else {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
	}
	err = s.In(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Close lets go of the space.
func (s *Space) Close() error { return s.ns.Close() }
