package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestEnds(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "echo before; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "exit status 3: before") {
		t.Errorf("got %v", err)
	}
}

// A program must outlive the thread that asked for it.
func TestOutlivesTheCaller(t *testing.T) {
	got := make(chan *Process)
	go func() {
		runtime.LockOSThread() // so that the thread ends with the goroutine
		p, err := Start(exec.Command("sleep", "100"))
		if err != nil {
			t.Error(err)
		}
		got <- p
	}()
	p := <-got
	if p == nil {
		return
	}
	defer p.Kill()
	select {
	case <-p.Done():
		t.Error(p.Err())
	case <-time.After(200 * time.Millisecond):
	}
}

func TestStop(t *testing.T) {
	tests := map[string]struct {
		script string
		grace  time.Duration
		obeys  bool
	}{
		"obeys":     {"trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done", 30 * time.Second, true},
		"does not":  {"trap '' TERM; echo ready; while :; do sleep 0.01; done", 200 * time.Millisecond, false},
		"is killed": {"echo ready; exec sleep 100", 30 * time.Second, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := Start(exec.Command("sh", "-c", tt.script))
			if err != nil {
				t.Fatal(err)
			}
			for p.Output() != "ready" {
				if err := p.Err(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			if err := p.Stop(tt.grace); (err == nil) != tt.obeys {
				t.Errorf("got %v", err)
			}
			if p.Err() == nil {
				t.Error("still runs")
			}
		})
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var out tail
	for range 3 {
		if n, err := out.Write([]byte(strings.Repeat("x", keptOutput-1) + "y")); n != keptOutput || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := out.String(); len(got) != keptOutput || !strings.HasSuffix(got, "xy") {
		t.Errorf("kept %d bytes", len(got))
	}
}

func TestTempDirRemovesWhatIsLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := Start(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done() // its number is nobody's now
	dead := filepath.Join(os.TempDir(), fmt.Sprintf("fairway-x-%d-1", p.PID()))
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := TempDir("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TempDir("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Errorf("%s is still there", dead)
	}
	if _, err := os.Stat(first); err != nil {
		t.Error("the directory of a living process is gone: ", err)
	}
}
