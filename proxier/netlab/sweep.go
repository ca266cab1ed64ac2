package netlab

import (
	"errors"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"sync"
	"syscall"

	"github.com/vishvananda/netns"
)

var labName = regexp.MustCompile(`^fw(\d+)x\d+-`)

// sweep removes the namespaces of processes that are no more. What it cannot remove, a later
// sweep may.
func sweep() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return
	}
	for _, e := range entries {
		m := labName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		pid, err := strconv.Atoi(m[1])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = netns.DeleteNamed(e.Name())
		}
	}
}

// open are the labs of this process that are not closed.
var open struct {
	sync.Mutex
	labs map[*Lab]bool
}

func register(l *Lab) {
	open.Lock()
	defer open.Unlock()
	if open.labs == nil {
		open.labs = map[*Lab]bool{}
	}
	open.labs[l] = true
}

func unregister(l *Lab) {
	open.Lock()
	defer open.Unlock()
	delete(open.labs, l)
}

// CloseAll closes every open Lab of this process.
func CloseAll() error {
	open.Lock()
	var all []*Lab
	for l := range open.labs {
		all = append(all, l)
	}
	open.Unlock()
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// CloseOnSignal makes SIGINT and SIGTERM close every open Lab before they end the process as they
// would have. It lasts until stop is called. Programs that handle these signals themselves need
// only see to it that Close is called.
func CloseOnSignal() (stop func()) {
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			_ = CloseAll()
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		case <-done:
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
	})
}
