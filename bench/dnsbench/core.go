package dnsbench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/bench/process"
)

// The cores of a measurement in which the server has one.
const (
	clientCore = 0
	serverCore = 1
)

// bind has all threads of a process and of those below it run on these cores only; on any if
// there are none. Threads that they start later inherit it.
func bind(pid int, cores []int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	for c := range runtime.NumCPU() {
		if len(cores) == 0 {
			set.Set(c)
		}
	}
	// Twice: a thread may have been started by one that was not bound yet.
	for range 2 {
		if err := bindThreads(pid, &set); err != nil {
			return fmt.Errorf("bind %d to cores %v: %w", pid, cores, err)
		}
	}
	return nil
}

func bindThreads(pid int, set *unix.CPUSet) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return err
		}
	}
	for _, child := range process.Children(pid) {
		if err := bindThreads(child, set); err != nil {
			return err
		}
	}
	return nil
}
