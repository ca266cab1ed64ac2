package suite

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/process"
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
			x.Churn = &scale.Churn{Changes: 100, Lag: time.Second, Cost: process.Cost{User: time.Second}, Calls: 10, Longest: time.Second}
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
	files := made(1, map[string]float64{"fairway iptables-legacy": 2, "direct (again)": 1.1})
	files["data-path-10"].Data.Over = map[string]string{"kube-proxy iptables-nft": "over 60 s"}
	files["data-path-10"].Data.Series = slices.DeleteFunc(files["data-path-10"].Data.Series, func(s datapath.Series) bool { return s.Subject == "kube-proxy iptables-nft" })
	for i, x := range files["programming-10"].Scale.Samples {
		if x.Subject == "kube-proxy iptables-legacy" {
			files["programming-10"].Scale.Samples[i] = scale.Sample{Subject: x.Subject, Over: "first sync", RSS: 1e9}
		}
	}
	report, err := Report(files)
	if err != nil {
		t.Fatal(err)
	}
	text := string(report[page])
	for _, want := range []string{
		" | over 60 s | ", "**too noisy** for: pod to the first Service: connect p50, µs 1.1", "**behind**",
		" | first sync over 60 s | ", ", when it was ended |", "under 0.03", "## Where Fairway is behind",
		"### Programming, 10 Services\n", "### Data path, 10 Services\n", "](benchmarks/connect.svg)", "](benchmarks/headline.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
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

// What is behind is what was slowed down, beside every rival of it.
func TestBehind(t *testing.T) {
	all := figuresOf(made(1, map[string]float64{"fairway iptables-legacy": 1.5}))
	found := map[string]int{}
	for _, p := range all.pairs() {
		if p.behind() && p.ours.subject == "fairway iptables-legacy" {
			found[p.theirs.subject+", "+p.ours.measure]++
		}
		if p.behind() && p.ahead() {
			t.Errorf("%v is behind and ahead", p.ours.key)
		}
	}
	for _, rival := range []string{"kube-proxy iptables-legacy", "kube-proxy nftables"} {
		for m, want := range map[string]int{connectP50: len(datapath.Paths()), datapath.Bulk: len(datapath.Paths()), firstSync: 1, changeP50: 1} {
			if got := found[rival+", "+m]; got != want {
				t.Errorf("behind %s in %s %d times, want %d", rival, m, got, want)
			}
		}
	}
}

// A figure that is missing without a reason is a hole.
func TestHoles(t *testing.T) {
	files := made(1, nil)
	whole := figuresOf(files)
	before := len(whole.holes())
	files["data-path-10"].Data.Series = files["data-path-10"].Data.Series[1:]
	torn := figuresOf(files)
	if got := len(torn.holes()) - before; got != len(datapath.Measures) {
		t.Errorf("%d more holes, want %d", got, len(datapath.Measures))
	}
}

// The control that differs from itself is named.
func TestTwins(t *testing.T) {
	for times, want := range map[float64]int{1: 0, 1.1: 5 * len(datapath.Paths())} {
		all := figuresOf(made(1, map[string]float64{"direct (again)": times}))
		twins := all.twins()
		if len(twins) != 1 || twins[0].subject != "direct" || len(twins[0].apart) != want || twins[0].compared != 5*len(datapath.Paths()) {
			t.Errorf("%v times: %+v", times, twins)
		}
	}
}

// The time left follows what cells took, not what was expected of them.
func TestClock(t *testing.T) {
	c := newClock([]cell{{about: time.Minute}, {about: 2 * time.Minute}, {about: time.Minute}})
	if got, want := c.line(c.begin), "[                    ] 4 min left; 1 of 3, "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.done(c.begin.Add(2 * time.Minute)) // twice as long
	if got, want := c.line(c.begin.Add(3*time.Minute)), "[==========          ] 4 min left; 2 of 3, "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What has a file is not measured again, and what was interrupted has none.
func TestRunResumes(t *testing.T) {
	o := Options{Plan: Quick, Dir: t.TempDir(), Progress: func(string) {}}
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
	results := t.TempDir()
	for _, name := range []string{"programming-3.json", "other.json"} {
		if err := os.WriteFile(filepath.Join(results, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Publish(o.Dir, results); err != nil {
		t.Fatal(err)
	}
	published, err := filepath.Glob(filepath.Join(results, "*.json"))
	if err != nil || len(published) != len(files)+1 || slices.Contains(published, filepath.Join(results, "programming-3.json")) {
		t.Errorf("published: %v, %v", published, err)
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
