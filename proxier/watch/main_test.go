package watch

import (
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false) // client-go tells of every cut connection, of which tests make many
	klog.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}

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
