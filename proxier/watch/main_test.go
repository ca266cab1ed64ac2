package watch

import (
	"testing"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"
)

// klogged is what the client library logs without having been given a log.
var klogged logbook

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(&klogged)
	goleak.VerifyTestMain(m)
}
