package proxiertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// faults make kernel operations fail at random. The zero value makes none fail.
type faults struct {
	mu     sync.Mutex
	rng    *rand.Rand
	on     bool
	failed int
	asked  int
}

// faultRate is how many kernel operations fail: one in so many.
const faultRate = 10

func newFaults(seed uint64) *faults {
	return &faults{rng: rand.New(rand.NewPCG(seed, seed))}
}

// intercept is Env.Intercept.
func (f *faults) intercept(op, object string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if !f.on || f.rng.IntN(faultRate) != 0 {
		return nil
	}
	f.failed++
	return fmt.Errorf("planted fault %d", f.failed)
}

// set turns faults on or off.
func (f *faults) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// counts returns how many operations were asked about and how many of them failed.
func (f *faults) counts() (asked, failed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked, f.failed
}
