package conformance

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/kubeproxy"
	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/proxiertest"
)

var full = flag.Bool("full", false, "run every scenario, as make peers-conformance does")

func TestMain(m *testing.M) { flag.Parse(); goleak.VerifyTestMain(m) }

// TestKubeProxy runs the suite against kube-proxy. With -full it runs all of it, and what fails is
// for the generator of docs/conformance-kube-proxy.md to judge. Without, it runs the golden matrix
// of TCP, on which kube-proxy and Fairway agree.
func TestKubeProxy(t *testing.T) {
	netlab.Require(t)
	bin := peerbin.Need(t, peerbin.Proxy)
	list := slices.DeleteFunc(proxiertest.Scenarios(), func(s proxiertest.Scenario) bool {
		if !*full {
			return s.Name != "matrix/TCP, default"
		}
		// These are about what Fairway reports of broken objects.
		return strings.HasPrefix(s.Name, "hostile/")
	})
	for _, mode := range []string{kubeproxy.IPTables, kubeproxy.NFTables} {
		t.Run(mode, func(t *testing.T) { proxiertest.RunScenarios(t, Subject(bin, mode, ""), list) })
	}
}
