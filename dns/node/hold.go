package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier"
)

// A Hold tells the kernel that this process is there: it binds the addresses and ports of frontends
// that have a stand-in, see [proxier.Frontend.StandIn], and never reads from them. They need not be
// addresses of the node. What the data plane leads here comes by other sockets; these exist so that
// the kernel closes them when the process ends, whatever its end.
//
// The zero Hold is ready for use.
type Hold struct {
	// Log says which addresses cannot be bound. Nil means slog.Default.
	Log *slog.Logger

	held map[proxier.FrontendKey]io.Closer
	told bool // that some cannot
	all  atomic.Bool
}

// retryHold is how long to wait before trying again to bind what could not be.
const retryHold = 5 * time.Second

// Complete reports whether all is bound that the last snapshot asks for. It may be called by any
// goroutine.
func (h *Hold) Complete() bool { return h.all.Load() }

// Follow binds what the snapshots of feed, which should be those that the kernel implements, ask for,
// until ctx is done. Then it closes everything.
func (h *Hold) Follow(ctx context.Context, feed *proxier.Feed) {
	defer h.set(nil)
	for {
		s, changed := feed.Current()
		var again <-chan time.Time
		if s != nil && !h.follow(s) {
			again = time.After(retryHold)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// follow binds what s asks for and reports whether it could.
func (h *Hold) follow(s *proxier.Snapshot) bool {
	var want []proxier.FrontendKey
	for _, f := range s.Frontends {
		if f.StandIn != nil {
			want = append(want, f.FrontendKey)
		}
	}
	err := h.set(want)
	h.all.Store(err == nil)
	if err != nil && !h.told {
		log := h.Log
		if log == nil {
			log = slog.Default()
		}
		log.Error("the address of the Service that is to lead here cannot be bound; will try again", "err", err)
	}
	h.told = err != nil
	return err == nil
}

// set makes keys those that are bound, as far as it can.
func (h *Hold) set(keys []proxier.FrontendKey) error {
	for k, c := range h.held {
		if !slices.Contains(keys, k) {
			c.Close()
			delete(h.held, k)
		}
	}
	var errs []error
	for _, k := range keys {
		if h.held[k] != nil {
			continue
		}
		c, err := bind(k)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if h.held == nil {
			h.held = map[proxier.FrontendKey]io.Closer{}
		}
		h.held[k] = c
	}
	return errors.Join(errs...)
}

// bind binds an address that need not be the node's. Over TCP it listens too: the kernel finds no
// others. Nothing arrives, as the data plane translates what is for the address before the kernel
// looks for where to deliver it.
func bind(k proxier.FrontendKey) (io.Closer, error) {
	family := "4"
	if k.Addr.Is6() {
		family = "6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			if k.Addr.Is6() {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			} else {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			}
		})
		return errors.Join(err, failed)
	}}
	network, at := strings.ToLower(k.Protocol.String())+family, netip.AddrPortFrom(k.Addr, k.Port).String()
	if k.Protocol == proxier.UDP {
		return lc.ListenPacket(context.Background(), network, at)
	}
	return lc.Listen(context.Background(), network, at)
}
