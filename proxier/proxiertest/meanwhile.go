package proxiertest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// meanwhileFlows bounds how many flows run while a step is applied.
const meanwhileFlows = 2

// A lasting is a flow that reaches somebody both before and after a step: at no moment between,
// and no matter which kernel operations fail, may a new connection of it fail.
type lasting struct {
	flow  *Flow
	names []string // who may answer: whoever may before or after
}

// lastings returns the flows that last over step i.
func (tl *tale) lastings(i int) []lasting {
	if i == 0 {
		return nil
	}
	steady := func(f *Flow) bool {
		return f.Want.kind == reaches && f.protocol() == proxier.TCP && f.From.port == 0
	}
	var out []lasting
	for _, now := range tl.Steps[i].Flows {
		for _, old := range tl.Steps[i-1].Flows {
			if steady(&now) && steady(&old) && now.From == old.From && now.To == old.To && len(out) < meanwhileFlows {
				out = append(out, lasting{&now, slices.Concat(old.Want.names, now.Want.names)})
			}
		}
	}
	return out
}

// meanwhile opens connections of the lasting flows of step i until stop is called, which reports
// those that failed.
func (r *Running) meanwhile(i int) (stop func(where string)) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	var mu sync.Mutex
	var broken []string
	for _, l := range r.tale.lastings(i) {
		wg.Go(func() {
			for n := 1; ; n++ {
				if err := r.connect(l); err != nil {
					mu.Lock()
					broken = append(broken, fmt.Sprintf("%s to %s, connection %d: %v", l.flow.From, l.flow.To, n, err))
					mu.Unlock()
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	return func(where string) {
		close(done)
		wg.Wait()
		for _, text := range broken {
			r.failf(where+": meanwhile", "%s", text)
		}
	}
}

// connect opens one connection of a lasting flow.
func (r *Running) connect(l lasting) error {
	to, err := r.tale.address(l.flow.To)
	if err != nil {
		return err
	}
	source, err := r.tale.source(l.flow.From)
	if err != nil {
		return err
	}
	a := r.Lab.Probe(netlab.Probe{From: l.flow.From.ns, Source: source, To: to, Wait: answerWait})
	switch {
	case a.Verdict != netlab.Reached:
		return fmt.Errorf("%s", a)
	case !slices.Contains(l.names, a.Name):
		return fmt.Errorf("reached %s, neither before nor after", a)
	case a.Resent > 0:
		return fmt.Errorf("%s: %w", a, errResent)
	}
	return nil
}
