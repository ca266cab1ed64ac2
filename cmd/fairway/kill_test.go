package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// kills is how often TestKilled kills the proxy on each variant of iptables.
const kills = 100

// TestKilled kills the proxy with SIGKILL at random moments, while Services and endpoints come
// and go. All pods serve all the time, so every endpoint is healthy, and no connection may fail:
// not to a Service that stays as it is, nor to one whose endpoints change. The next start always
// converges, and in the end the rules are those of a start on an empty kernel.
func TestKilled(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			testKilled(t, newStage(t, variant))
		})
	}
}

func testKilled(t *testing.T, s *stage) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s.write("churn.yaml", churnManifest(0))
	s.start().kill()

	stable := netip.MustParseAddrPort("10.96.0.10:80")
	moving := netip.MustParseAddrPort("10.96.0.50:80")
	var streams []*netlab.Stream
	for _, from := range []string{demoClient, netlab.Node1, netlab.Outside} {
		stream, err := s.Stream(from, stable)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	var stops []func() netlab.Churn
	for from, to := range map[string][]netip.AddrPort{
		demoClient:     {stable, moving},
		netlab.Node1:   {stable, moving},
		netlab.Outside: {stable, moving, netip.MustParseAddrPort("198.51.100.10:80"), netip.MustParseAddrPort("192.168.20.1:30080")},
	} {
		stops = append(stops, s.Churn(from, proxier.TCP, 1, 5*time.Second, to...))
	}
	stopWriting := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stopWriting:
				return
			case <-time.After(7 * time.Millisecond):
				s.write("churn.yaml", churnManifest(n))
			}
		}
	})
	begun := time.Now()
	wrote := 0
	for range kills {
		if s.killOnce(random) {
			wrote++
		}
	}
	t.Logf("%d kills in %v, of which %d after a change was written", kills, time.Since(begun).Round(time.Millisecond), wrote)
	if wrote < kills/10 || wrote > kills*9/10 {
		t.Errorf("the kills do not come at all sorts of moments: %d of %d after a change was written", wrote, kills)
	}
	close(stopWriting)
	writing.Wait()
	for _, stop := range stops {
		c := stop()
		if err := c.Err(); err != nil {
			t.Errorf("connections: %v", err)
		}
		t.Logf("%d connections, %d failed, the longest took %v", c.OK, c.Failed, c.Longest.Round(time.Millisecond))
	}
	for _, stream := range streams {
		if err := stream.Alive(5); err != nil {
			t.Errorf("an open connection: %v", err)
		}
		if err := stream.Close(); err != nil {
			t.Errorf("an open connection: %v", err)
		}
	}

	// What is there now must become what a fresh start makes. The state is written before the
	// start: an earlier one with the same endpoints could not be told from it by its answers.
	s.write("churn.yaml", churnManifest(1))
	last := s.start()
	s.eventually("the last state", "b", func() string {
		return s.reached(demoClient, moving.String(), 20)
	})
	if err := last.stop(); err != nil {
		t.Error(err)
	}
	got := s.rules()
	s.on(os.Args[0], "cleanup")
	if err := s.start().stop(); err != nil {
		t.Error(err)
	}
	if want := s.rules(); got != want {
		t.Errorf("after the kills (-) and after a fresh start (+):\n%s", lineDiff(got, want))
	}
	if left, err := filepath.Glob(s.dir + "/*.new"); err != nil || len(left) > 0 {
		t.Errorf("the test left %v, %v", left, err)
	}
}

// killOnce starts a proxy and kills it at a random moment: one half of the time while it starts,
// the other half while it follows changes. It reports whether the proxy had written a change.
func (s *stage) killOnce(random *rand.Rand) bool {
	s.t.Helper()
	a, err := startAgent(s.Lab, netlab.Node1, s.socket, s.flags()...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.kill()
	wrote := func() bool { return strings.Contains(a.logged(), "msg=applied") }
	soon := 100
	if random.IntN(2) == 0 {
		soon = 150
		for deadline := time.Now().Add(20 * time.Second); !wrote() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(time.Duration(random.IntN(soon)) * time.Millisecond)
	a.kill()
	return wrote()
}

// churnManifest is the n-th state of the Services that come and go: one whose endpoints change,
// never to none, and a few that exist half of the time.
func churnManifest(n int) string {
	var b strings.Builder
	service := func(name, ip string, pods ...string) {
		fmt.Fprintf(&b, `---
{apiVersion: v1, kind: Service, metadata: {name: %[1]s, namespace: churn}, spec: {clusterIP: %[2]s, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %[1]s, namespace: churn, labels: {kubernetes.io/service-name: %[1]s}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [`, name, ip)
		for _, p := range pods {
			fmt.Fprintf(&b, "{addresses: [%s]},", netlab.Addr(p))
		}
		b.WriteString("]}\n")
	}
	service("moving", "10.96.0.50", [][]string{{"a"}, {"b"}, {"f"}, {"a", "b"}, {"b", "f"}, {"a", "b", "f"}}[n%6]...)
	for i := range 8 {
		if (n>>(i%4))&1 == i&1 {
			service(fmt.Sprintf("half-%d", i), fmt.Sprintf("10.96.1.%d", i), "a", "f")
		}
	}
	return b.String()
}

// lineDiff returns the lines that only one of two texts has.
func lineDiff(a, b string) string {
	var out strings.Builder
	has := func(text string) map[string]bool {
		m := map[string]bool{}
		for line := range strings.Lines(text) {
			m[line] = true
		}
		return m
	}
	inA, inB := has(a), has(b)
	for line := range strings.Lines(a) {
		if !inB[line] {
			out.WriteString("-" + line)
		}
	}
	for line := range strings.Lines(b) {
		if !inA[line] {
			out.WriteString("+" + line)
		}
	}
	return out.String()
}
