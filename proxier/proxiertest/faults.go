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
	row    int // operations since the last that failed
	failed int
	asked  int
}

// One kernel operation in faultRate fails, and one at least in longestRow.
const (
	faultRate  = 10
	longestRow = 15
)

func newFaults(seed uint64) *faults {
	return &faults{rng: rand.New(rand.NewPCG(seed, seed))}
}

// intercept is Env.Intercept.
func (f *faults) intercept(op, object string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if !f.on {
		return nil
	}
	if f.row++; f.rng.IntN(faultRate) != 0 && f.row < longestRow {
		return nil
	}
	f.row = 0
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
