package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/process"
)

// cpu returns the CPU time, user and system, that a process and its children have used, in so far
// as it has waited for them, which process.CPU does not know. Its resolution is 10 ms.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cpu: %w", err)
	}
	// The name in parentheses may contain anything; fields count from it (proc(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 15 {
		return 0, fmt.Errorf("cpu: %q", stat)
	}
	var ticks int64
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cpu: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil
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
