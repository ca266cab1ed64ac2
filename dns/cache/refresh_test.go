package cache

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// TestPrefetch: an answer that is asked for often is fetched again before it expires, once, and
// its successor inherits how often it was asked for.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.Prefetch, d.PrefetchPercentage = 3, 20
		g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
		g.ask("a.example. A")
		for range 5 {
			g.fast(t, "a.example. A")
		}
		if g.asked() != 1 {
			t.Error("fetched again too early")
		}
		g.set(gives("a.example. 60 IN A 192.0.2.2"))
		g.delay = time.Second
		time.Sleep(48 * time.Second)
		if got := g.fast(t, "a.example. A"); got != "" {
			t.Error("the fast path does not leave it to the slow one:", got)
		}
		for range 3 { // one fetches, the others see that it is under way
			if got := g.ask("a.example. A"); got != "NOERROR a.example. 12 A 192.0.2.1" {
				t.Error(got)
			}
		}
		if got := g.fast(t, "a.example. A"); got != "NOERROR a.example. 12 A 192.0.2.1" {
			t.Error("while it is fetched:", got)
		}
		time.Sleep(2 * time.Second)
		if got := g.fast(t, "a.example. A"); got != "NOERROR a.example. 59 A 192.0.2.2" || g.asked() != 2 {
			t.Errorf("%s, asked %d times", got, g.asked())
		}
		g.delay = 0
		time.Sleep(58 * time.Second)
		g.ask("a.example. A")
		synctest.Wait()
		if g.asked() != 3 {
			t.Error("the hits are forgotten")
		}
		time.Sleep(59 * time.Second)
		g.set(gives("b.example. 60 IN A 192.0.2.1"))
		g.ask("b.example. A")
		n := g.asked()
		time.Sleep(50 * time.Second)
		g.ask("b.example. A")
		synctest.Wait()
		if g.asked() != n {
			t.Error("what is asked for rarely is fetched")
		}
	})
}

// TestStaleImmediate: an answer that has expired is served and renewed behind the client's back.
func TestStaleImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.StaleUpTo, d.StaleTTL, d.StaleRecheck = time.Hour, 30*time.Second, 10*time.Second
		g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
		g.ask("a.example. A")
		time.Sleep(time.Hour)
		g.set(gives("SERVFAIL"))
		for range 3 {
			if got := g.ask("a.example. A"); got != "NOERROR a.example. 30 A 192.0.2.1" {
				t.Error(got)
			}
			if got := g.fast(t, "a.example. A"); got != "" {
				t.Error("stale on the fast path:", got)
			}
			synctest.Wait()
		}
		if g.asked() != 2 {
			t.Errorf("a refresh that failed is tried again at once: %d", g.asked())
		}
		time.Sleep(10 * time.Second)
		g.set(gives("a.example. 60 IN A 192.0.2.2"))
		g.ask("a.example. A")
		synctest.Wait()
		if got := g.fast(t, "a.example. A"); got != "NOERROR a.example. 60 A 192.0.2.2" {
			t.Error(got)
		}
		time.Sleep(time.Hour + 61*time.Second)
		g.set(gives("SERVFAIL"))
		if got := g.ask("a.example. A"); got != "SERVFAIL" {
			t.Error("older than allowed:", got)
		}
	})
}

// TestStaleVerify: the source is asked first, and the stale answer serves if it has no better one.
func TestStaleVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, recheck := range []time.Duration{0, 10 * time.Second} {
			d := directive()
			d.StaleUpTo, d.StaleVerify, d.StaleRecheck = time.Hour, true, recheck
			g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
			g.ask("a.example. A")
			time.Sleep(2 * time.Minute)
			for _, bad := range []func(*plugin.Request) plugin.Reply{gives("SERVFAIL"), gives("REFUSED"),
				gives("www.example. 60 IN A 192.0.2.3", "FORMERR"),
				func(*plugin.Request) plugin.Reply { return gives()(request("other.example. A")) }} {
				g.set(bad)
				if got := g.ask("a.example. A"); got != "NOERROR a.example. 0 A 192.0.2.1" {
					t.Error(got)
				}
				time.Sleep(11 * time.Second)
			}
			g.set(gives("NXDOMAIN", soa))
			if got := g.ask("a.example. A"); got != "NXDOMAIN example.org. 1800 SOA" {
				t.Error(got)
			}
			if got := g.fast(t, "a.example. A"); got != "NXDOMAIN example.org. 1800 SOA" {
				t.Error(got)
			}
		}
	})
}

// TestStaleVerifyTimeout: the source has so long; its answer is kept when it comes.
func TestStaleVerifyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.StaleUpTo, d.StaleVerify, d.StaleVerifyTimeout = time.Hour, true, 100*time.Millisecond
		g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
		g.ask("a.example. A")
		time.Sleep(2 * time.Minute)
		g.set(gives("a.example. 60 IN A 192.0.2.2"))
		g.delay = time.Second
		if got := g.ask("a.example. A"); got != "NOERROR a.example. 0 A 192.0.2.1" {
			t.Error(got)
		}
		time.Sleep(2 * time.Second)
		if got := g.ask("a.example. A"); got != "NOERROR a.example. 59 A 192.0.2.2" {
			t.Error(got)
		}
		time.Sleep(2 * time.Minute)
		g.delay = time.Millisecond
		g.set(gives("a.example. 60 IN A 192.0.2.3"))
		if got := g.ask("a.example. A"); got != "NOERROR a.example. 60 A 192.0.2.3" {
			t.Error(got)
		}
		time.Sleep(2 * time.Minute)
		g.delay = time.Second
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		if got := words(g.h.Serve(gone, request("a.example. A"))); got != "NOERROR a.example. 0 A 192.0.2.3" {
			t.Error(got)
		}
		time.Sleep(time.Minute)
	})
}

// TestPreferPositive: with that policy a denial does not replace an answer that may still be
// served.
func TestPreferPositive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.StaleUpTo, d.PreferPositive = time.Hour, true
		g := newRig(t, d, gives("a.example.org. 60 IN A 192.0.2.1"))
		g.ask("a.example.org. A")
		time.Sleep(2 * time.Minute)
		g.set(gives("NXDOMAIN", soa))
		for range 2 {
			if got := g.ask("a.example.org. A"); got != "NOERROR a.example.org. 0 A 192.0.2.1" {
				t.Error(got)
			}
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if got := g.ask("a.example.org. A"); !strings.HasPrefix(got, "NXDOMAIN") {
			t.Error("older than allowed:", got)
		}
	})
}

// TestBounded: there are never more refreshes than allowed, and none after Close.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, directive(), nil)
		hold := make(chan struct{})
		for i := range maxRefreshes + 10 {
			if ok := g.background(func(context.Context) { <-hold }); ok != (i < maxRefreshes) {
				t.Errorf("refresh %d: %v", i, ok)
			}
		}
		close(hold)
		synctest.Wait()
		ended := make(chan error, 1)
		g.background(func(ctx context.Context) { <-ctx.Done(); ended <- ctx.Err() })
		g.Close()
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
		if g.background(func(context.Context) {}) {
			t.Error("a closed cache starts something")
		}
	})
}
