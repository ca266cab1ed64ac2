package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Cost is what processes have used.
type Cost struct {
	// User and System are CPU time. Their sum is exact; the kernel divides it by what it saw at
	// its timer's ticks, so that the parts of less than a second are an estimate.
	User   time.Duration `json:"user_ns"`
	System time.Duration `json:"system_ns"`
	// Calls are system calls; 0 if they are not counted.
	Calls int64 `json:"syscalls,omitempty"`
}

// CPU is user and system time together.
func (c Cost) CPU() time.Duration { return c.User + c.System }

// Minus is what was used since before.
func (c Cost) Minus(before Cost) Cost {
	return Cost{c.User - before.User, c.System - before.System, c.Calls - before.Calls}
}

// A Group counts what the processes started in it use, and all that these start: it is a control
// group of version 2, below the root, and a counter of system calls bound to it on each CPU
// (perf_event_open(2), PERF_FLAG_PID_CGROUP). What the kernel does for them in threads of its own
// or on the way of packets is not theirs and is not counted.
//
// Methods are for one goroutine at a time. A nil Group is fine: it counts nothing.
type Group struct {
	name   string
	root   int // file descriptor of the root of control groups
	dir    int // and of this one
	perf   []int
	noCall error
}

// groupPrefix is what the names of groups begin with; the process id of their maker follows.
const groupPrefix = "fairway-bench-"

var groups atomic.Int64

// NewGroup makes a Group. It fails on a machine without control groups of version 2. Groups that
// processes left which a signal ended are removed. The caller must Close it.
func NewGroup() (_ *Group, err error) {
	// A mount of our own, seen by nobody else: where the machine has it does not matter.
	root, err := mount("cgroup2")
	if err != nil {
		return nil, fmt.Errorf("control groups of version 2: %w", err)
	}
	sweepGroups(root)
	g := &Group{name: fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), groups.Add(1)), root: root, dir: -1}
	if err := unix.Mkdirat(root, g.name, 0o755); err != nil {
		_ = unix.Close(root)
		return nil, fmt.Errorf("control group %s: %w", g.name, err)
	}
	if g.dir, err = unix.Openat(root, g.name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("control group %s: %w", g.name, err), g.Close())
	}
	g.noCall = g.count()
	return g, nil
}

// mount makes a file system that is in no directory, and returns its root.
func mount(kind string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen "+kind, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig "+kind, err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	return root, os.NewSyscallError("fsmount "+kind, err)
}

// count starts counting system calls.
func (g *Group) count() error {
	events, err := mount("tracefs")
	if err != nil {
		return err
	}
	defer unix.Close(events)
	text, err := readAt(events, "events/raw_syscalls/sys_enter/id")
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return fmt.Errorf("id of raw_syscalls:sys_enter: %w", err)
	}
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	for _, cpu := range cpus {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id}
		attr.Size = unix.PERF_ATTR_SIZE_VER0
		fd, err := unix.PerfEventOpen(&attr, g.dir, cpu, -1, unix.PERF_FLAG_PID_CGROUP|unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("perf_event_open", err)
		}
		g.perf = append(g.perf, fd)
	}
	return nil
}

func onlineCPUs() ([]int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online") // such as "0-3,6"
	if err != nil {
		return nil, err
	}
	var out []int
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("cpus online: %w", err)
		}
		for cpu := first; cpu <= last; cpu++ {
			out = append(out, cpu)
		}
	}
	return out, nil
}

// NoCalls tells why system calls are not counted; nil if they are.
func (g *Group) NoCalls() error { return g.noCall }

// Start is [Start] of a program whose processes are counted.
func (g *Group) Start(cmd *exec.Cmd) (*Process, error) {
	if g != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, g.dir
	}
	return Start(cmd)
}

// Cost is what was used until now.
func (g *Group) Cost() (Cost, error) {
	text, err := readAt(g.dir, "cpu.stat")
	if err != nil {
		return Cost{}, err
	}
	var c Cost
	found := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "user_usec" && name != "system_usec" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return Cost{}, fmt.Errorf("cpu.stat: %w", err)
		}
		found++
		if d := time.Duration(n) * time.Microsecond; name == "user_usec" {
			c.User = d
		} else {
			c.System = d
		}
	}
	if found != 2 {
		return Cost{}, fmt.Errorf("cpu.stat: %q", text)
	}
	if g.noCall != nil {
		return c, nil
	}
	for _, fd := range g.perf {
		var b [8]byte
		if _, err := unix.Read(fd, b[:]); err != nil {
			return Cost{}, os.NewSyscallError("read system calls", err)
		}
		c.Calls += int64(binary.NativeEndian.Uint64(b[:]))
	}
	return c, nil
}

// Close kills what is left in the group and removes it. Closing nil, or twice, is fine.
func (g *Group) Close() error {
	if g == nil || g.root < 0 {
		return nil
	}
	for _, fd := range append(g.perf, g.dir) {
		_ = unix.Close(fd)
	}
	err := removeGroup(g.root, g.name)
	_ = unix.Close(g.root)
	g.root, g.dir, g.perf = -1, -1, nil
	return err
}

// removeGroup kills the processes of a group and removes it once they are gone. That can take
// minutes: nothing ends a process that the kernel is busy for, such as nft with a very large
// transaction, and until it is gone it would disturb whatever is measured next.
func removeGroup(root int, name string) error {
	if fd, err := unix.Openat(root, name+"/cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("1"))
		_ = unix.Close(fd)
	}
	pause := time.Millisecond
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(pause) {
		pause = min(2*pause, 100*time.Millisecond)
		err := unix.Unlinkat(root, name, unix.AT_REMOVEDIR)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove control group %s: %w", name, err)
		}
	}
}

// Groups are the names of the groups of this process that are not closed.
func Groups() ([]string, error) {
	root, err := mount("cgroup2")
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	all, err := groupsIn(root)
	return all[os.Getpid()], err
}

// groupsIn returns the names of all groups, by the process that made them.
func groupsIn(root int) (map[int][]string, error) {
	fd, err := unix.Openat(root, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	dir := os.NewFile(uintptr(fd), "control groups")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	out := map[int][]string{}
	for _, name := range names {
		rest, ours := strings.CutPrefix(name, groupPrefix)
		text, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(text); ours && err == nil {
			out[pid] = append(out[pid], name)
		}
	}
	return out, err
}

// sweepGroups removes the groups of processes that are gone. What cannot be removed, a later call
// may.
func sweepGroups(root int) {
	all, _ := groupsIn(root)
	for pid, names := range all {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		for _, name := range names {
			_ = removeGroup(root, name)
		}
	}
}

func readAt(dir int, path string) (string, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}
