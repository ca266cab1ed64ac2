package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	dnswire "github.com/miekg/dns"
)

// A Watch asks a resolver whether it answers, over UDP and TCP at every address that it is to listen
// on: what a pod would see, if it could not be led elsewhere.
type Watch struct {
	Addrs []netip.AddrPort
	// Zone is asked for its SOA; any reply will do. It should be one that the resolver knows itself.
	Zone string
	// Ready, if set, is asked first, and what it denies is not tried.
	Ready func() bool
	// Interval is between two looks; 0 means 1 s. A look waits for at most Timeout; 0 means 1 s.
	Interval, Timeout time.Duration
	// Misses is how many looks in a row must fail before a resolver that answered does not; 0 means 3.
	Misses int
	// Changed is told, in Run's goroutine, when the resolver begins to answer and when it ceases to.
	Changed func(answers bool)
	// Log says so too. Nil means slog.Default.
	Log *slog.Logger
}

// Run looks until ctx is done. At first the resolver does not answer.
func (w Watch) Run(ctx context.Context) {
	if w.Interval <= 0 {
		w.Interval = time.Second
	}
	if w.Timeout <= 0 {
		w.Timeout = time.Second
	}
	if w.Misses <= 0 {
		w.Misses = 3
	}
	if w.Log == nil {
		w.Log = slog.Default()
	}
	answers, missed := false, 0
	for {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil && !answers:
			answers, missed = true, 0
			w.Log.Info("the node's resolver answers", "addresses", w.Addrs)
			w.Changed(true)
		case err == nil:
			missed = 0
		case answers:
			if missed++; missed >= w.Misses {
				answers = false
				w.Log.Error("the node's resolver does not answer any more", "err", err)
				w.Changed(false)
			}
		}
		pause := w.Interval
		if !answers {
			pause /= 8 // pods wait for it, at start and after a fault
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// look asks at every address.
func (w Watch) look(ctx context.Context) error {
	if w.Ready != nil && !w.Ready() {
		return errors.New("it is not ready")
	}
	msg := new(dnswire.Msg).SetQuestion(dnswire.Fqdn(w.Zone), dnswire.TypeSOA)
	for _, network := range []string{"udp", "tcp"} {
		client := dnswire.Client{Net: network, Timeout: w.Timeout}
		for _, a := range w.Addrs {
			if _, _, err := client.ExchangeContext(ctx, msg, a.String()); err != nil {
				return fmt.Errorf("ask %s over %s: %w", a, network, err)
			}
		}
	}
	return nil
}
