package conformance

import (
	"flag"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/kubeproxy"
	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/proxier/proxiertest"
)

var full = flag.Bool("full", false, "run every scenario, as make peers-conformance does")

func TestMain(m *testing.M) { flag.Parse(); goleak.VerifyTestMain(m) }

// TestKubeProxy runs the suite against kube-proxy. Only with -full, it runs all of it; what fails
// then is for the generator of docs/conformance-kube-proxy.md to judge.
func TestKubeProxy(t *testing.T) {
	if !*full {
		t.Skip("not asked for: make peers-conformance")
	}
	bin := peerbin.Need(t, peerbin.Proxy)
	for _, mode := range []string{kubeproxy.IPTables, kubeproxy.NFTables} {
		t.Run(mode, func(t *testing.T) { proxiertest.Run(t, Subject(bin, mode, "")) })
	}
}
