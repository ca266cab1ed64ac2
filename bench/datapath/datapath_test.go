package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// few are enough to see that each measure works.
var few = sizes{warm: 1, connects: 10, cycles: 10, trips: 20, datagrams: 20, bulk: 5 * time.Millisecond}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A small measurement in both families: every measure of every path has a value a round, and the
// subject that cannot be up says so.
func TestRun(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	proxy := peerbin.Need(t, peerbin.Proxy)
	for _, v6 := range []bool{false, true} {
		r, err := Run(t.Context(), Options{
			Cluster: stage.Cluster{Services: 5, Endpoints: 2, V6: v6}, Rounds: 2, Limit: time.Minute, size: few,
			Control: "direct", Bin: filepath.Dir(proxy), Progress: func(string) {},
			Subjects: stage.Named("direct", "kube-proxy nftables"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Over) != 0 || len(r.Series) != 3*len(Paths()) {
			t.Fatalf("over: %v, %d series", r.Over, len(r.Series))
		}
		for _, s := range r.Series {
			for _, m := range Measures {
				got := s.Rounds[m]
				if len(got) != 2 || (m != Lost && m != Failed && slices.Min(got) <= 0) {
					t.Errorf("%s, %s, %s: %v", s.Subject, s.Path, m, got)
				}
			}
		}
	}
}

func TestOver(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	proxy := peerbin.Need(t, peerbin.Proxy)
	o := Options{
		Cluster: stage.Cluster{Services: 5, Endpoints: 2}, Rounds: 1, Limit: time.Millisecond, size: few,
		Bin: filepath.Dir(proxy), Progress: func(string) {}, Subjects: stage.Named("direct", "kube-proxy nftables"),
	}
	r, err := Run(t.Context(), o)
	if err != nil || r.Over["kube-proxy nftables"] == "" || len(r.Series) != len(Paths()) {
		t.Errorf("got %v, %d series, %v", r.Over, len(r.Series), err)
	}
}

// A subject that ends in the middle says so, and the others go on. If none is left, that is an
// error.
func TestFailing(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	bin := t.TempDir()
	if err := os.Symlink("/bin/false", filepath.Join(bin, peerbin.Fairway)); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Cluster: stage.Cluster{Services: 5, Endpoints: 2}, Rounds: 1, Limit: time.Minute, size: few,
		Bin: bin, Progress: func(string) {}, Subjects: stage.Named("direct", "fairway iptables-nft", "kube-proxy nftables"),
		Skip: map[string]string{"kube-proxy nftables": "not now"},
	}
	r, err := Run(t.Context(), o)
	if err != nil || !strings.HasPrefix(r.Over["fairway iptables-nft"], "failed: ") || r.Over["kube-proxy nftables"] != "not now" || len(r.Series) != len(Paths()) {
		t.Errorf("got %v, %d series, %v", r.Over, len(r.Series), err)
	}
	o.Subjects = stage.Named("fairway iptables-nft")
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("nothing works, and that is no error")
	}
}

// Whenever a measurement is interrupted, it leaves no namespace and no process.
func TestInterrupted(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	bin := filepath.Dir(peerbin.Need(t, peerbin.Fairway))
	for _, when := range []string{"first sync", "round 1"} {
		children := process.Children(os.Getpid())
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, Options{
			Cluster: stage.Cluster{Services: 5, Endpoints: 2}, Rounds: 2, Limit: time.Minute, size: few,
			Bin: bin, Subjects: stage.Named("fairway iptables-nft"),
			Progress: func(what string) {
				if strings.Contains(what, when) {
					time.AfterFunc(20*time.Millisecond, cancel) // in the midst of it
				}
			},
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", when, err)
		}
		left, err := filepath.Glob(fmt.Sprintf("/run/netns/fw%dx*", os.Getpid()))
		if err != nil || len(left) > 0 || len(process.Children(os.Getpid())) > len(children) {
			t.Errorf("%s: left behind: %v, %v, %v", when, left, process.Children(os.Getpid()), err)
		}
	}
}
