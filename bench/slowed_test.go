package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/suite"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A build of Fairway whose backend takes longer to apply anything is caught by "bench compare".
//
// With BENCH_SELFTEST=full the slowdown is a hundredth of a second, and a second measurement of
// the build as it is must not differ from the first: that takes a quiet machine.
func TestCompareCatchesASlowedBuild(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	full := os.Getenv("BENCH_SELFTEST") == "full"
	sleep, rounds := time.Second, 1
	if full {
		sleep, rounds = 10*time.Millisecond, 4
	}
	builds := map[string]string{"normal": fairwayBuild(t, 0), "slowed": fairwayBuild(t, sleep)}
	if full {
		builds["again"] = builds["normal"]
	}
	samples := map[string][]scale.Sample{}
	o := scale.Options{Services: 100, Endpoints: 2, Runs: 1, Changes: 3, Limit: time.Minute, Progress: func(string) {},
		Subjects: stage.Named("fairway iptables-nft")}
	for range rounds {
		for name, bin := range builds { // in turns, in any order
			o.Bin = bin
			got, err := scale.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			samples[name] = append(samples[name], got...)
		}
	}
	dirs := map[string]string{}
	for name := range builds {
		dirs[name] = t.TempDir()
		b, err := json.Marshal(suite.File{Scale: &suite.Programming{Options: o, Samples: samples[name]}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dirs[name], "programming-100.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := compared(t.Context(), dirs["normal"], dirs["slowed"])
	t.Logf("normal, slowed:\n%s", out)
	if err == nil || !strings.Contains(out, "fairway iptables-nft, one change p50, ms: worse") {
		t.Errorf("the slowed build is not caught: %v", err)
	}
	if !full {
		return
	}
	out, err = compared(t.Context(), dirs["normal"], dirs["again"])
	t.Logf("normal, normal:\n%s", out)
	if err != nil {
		t.Errorf("the same build differs from itself: %v", err)
	}
}

// compared runs "bench compare" and returns what it prints; an error is an exit status of 1.
func compared(ctx context.Context, a, b string) (string, error) {
	out := &strings.Builder{}
	cmd := compareCommand()
	cmd.SetOut(out)
	cmd.SetArgs([]string{a, b})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// fairwayBuild builds Fairway, with a pause at every Apply of the backend iptables unless it is 0,
// and returns the directory of the program.
func fairwayBuild(t *testing.T, pause time.Duration) string {
	t.Helper()
	root, err := peerbin.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"build", "-o", filepath.Join(dir, "fairway")}
	if pause > 0 {
		args = append(args, "-overlay", overlay(t, root, dir, pause))
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./cmd/fairway")...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// overlay has the compiler read two files in the place of the tree's, which stays as it is.
func overlay(t *testing.T, root, dir string, pause time.Duration) string {
	t.Helper()
	const apply = "func (b *Backend) Apply("
	backend := filepath.Join(root, "iptables", "backend.go")
	text, err := os.ReadFile(backend)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(text), apply)
	head, body, ok2 := strings.Cut(after, "{\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no %q", backend, apply)
	}
	replace := map[string]string{}
	for at, text := range map[string]string{
		backend: before + apply + head + "{\n\tslowdown()\n" + body,
		filepath.Join(root, "iptables", "slowdown.go"): fmt.Sprintf("package iptables\n\nimport \"time\"\n\nfunc slowdown() { time.Sleep(%d) }\n", pause),
	} {
		file := filepath.Join(dir, filepath.Base(at))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[at] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
