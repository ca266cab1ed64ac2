package process

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// The CPU time of a program counts that of its children, and nothing while it sleeps.
func TestCPU(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "sh -c 'while :; do :; done' & sleep 100"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		used, err := CPU(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		if used > 100*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy child used %s", used)
		}
	}
	p.Kill()
	if _, err := CPU(p.PID()); err == nil {
		t.Error("CPU time of a process that is gone")
	}
}

func TestMemory(t *testing.T) {
	now, most, err := Memory(os.Getpid())
	if err != nil || now < 1<<20 || most < now {
		t.Errorf("%d, %d, %v", now, most, err)
	}
}
