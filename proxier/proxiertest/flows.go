package proxiertest

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// How long clients wait, and how often they try.
const (
	answerWait    = 3 * time.Second        // for an answer that must come
	refusalWait   = 3 * time.Second        // for a refusal that must come
	silenceWait   = 350 * time.Millisecond // for an answer that must not come
	refusals      = 2                      // attempts of a Rejected flow
	silences      = 3                      // attempts of a Dropped flow, all at once
	stickyTries   = 12                     // attempts of a Sticky flow
	missedOneIn   = 1e9                    // a Reaches flow misses an endpoint once in so many runs
	lateTries     = 3                      // more attempts of a flow whose packets were lost or late
	peerDeadline  = 15 * time.Second       // for a peer to do what it was told
	aliveMessages = 3                      // a held connection must exchange so many to be alive
)

// attempts is how many connections make a missed one of n equally likely endpoints impossible in
// practice: n(ln n + ln 10⁹), the coupon collector's bound.
func attempts(n int) int {
	return int(math.Ceil(float64(n) * (math.Log(float64(n)) + math.Log(missedOneIn))))
}

// silent reports whether nothing must come back to the client, so that the flow takes long.
func (f *Flow) silent() bool {
	return f.From.port == 0 && (f.Want.kind == dropped || f.Want.kind == untouched)
}

// flows checks the flows of a step. The silent ones wait side by side.
func (r *Running) flows(where string, list []Flow) {
	var wg sync.WaitGroup
	for i := range list {
		if f := &list[i]; f.silent() {
			wg.Go(func() {
				// Others' packets may have been taken for this flow's: look again, alone.
				if err := r.check(f); err != nil {
					r.mu.Lock()
					defer r.mu.Unlock()
					r.doubts = append(r.doubts, f)
				}
			})
		}
	}
	wg.Wait()
	doubts := r.doubts
	r.doubts = nil
	for i := range list {
		f := &list[i]
		if f.silent() && !slices.Contains(doubts, f) {
			continue
		}
		if err := r.checkUntil(f); err != nil {
			r.failf(fmt.Sprintf("%s: flow %q", where, f.Name), "%s to %s %s, want %s: %v",
				f.From, f.To, f.protocol(), f.Want, err)
		}
	}
}

// checkUntil checks a flow: again if packets were lost or late, and as long as a peer may take.
func (r *Running) checkUntil(f *Flow) error {
	err := r.check(f)
	for range lateTries {
		if errors.Is(err, errResent) || errors.Is(err, errArrived) || errors.Is(err, errUnseen) {
			err = r.check(f)
		}
	}
	if r.peer != nil {
		for deadline := time.Now().Add(peerDeadline); err != nil && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
			err = r.check(f)
		}
	}
	return err
}

var (
	errResent  = errors.New("the client had to send again: its first packet, or the answer, was lost")
	errArrived = errors.New("packets arrived where none should")
	errUnseen  = errors.New("silence, but nothing of it came outside: it was dropped")
)

// check sends what the flow says and returns how the outcome differs from what it wants.
func (r *Running) check(f *Flow) error {
	to, err := r.tale.address(f.To)
	if err != nil {
		return err
	}
	source, err := r.tale.source(f.From)
	if err != nil {
		return err
	}
	p := netlab.Probe{From: f.From.ns, Source: source, To: to, Protocol: f.protocol()}
	if f.Want.kind == reaches {
		return r.checkReaches(f, p)
	}
	return r.checkNothingArrives(f, p)
}

func (r *Running) checkReaches(f *Flow, p netlab.Probe) error {
	want := f.Want
	k := attempts(len(want.names))
	switch {
	case f.From.port != 0:
		k = 1
	case want.sticky:
		k = stickyTries
	}
	p.Wait = answerWait
	answers := r.Lab.Probes(p, k)
	if last := answers[len(answers)-1]; last.Verdict != netlab.Reached {
		return fmt.Errorf("attempt %d: %s", len(answers), last)
	}
	seen := map[string]int{}
	for i, a := range answers {
		seen[a.Name]++
		if !slices.Contains(want.names, a.Name) {
			return fmt.Errorf("attempt %d reached %s", i+1, a)
		}
		if err := want.checkSource(a); err != nil {
			return fmt.Errorf("attempt %d: %w", i+1, err)
		}
		if a.Resent > 0 {
			return fmt.Errorf("attempt %d: %s: %w", i+1, a, errResent)
		}
	}
	switch {
	case want.sticky && len(seen) > 1:
		return fmt.Errorf("not sticky: reached %v", seen)
	case want.same != "" && answers[0].Name != r.last[want.same]:
		return fmt.Errorf("reached %s, but flow %q reached %s", answers[0].Name, want.same, r.last[want.same])
	case k > stickyTries && len(seen) != len(want.names):
		return fmt.Errorf("%d attempts reached only %v", k, seen)
	}
	r.last[f.Name] = answers[0].Name
	if f.Hold {
		s, err := r.Lab.Stream(f.From.ns, p.To)
		if err != nil {
			return err
		}
		r.held = append(r.held, s)
		r.busy[f.From.ns], r.busy[s.Name] = true, true
	}
	return nil
}

