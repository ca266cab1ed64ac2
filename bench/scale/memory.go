package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/process"
)

// cost is what the proxy and its tools have used since they were started.
func (t *trial) cost() (process.Cost, error) {
	if t.group != nil {
		return t.group.Cost()
	}
	return ticks(t.Proxy.PID())
}

// since is what they have used since cost was before.
func (t *trial) since(before process.Cost) (*process.Cost, error) {
	now, err := t.cost()
	if err != nil {
		return nil, err
	}
	c := now.Minus(before)
	return &c, nil
}

// total is what they have used, now that the proxy has ended.
func (t *trial) total() (process.Cost, error) {
	if t.group != nil {
		return t.group.Cost()
	}
	user, system := t.Proxy.Usage()
	return process.Cost{User: user, System: system}, nil
}

// ticks is the CPU time that a process has used, and its children in so far as it has waited for
// them, which process.CPU does not know. Its resolution is 10 ms. It is for machines that cannot
// have a process.Group.
func ticks(pid int) (process.Cost, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process.Cost{}, fmt.Errorf("cpu: %w", err)
	}
	// The name in parentheses may contain anything; fields count from it (proc(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 15 {
		return process.Cost{}, fmt.Errorf("cpu: %q", stat)
	}
	var times [4]time.Duration // utime, stime, cutime, cstime
	for i := range times {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return process.Cost{}, fmt.Errorf("cpu: %w", err)
		}
		times[i] = time.Duration(n) * (time.Second / 100)
	}
	return process.Cost{User: times[0] + times[2], System: times[1] + times[3]}, nil
}

// watchTools samples the memory of the children of a process, which are the tools that it has
// program the kernel. The returned function ends that and returns the most that one of them had.
func watchTools(pid int) (stop func() int64) {
	done, result := make(chan struct{}), make(chan int64)
	self := program(pid)
	go func() {
		var most int64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, child := range process.Children(pid) {
				// Between fork and exec, a child is a copy of the proxy.
				if p := program(child); p == "" || p == self {
					continue
				}
				if _, m, err := process.Memory(child); err == nil { // else it is gone
					most = max(most, m)
				}
			}
			select {
			case <-done:
				result <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}

// program is the path of what a process runs, "" if it is gone.
func program(pid int) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return path
}
