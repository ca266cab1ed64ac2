package watch

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually polls until ok returns "" and fails with what it said last.
func eventually(t *testing.T, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		said := ok()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s; still: %s", said)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