// checkSource tells how the client that the server saw differs from what it should be.
func (o Outcome) checkSource(a netlab.Answer) error {
	kept := a.Seen.Addr() == a.Local.Addr()
	ours := slices.Contains(Local(), a.Seen.Addr())
	switch {
	case o.source == clientKept && !kept:
		return fmt.Errorf("%s, but the client is %s", a, a.Local.Addr())
	case o.source == masqueraded && (kept || !ours):
		return fmt.Errorf("%s, which is not another address of node-1; the client is %s", a, a.Local.Addr())
	}
	return nil
}

// checkNothingArrives checks a Rejected, Dropped or Untouched flow.
func (r *Running) checkNothingArrives(f *Flow, p netlab.Probe) error {
	direct := netlab.PlaceOf(p.To.Addr()) != ""
	before, err := r.arrivals(f)
	if err != nil {
		return err
	}
	sniffed, err := r.Lab.Sniff(netlab.Outside)
	if err != nil {
		return err
	}
	answers := r.unanswered(f, p)
	outside := slices.DeleteFunc(sniffed(), func(s netlab.Sighting) bool { return s.Dst != p.To || s.Protocol != p.Protocol })
	after, err := r.arrivals(f)
	if err != nil {
		return err
	}
	wanted := map[outcomeKind]netlab.Verdict{rejected: netlab.Refused, dropped: netlab.Silent, untouched: netlab.Silent}
	for i, a := range answers {
		if a.Verdict != wanted[f.Want.kind] {
			return fmt.Errorf("attempt %d: %s", i+1, a)
		}
	}
	for place, n := range after {
		if n != before[place] && !direct {
			return fmt.Errorf("%w: %d at %s", errArrived, n-before[place], place)
		}
	}
	switch {
	case f.Want.kind == untouched && len(outside) == 0:
		return errUnseen
	case f.Want.kind == untouched && !f.From.sends(outside, r.tale):
		return fmt.Errorf("it came outside changed: %v", outside)
	case f.Want.kind == dropped && len(outside) > 0:
		return fmt.Errorf("it was not dropped, but sent on: %v", outside)
	}
	return nil
}

// unanswered makes the attempts of a flow that no endpoint must answer.
func (r *Running) unanswered(f *Flow, p netlab.Probe) []netlab.Answer {
	n := silences
	if f.Want.kind == rejected {
		n, p.Wait = refusals, refusalWait
	} else {
		p.Wait = silenceWait
	}
	if f.From.port != 0 {
		n = 1
	}
	out := make([]netlab.Answer, n)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { out[i] = r.Lab.Probe(p) })
	}
	wg.Wait()
	return out
}

// sends reports whether the packets are of the place: from the address it binds, or the one it has.
func (p Place) sends(packets []netlab.Sighting, tl *tale) bool {
	source, err := tl.source(p)
	if err != nil {
		return false
	}
	addr := source.Addr()
	if !addr.IsValid() {
		if p.ns == netlab.Node1 { // which of its addresses the kernel chose is unknown
			return true
		}
		addr = netlab.Addr(p.ns)
		if packets[0].Dst.Addr().Is6() {
			addr = netlab.V6(addr)
		}
	}
	return !slices.ContainsFunc(packets, func(s netlab.Sighting) bool { return s.Src.Addr() != addr })
}

// arrivals counts what arrived so far at pods and node-2, the flow's client and places with held
// connections excluded.
func (r *Running) arrivals(f *Flow) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, place := range r.Lab.Places() {
		if place == netlab.Node1 || place == netlab.Outside || place == f.From.ns || r.busy[place] {
			continue
		}
		n, err := r.Lab.Arrivals(place)
		if err != nil {
			return nil, err
		}
		out[place] = n
	}
	return out, nil
}

// holds checks that the held connections go on.
func (r *Running) holds(where string) {
	for _, s := range r.held {
		if err := s.Alive(aliveMessages); err != nil {
			r.failf(where+": held connection", "%v", err)
		}
	}
}

// String returns the place and what it binds to.
func (p Place) String() string {
	if p.source == "" && p.port == 0 {
		return p.ns
	}
	a, _ := netip.ParseAddr(p.source)
	return fmt.Sprintf("%s (%s port %d)", p.ns, a, p.port)
}

// String returns the outcome as a scenario writes it.
func (o Outcome) String() string {
	switch o.kind {
	case rejected:
		return "Rejected"
	case dropped:
		return "Dropped"
	case untouched:
		return "Untouched"
	}
	s := "Reaches(" + strings.Join(o.names, ", ") + ")" + [...]string{"", ".ClientKept", ".Masqueraded"}[o.source]
	if o.sticky {
		s += ".Sticky"
	}
	if o.same != "" {
		s += fmt.Sprintf(".SameAs(%q)", o.same)
	}
	return s
}
