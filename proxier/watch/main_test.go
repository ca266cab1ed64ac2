package watch

import (
	"io"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false) // client-go tells of every cut connection, of which tests make many
	klog.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}
