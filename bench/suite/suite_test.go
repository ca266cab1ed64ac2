package suite

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
)

// made returns made-up results in which everything of one subject takes slow times as long.
func made(seed uint64, slow map[string]float64) map[string]File {
	random := rand.New(rand.NewPCG(seed, 0))
	noisy := func(x float64) float64 { return x * (1 + 0.03*random.NormFloat64()) }
	data := &datapath.Result{Options: datapath.Options{Cluster: stage.Cluster{Services: 10, Endpoints: 5}, Rounds: 10, Control: "direct"}}
	programming := &Programming{Options: scale.Options{Services: 10, Endpoints: 5, Runs: 3, Changes: 5, Limit: time.Minute}}
	for _, s := range append([]stage.Subject{stage.Direct, {Name: stage.Direct.Name + datapath.Again}}, stage.Proxies...) {
		times := 1.0
		if t, ok := slow[s.Name]; ok {
			times = t
		}
		for _, p := range datapath.Paths() {
			rounds := map[string][]float64{}
			for range data.Options.Rounds {
				for _, m := range datapath.Measures {
					v := noisy(30 * times)
					if datapath.MoreIsBetter(m) {
						v = noisy(1000 / times)
					}
					rounds[m] = append(rounds[m], v)
				}
			}
			data.Series = append(data.Series, datapath.Series{Subject: s.Name, Path: p, Rounds: rounds})
		}
		if strings.HasPrefix(s.Name, stage.Direct.Name) {
			continue
		}
		for run := range 3 {
			x := scale.Sample{Subject: s.Name, Run: run, FirstSync: time.Duration(noisy(1e9 * times)), RSS: int64(noisy(1e8)), HWM: 2e8}
			for range 5 {
				x.Changes = append(x.Changes, time.Duration(noisy(1e7*times)))
			}
			x.Churn = &scale.Churn{Changes: 100, Lag: time.Second, CPU: time.Second, Calls: 10, Longest: time.Second}
			programming.Samples = append(programming.Samples, x)
		}
	}
	return map[string]File{"data-path-10": {Data: data}, "programming-10": {Scale: programming}}
}

// Compare finds what was slowed down, all of it and nothing else.
func TestCompare(t *testing.T) {
	before := made(1, nil)
	if out, n := Compare(before, made(2, nil)); len(out) != 0 || n < 100 {
		t.Errorf("the same differs in %v, of %d figures", out, n)
	}
	out, _ := Compare(before, made(3, map[string]float64{"fairway iptables-nft": 1.4}))
	for _, d := range out {
		if !strings.Contains(d.What, "fairway iptables-nft") || d.Ratio.Value < 1.2 {
			t.Errorf("not slowed: %s", d)
		}
	}
	if want := len(datapath.Paths())*5 + 2; len(out) != want {
		t.Errorf("%d of %d slowed figures were found", len(out), want)
	}
	if out, _ := Compare(before, made(4, map[string]float64{"kube-proxy nftables": 0.5})); len(out) == 0 || out[0].Ratio.Value > 1 {
		t.Errorf("what is faster: %v", out)
	}
}

func TestReport(t *testing.T) {
	files := made(1, map[string]float64{"fairway iptables-legacy": 2})
	files["data-path-10"].Data.Over = map[string]string{"kube-proxy iptables-nft": "over 60 s"}
	report, err := Report(files)
	if err != nil {
		t.Fatal(err)
	}
	page := string(report["benchmarks.md"])
	for _, want := range []string{
		"| kube-proxy iptables-nft | over 60 s |", "all medians within 5 %", "**behind**",
		"### 10 Services of 5 endpoints\n", "### 10 Services of 5 endpoints, IPv4", "| many changes |", "benchmarks/connect.svg",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if len(report) != 5 {
		t.Errorf("%d files", len(report))
	}
	for name, content := range report {
		if filepath.Ext(name) != ".svg" {
			continue
		}
		for d := xml.NewDecoder(strings.NewReader(string(content))); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
	}
	again, err := Report(files)
	if diff := cmp.Diff(report, again); err != nil || diff != "" {
		t.Errorf("the same results make another report: %v %s", err, diff)
	}
}

// The machine is called noisy if the control differs from itself.
func TestNoise(t *testing.T) {
	f := made(1, map[string]float64{"direct (again)": 1.1})["data-path-10"]
	if noise := f.Data.Noise(); len(noise) != len(datapath.Paths())*3 || !strings.Contains(f.Data.Markdown(), "was noisy") {
		t.Errorf("noise: %v", noise)
	}
}

// What has a file is not measured again, and what was interrupted has none.
func TestRunResumes(t *testing.T) {
	o := Options{Quick: true, Dir: t.TempDir(), Progress: func(string) {}}
	for _, c := range o.cells() {
		if err := save(filepath.Join(o.Dir, c.name+".json"), made(1, nil)["data-path-10"]); err != nil {
			t.Fatal(err)
		}
	}
	if err := Run(t.Context(), o); err != nil {
		t.Errorf("something was measured: %v", err)
	}
	files, err := Load(o.Dir)
	if err != nil || len(files) != len(o.cells()) {
		t.Errorf("%d files, %v", len(files), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Dir = t.TempDir()
	if err := Run(ctx, o); err == nil {
		t.Error("an interrupted run has no error")
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
