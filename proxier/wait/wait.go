package wait

import (
	"testing"
	"time"
)

// Patience is longer than a busy machine makes anything in a test wait.
const Patience = 30 * time.Second

const interval = 5 * time.Millisecond

// For asks f until it returns want, and ends the test with what f returned last if that takes
// longer than [Patience]. What is waited for is named by what.
func For[T comparable](t testing.TB, what string, want T, f func() T) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(interval) {
		got := f()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v after %v, want %v", what, got, Patience, want)
		}
	}
}

// Until is For with a condition.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	For(t, what, true, ok)
}
