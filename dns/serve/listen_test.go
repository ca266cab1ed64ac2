package serve

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// unprivileged calls f on a thread that may not listen on low ports, in a network namespace of its
// own: that of a container may allow all ports to everybody.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var caps [2]unix.CapUserData
			if err := unix.Capget(&head, &caps[0]); err != nil {
				return err
			}
			caps[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
			if err := unix.Capset(&head, &caps[0]); err != nil {
				return err
			}
			f()
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestListenRefused: who may not have a port is told which, as the configuration names it, why, and
// what would help. What is wrong otherwise is said without that.
func TestListenRefused(t *testing.T) {
	netlab.Require(t)
	const why = ": udp: bind: permission denied (a port this low needs the capability CAP_NET_BIND_SERVICE, or root)"
	unprivileged(t, func() {
		for addr, want := range map[netip.AddrPort]string{
			netip.AddrPortFrom(netip.Addr{}, 53):         "listen on :53" + why,
			netip.MustParseAddrPort("127.0.0.1:53"):      "listen on 127.0.0.1:53" + why,
			netip.MustParseAddrPort("[fe80::1%none]:53"): "listen on [fe80::1%none]:53: udp: zone none: route ip+net: no such network interface",
		} {
			l, err := Listen(addr, Options{Slow: slowly(nil)})
			if err == nil {
				shut(t, l)
				t.Errorf("%v is served", addr)
			} else if err.Error() != want {
				t.Errorf("%v:\n%v, want\n%s", addr, err, want)
			}
		}
	})
}
