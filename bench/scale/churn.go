package scale

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/stage"
)

const (
	rollingSteps = 100                   // endpoints that a rolling update replaces
	rollingEvery = 20 * time.Millisecond // one after the other
	churnEvery   = 10 * time.Millisecond // 100 changes a second
	callEvery    = 5 * time.Millisecond  // of the live traffic during changes
)

// Churn is what came of many changes in a row.
type Churn struct {
	Changes int `json:"changes"`
	// Lag is from the last change until packets follow it.
	Lag time.Duration `json:"lag_ns"`
	// Cost is of the proxy and its tools, for all changes together.
	Cost process.Cost `json:"cost"`
	// Calls are the connections that were made meanwhile, to Services that stay as they are and,
	// each third, to one that changes, of whose endpoints all that are ready answer.
	Calls   int           `json:"calls"`
	Failed  int           `json:"failed"`
	Longest time.Duration `json:"longest_ns"`
}

// rolling replaces the endpoint of the last Service again and again, as a rolling update does.
func (t *trial) rolling(ctx context.Context) (*Churn, error) {
	return t.churning(ctx, func() int { return t.Last() }, func(ctx context.Context) (int, error) {
		for i := range rollingSteps {
			if err := t.api.Set(t.Slice(t.Last(), t.version())); err != nil {
				return i, err
			}
			if !sleep(ctx, rollingEvery) {
				return i, ctx.Err()
			}
		}
		return rollingSteps, nil
	})
}

// churn takes an endpoint from some Service or other, or gives it back, a hundred times a second.
func (t *trial) churn(ctx context.Context) (*Churn, error) {
	random := rand.New(rand.NewPCG(uint64(t.sample.Run), 5)) // the same Services for every subject
	less := map[int]bool{}
	_, end := t.Ends()
	calls := rand.New(rand.NewPCG(uint64(t.sample.Run), 6))
	out, err := t.churning(ctx, func() int { return 1 + calls.IntN(end-1) }, func(ctx context.Context) (n int, err error) {
		tick := time.NewTicker(churnEvery)
		defer tick.Stop()
		for stop := time.Now().Add(t.ChurnFor); time.Now().Before(stop); n++ {
			i := 1 + random.IntN(end-1)
			less[i] = !less[i]
			s := t.Slice(i, 0)
			if less[i] {
				s.Endpoints = s.Endpoints[:len(s.Endpoints)-1]
			}
			if err := t.api.Set(s); err != nil {
				return n, err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return n, ctx.Err()
			}
		}
		return n, nil
	})
	var whole []runtime.Object // for the next subject
	for i := range less {
		whole = append(whole, t.Slice(i, 0))
	}
	return out, errors.Join(err, t.api.Set(whole...))
}

// churning makes changes while traffic goes on, and then one whose arrival tells that the proxy
// has caught up. Traffic goes to the Services changing, too.
func (t *trial) churning(ctx context.Context, changing func() int, changes func(context.Context) (int, error)) (*Churn, error) {
	before, err := t.cost()
	if err != nil {
		return nil, err
	}
	c := &Churn{}
	stop := t.traffic(c, changing)
	c.Changes, err = changes(ctx)
	if err == nil {
		v := t.version()
		start := time.Now()
		if err = t.api.Set(t.Slice(t.Last(), v)); err == nil {
			want := t.Endpoint(t.Last(), 0, v)
			err = t.within(ctx, change, func(ctx context.Context) error {
				return t.Await(ctx, []int{t.Last()}, func(got netip.Addr) bool { return got == want })
			})
			c.Lag = time.Since(start)
		}
	}
	stop()
	if err != nil {
		return nil, err
	}
	if !sleep(ctx, pause) { // what follows a change counts, too
		return nil, ctx.Err()
	}
	cost, err := t.since(before)
	if err != nil {
		return nil, err
	}
	c.Cost = *cost
	return c, nil
}

// traffic connects to the two Services that stay as they are, and to changing ones, until stop.
func (t *trial) traffic(c *Churn, changing func() int) (stop func()) {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	first, last := t.Ends()
	wg.Go(func() {
		_ = t.Lab.In(stage.Client, func() error {
			for i := 0; ; i++ {
				select {
				case <-ended:
					return nil
				case <-time.After(callEvery):
				}
				start := time.Now()
				if _, err := stage.Dial(t.Service([]int{first, last, changing()}[i%3]), stage.Patience); err != nil {
					c.Failed++
				}
				c.Calls++
				c.Longest = max(c.Longest, time.Since(start))
			}
		})
	})
	return func() { close(ended); wg.Wait() }
}
