package wait

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A failure is a test that fails.
type failure struct {
	testing.TB
	said string
}

func (f *failure) Helper() {}

func (f *failure) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, n := time.Now(), 0
		For(t, "the count", 3, func() int { n++; return n })
		if took := time.Since(start); n != 3 || took != 2*interval {
			t.Errorf("%d calls in %v", n, took)
		}
		Until(t, "a second", func() bool { return time.Since(start) >= time.Second })

		start = time.Now()
		f := &failure{}
		func() {
			defer func() { _ = recover() }()
			For(f, "the colour", "red", func() string { return "blue" })
		}()
		if want := "the colour: blue after 30s, want red"; f.said != want || time.Since(start) < Patience {
			t.Errorf("%q after %v, want %q", f.said, time.Since(start), want)
		}
	})
}
