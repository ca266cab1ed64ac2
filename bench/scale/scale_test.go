package scale

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMarkdown(t *testing.T) {
	ms := time.Millisecond
	r := Result{Options: Options{Services: 10, Endpoints: 5, Limit: time.Minute}, Samples: []Sample{
		{Subject: "fairway iptables-nft", FirstSync: 100 * ms, Changes: []time.Duration{3 * ms, 1 * ms, 2 * ms}, ChangesCost: &process.Cost{System: 120 * ms}, RSS: 10e6, HWM: 20e6},
		{Subject: "kube-proxy iptables-nft", FirstSync: 1000 * ms, Changes: []time.Duration{20 * ms}, ChangesCost: &process.Cost{System: 80 * ms}, RSS: 40e6, HWM: 40e6},
		{Subject: "fairway iptables-legacy", FirstSync: 6000 * ms, RSS: 10e6, HWM: 20e6},
		{Subject: "kube-proxy iptables-legacy", Over: firstSync, RSS: 20e6, HWM: 20e6},
		{Subject: "kube-proxy nftables", Over: firstSync, Known: &Known{5, time.Second}},
		{Subject: "fairway iptables-nft", Err: "broken"},
	}}
	page := r.Markdown()
	for _, want := range []string{
		"| fairway iptables-nft | 100 ms (100 to 100) | 2 ms (1 to 3) | 40 ms (40 to 40) | 10 MB (10 to 10) | 20 MB",
		"| kube-proxy iptables-legacy | over 60 s | - |",
		"| kube-proxy nftables | over 1 s at 5 Services already | - | - | - | - | - | - |",
		"| fairway iptables-legacy / kube-proxy iptables-legacy | under 0.100 | - | - | 0.500 | 1.000 |",
		"| fairway iptables-nft / kube-proxy iptables-nft | 0.100 | 0.100 | 0.500 | 0.250 | 0.500 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// A small measurement of kube-proxy: every part of the harness works and leaves nothing.
func TestRun(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	proxy := peerbin.Need(t, peerbin.Proxy)
	samples, err := Run(t.Context(), Options{
		Services: 20, Endpoints: 5, Runs: 1, Changes: 1, Limit: time.Minute, ChurnFor: time.Second,
		Bin: strings.TrimSuffix(proxy, "/"+peerbin.Proxy), Progress: func(string) {},
		Subjects: stage.Named("kube-proxy nftables", "kube-proxy iptables-nft"),
		Known:    map[string]Known{"kube-proxy iptables-nft": {Services: 10, Limit: time.Second}},
	})
	if err != nil || len(samples) != 2 {
		t.Fatal(samples, err)
	}
	slices.Reverse(samples) // known ones come first
	s := samples[0]
	if s.Over != "" || s.FirstSync <= 0 || len(s.Changes) != 1 || s.Changes[0] <= 0 || s.RSS <= 0 || s.HWM < s.RSS || s.ChangesCost == nil || s.ChangesCost.CPU() <= 0 || s.CPU <= 0 {
		t.Errorf("got %+v", s)
	}
	if r := s.Rolling; r == nil || r.Changes != rollingSteps || r.Lag <= 0 || r.Calls == 0 || r.Failed == r.Calls {
		t.Errorf("rolling update: %+v", r)
	}
	if c := s.Churn; c == nil || c.Changes < 2 || c.Lag <= 0 || c.Cost.CPU() <= 0 || c.Longest <= 0 {
		t.Errorf("churn: %+v", c)
	}
	for name, c := range map[string]*process.Cost{"sync": s.SyncCost, "changes": s.ChangesCost, "rolling": &s.Rolling.Cost, "churn": &s.Churn.Cost} {
		if c == nil || c.CPU() <= 0 || c.User < 0 || c.System < 0 || c.CPU() > s.CPU || (c.Calls > 0) != (s.NoCalls == "") {
			t.Errorf("cost of %s: %+v, %s", name, c, s.NoCalls)
		}
	}
	// A chain of each Service, an element for it in a map, and one for each endpoint.
	if r := s.Rules; r == nil || r.Chains < 20 || r.Rules < 20 || r.Sets < 1 || r.Elements < 20+19*5 || r.Bytes <= 0 || r.Unit != nftUnit {
		t.Errorf("rules: %+v", r)
	}
	if k := samples[1]; k.Known == nil || k.Over != firstSync || k.FirstSync != 0 {
		t.Errorf("the subject that was over a limit before: %+v", k)
	}
}

// A subject that fails does not keep others from being measured, and says why. If all fail, that
// is an error.
func TestFailing(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	proxy := peerbin.Need(t, peerbin.Proxy)
	bin := t.TempDir() // without fairway
	if err := os.Symlink(proxy, filepath.Join(bin, peerbin.Proxy)); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Services: 5, Endpoints: 2, Runs: 1, Limit: time.Minute, Bin: bin, Progress: func(string) {},
		Subjects: stage.Named("kube-proxy nftables", "fairway iptables-nft"),
	}
	samples, err := Run(t.Context(), o)
	if err != nil || len(samples) != 2 || samples[0].Err == "" || samples[1].Err != "" || samples[1].FirstSync <= 0 {
		t.Errorf("got %+v, %v", samples, err)
	}
	o.Skip = map[string]string{"kube-proxy nftables": "not now"}
	o.Subjects = stage.Named("kube-proxy nftables")
	if samples, err := Run(t.Context(), o); err != nil || len(samples) != 1 || samples[0].Err != "not now" || samples[0].FirstSync > 0 {
		t.Errorf("got %+v, %v", samples, err)
	}
	o.Subjects = stage.Named("fairway iptables-nft")
	if samples, err := Run(t.Context(), o); err == nil {
		t.Errorf("nothing works, and yet: %+v", samples)
	}
}

// A subject that is too slow gives a sample that says so, and is not run again.
func TestOverTheLimit(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	proxy := peerbin.Need(t, peerbin.Proxy)
	o := Options{
		Services: 20, Endpoints: 5, Runs: 2, Changes: 1, Limit: 50 * time.Millisecond,
		Bin: strings.TrimSuffix(proxy, "/"+peerbin.Proxy), Progress: func(string) {},
		Subjects: stage.Named("kube-proxy nftables"),
	}
	samples, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != 1 || samples[0].Over != firstSync {
		t.Errorf("got %+v", samples)
	}
	known := map[string]Known{}
	KnownOver(known, o, samples)
	if diff := cmp.Diff(map[string]Known{"kube-proxy nftables": {o.Services, o.Limit}}, known); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, o); err == nil {
		t.Error("an interrupted measurement has a result")
	}
}
