package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fairway-lb/fairway/bench/peerbin"
)

// The files of this package's results, from the root of the repository.
const (
	DifferencesFile = "bench/conformance/differences.yaml"
	ResultFile      = "bench/results/conformance-kube-proxy.json"
	PageFile        = "docs/conformance-kube-proxy.md"
)

// Run runs the suite against kube-proxy, which takes about a quarter of an hour, and returns the
// result. progress is told of every scenario that has ended.
func Run(ctx context.Context, versions map[string]string, progress func(done int, name string)) (Result, error) {
	root, err := peerbin.Root()
	if err != nil {
		return Result{}, err
	}
	// The test ends in failure when kube-proxy differs: only its output tells what it found.
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout=60m", "-run=^TestKubeProxy$", "./bench/conformance", "-full")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "REQUIRE=net,peers")
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("go test: %w", err)
	}
	cases, err := Parse(io.TeeReader(out, &counter{tell: progress}))
	_, _ = io.Copy(io.Discard, out)
	var failed *exec.ExitError
	if e := cmd.Wait(); e != nil && !errors.As(e, &failed) {
		err = errors.Join(err, e)
	}
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case err != nil:
		return Result{}, err
	case len(cases) == 0:
		return Result{}, errors.New("conformance: no scenario was run")
	}
	return Result{Date: time.Now().UTC().Format(time.DateOnly), Versions: versions, Cases: cases}, nil
}

// A counter reads along with Parse.
type counter struct {
	tell func(int, string)
	done int
	line []byte
}

func (c *counter) Write(b []byte) (int, error) {
	for _, x := range b {
		if c.line = append(c.line, x); x != '\n' {
			continue
		}
		var e event
		if json.Unmarshal(c.line, &e) == nil && e.Test != "" && (e.Action == "pass" || e.Action == "fail") {
			c.done++
			c.tell(c.done, e.Test)
		}
		c.line = c.line[:0]
	}
	return len(b), nil
}

// Save writes the result.
func Save(r Result) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return write(ResultFile, append(b, '\n'))
}

// SavePage makes the page from the last result and the explanations, and returns an error if
// these two do not agree.
func SavePage() error {
	root, err := peerbin.Root()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(root, ResultFile))
	if err != nil {
		return err
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", ResultFile, err)
	}
	if b, err = os.ReadFile(filepath.Join(root, DifferencesFile)); err != nil {
		return err
	}
	ds, err := Differences(b)
	if err != nil {
		return err
	}
	return errors.Join(write(PageFile, []byte(Page(r, ds))), Check(r, ds))
}

func write(name string, b []byte) error {
	root, err := peerbin.Root()
	if err != nil {
		return err
	}
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}
