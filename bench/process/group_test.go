package process

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

func newGroup(t *testing.T) *Group {
	t.Helper()
	netlab.Require(t) // root, in a kernel of its own
	g, err := NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// Children count, a thousand system calls are a thousand, and nothing is counted of others.
func TestGroupCost(t *testing.T) {
	g := newGroup(t)
	if err := g.NoCalls(); err != nil {
		t.Fatal(err)
	}
	before, err := g.Cost()
	if err != nil || before != (Cost{}) {
		t.Fatalf("an empty group has cost %+v, %v", before, err)
	}
	// dd makes two calls a block, and a few dozen more.
	const blocks = 10_000
	p, err := g.Start(exec.Command("sh", "-c", fmt.Sprintf("dd if=/dev/zero of=/dev/null bs=1 count=%d; true", blocks)))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	c, err := g.Cost()
	if err != nil || c.CPU() <= 0 || c.Calls < 2*blocks || c.Calls > 2*blocks+1000 {
		t.Errorf("got %+v, %v", c, err)
	}
	wait.Until(t, "nobody uses anything", func() bool { // the last instructions of a process that has ended are done
		before, err := g.Cost()
		after, err2 := g.Cost()
		return err == nil && err2 == nil && before == after
	})
}

// Close ends what is left, even what left its process group, and leaves no control group.
func TestGroupClose(t *testing.T) {
	g := newGroup(t)
	p, err := g.Start(exec.Command("sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	name, root := g.name, dup(t, g.root)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := unix.Faccessat(root, name, unix.F_OK, 0); err == nil {
		t.Errorf("control group %s is still there", name)
	}
	if err := g.Close(); err != nil {
		t.Error("closed again: ", err)
	}
}

// A group whose maker was killed is removed by the next one.
func TestGroupSweep(t *testing.T) {
	g := newGroup(t)
	p, err := Start(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done() // its number is nobody's now
	dead := fmt.Sprintf("%s%d-1", groupPrefix, p.PID())
	if err := unix.Mkdirat(g.root, dead, 0o755); err != nil {
		t.Fatal(err)
	}
	next, err := NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := unix.Faccessat(g.root, dead, unix.F_OK, 0); err == nil {
		t.Errorf("control group %s is still there", dead)
	}
	if err := unix.Faccessat(g.root, g.name, unix.F_OK, 0); err != nil {
		t.Error("the group of a living process is gone: ", err)
	}
}

// A program is in its group from its first instruction on.
func TestGroupStart(t *testing.T) {
	g := newGroup(t)
	p, err := g.Start(exec.Command("cat", "/proc/self/cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if out := p.Output(); !strings.Contains(out, "0::/"+g.name) && !strings.HasSuffix(out, g.name) {
		t.Errorf("its groups are %s", out)
	}
	var none *Group
	q, err := none.Start(exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	q.Kill()
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	out, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("fcntl", err))
	}
	t.Cleanup(func() { _ = unix.Close(out) })
	return out
}
