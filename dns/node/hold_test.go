package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// diverted returns a snapshot with stand-ins for some frontends.
func diverted(keys ...proxier.FrontendKey) *proxier.Snapshot {
	s := &proxier.Snapshot{Node: &proxier.Node{}, Frontends: []*proxier.Frontend{{FrontendKey: key("192.0.2.1", proxier.TCP, 80)}}}
	for _, k := range keys {
		s.Frontends = append(s.Frontends, &proxier.Frontend{FrontendKey: k, StandIn: &proxier.Pool{}})
	}
	return s
}

func key(addr string, p proxier.Protocol, port uint16) proxier.FrontendKey {
	return proxier.FrontendKey{Addr: netip.MustParseAddr(addr), Port: port, Protocol: p}
}

// taken reports whether somebody has bound an address.
func taken(t *testing.T, k proxier.FrontendKey) bool {
	t.Helper()
	c, err := bind(k)
	if err == nil {
		c.Close()
	} else if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	return err != nil
}

// TestHold: addresses that are not this machine's are bound as long as a snapshot asks for them; one
// that somebody else has is said so once, and had when it is free.
func TestHold(t *testing.T) {
	netlab.Require(t)
	runtime.LockOSThread() // the namespace, where nobody else has a port, ends with the thread
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	busy := key("192.0.2.9", proxier.TCP, 53)
	keys := []proxier.FrontendKey{key("192.0.2.53", proxier.UDP, 53), key("192.0.2.53", proxier.TCP, 53),
		key("2001:db8::35", proxier.UDP, 53), key("2001:db8::35", proxier.TCP, 53)}
	somebody, err := bind(busy)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := &Hold{Log: slog.New(slog.NewTextHandler(&log, nil))}
	defer h.set(nil)
	expect := func(when string, complete bool, held ...bool) {
		t.Helper()
		if got := h.Complete(); got != complete {
			t.Errorf("%s: complete: %v, want %v", when, got, complete)
		}
		for i, want := range held {
			if got := taken(t, keys[i]); got != want {
				t.Errorf("%s: %v is bound: %v, want %v", when, keys[i], got, want)
			}
		}
	}
	h.follow(diverted(keys...))
	expect("all", true, true, true, true, true)
	h.follow(diverted(keys[1:3]...))
	expect("fewer", true, false, true, true, false)
	for range 3 {
		h.follow(diverted(append(keys, busy)...))
		expect("one is somebody else's", false, true, true, true, true)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "192.0.2.9:53") {
		t.Errorf("log, want a line for 192.0.2.9:53:\n%s", &log)
	}
	feed := new(proxier.Feed)
	feed.Publish(diverted(busy))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { // Follow has the thread
		for !h.Complete() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			feed.Publish(diverted(keys...))
		}
		cancel()
	}()
	h.Follow(ctx, feed)
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("snapshots are not followed")
	}
	expect("ended", true, false, false, false, false)
	somebody.Close()
	h.follow(diverted(busy))
	expect("it is free", true)
}
