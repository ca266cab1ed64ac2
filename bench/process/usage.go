package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the CPU time, user and system, that a process and the processes below it have used.
func CPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED: the scheduler's count, in nanoseconds
	var t unix.Timespec
	// The clock of a process: clock_getcpuclockid(3), linux/posix-timers.h.
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("cpu time of %d: %w", pid, err)
	}
	sum := time.Duration(t.Nano())
	for _, child := range Children(pid) {
		c, err := CPU(child)
		if err != nil {
			return 0, err
		}
		sum += c
	}
	return sum, nil
}

// Children are the processes that a process has started and that have not ended.
func Children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var out []int
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread that is gone has none
		for field := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(field); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// Memory is the resident memory of a process in bytes, now and at most.
func Memory(pid int) (now, most int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kB, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "VmRSS":
			now, err = strconv.ParseInt(kB, 10, 64)
		case "VmHWM":
			most, err = strconv.ParseInt(kB, 10, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("memory: %w", err)
		}
	}
	return now << 10, most << 10, nil
}
