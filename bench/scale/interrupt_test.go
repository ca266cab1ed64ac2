package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Whenever a measurement is interrupted, it leaves no namespace, process, control group or file.
func TestInterrupted(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	bin := filepath.Dir(peerbin.Need(t, peerbin.Fairway))
	for _, when := range []string{"building the lab", "first sync", "trying every Service", "change 1", "hundred changes"} {
		t.Run(when, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			before := mine(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var later *time.Timer
			_, err := Run(ctx, Options{
				Services: 10, Endpoints: 2, Runs: 1, Changes: 1, Limit: time.Minute, ChurnFor: time.Minute, Bin: bin,
				Subjects: stage.Named("fairway iptables-nft"),
				Progress: func(what string) {
					if strings.Contains(what, when) {
						later = time.AfterFunc(50*time.Millisecond, cancel) // in the midst of it
					}
				},
			})
			if later == nil || !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(before, mine(t)); diff != "" {
				t.Errorf("left behind:\n%s", diff)
			}
			if files, err := os.ReadDir(os.TempDir()); err != nil || len(files) > 0 {
				t.Errorf("files left behind: %v, %v", files, err)
			}
		})
	}
}

// mine are the namespaces, children, and control groups of this process.
func mine(t *testing.T) (out []string) {
	t.Helper()
	namespaces, err := filepath.Glob(fmt.Sprintf("/run/netns/fw%dx*", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range process.Children(os.Getpid()) {
		out = append(out, "process "+program(child))
	}
	groups, err := process.Groups()
	if err != nil {
		t.Fatal(err)
	}
	return append(append(out, namespaces...), groups...)
}
