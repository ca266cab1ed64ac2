package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairway-lb/fairway/proxier/admin"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// An agent is a fairway process in a namespace of a lab: what the demo shows and the tests of
// this package test.
type agent struct {
	name   string // for messages
	socket string // of a proxy's admin server
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	err    error         // how it ended; valid after done

	mu  sync.Mutex
	log bytes.Buffer
}

// patience is longer than an agent takes for anything on a machine that is busy.
const patience = 60 * time.Second

// startAgent starts "fairway proxy" with these flags in a namespace of l.
func startAgent(l *netlab.Lab, ns, socket string, flags ...string) (*agent, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a, err := startProgram(l, ns, "the proxy", self, append([]string{"proxy", "--admin-socket", socket}, flags...)...)
	if err != nil {
		return nil, err
	}
	a.socket = socket
	return a, nil
}

// startProgram starts a program in a namespace of l. It gets SIGKILL if this process dies.
func startProgram(l *netlab.Lab, ns, name, program string, args ...string) (*agent, error) {
	a := &agent{name: name, done: make(chan struct{})}
	started := make(chan error, 1)
	go a.run(l, ns, started, program, args...)
	return a, <-started
}

// run runs a program in a namespace of l; it tells when the program has started.
func (a *agent) run(l *netlab.Lab, ns string, started chan<- error, name string, args ...string) {
	defer close(a.done)
	// The kernel sends Pdeathsig when the thread that started the child ends: In keeps its
	// thread until the child has ended.
	a.err = l.In(ns, func() error {
		a.cmd = exec.Command(name, args...)
		a.cmd.Stdout, a.cmd.Stderr = a, a
		a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := a.cmd.Start()
		started <- err
		if err != nil {
			return err
		}
		return a.cmd.Wait()
	})
}

// Write keeps what the process logs.
func (a *agent) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

// logged returns what the process has logged so far.
func (a *agent) logged() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// ready waits until the kernel implements a snapshot that has at least this many frontends and
// is the newest one.
func (a *agent) ready(ctx context.Context, frontends int) error {
	return a.until(ctx, func(ctx context.Context) error {
		list, err := admin.Get[admin.Frontend](ctx, a.socket, "frontends", "")
		if err == nil && (list.Applied < list.Revision || len(list.Items) < frontends) {
			err = fmt.Errorf("revision %d of %d is applied, with %d frontends", list.Applied, list.Revision, len(list.Items))
		}
		return err
	})
}

// until waits until ask finds the process ready: until it returns nil.
func (a *agent) until(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-a.done:
			return fmt.Errorf("%s ended (%v):\n%s", a.name, a.err, a.logged())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; %w:\n%s", a.name, context.Cause(ctx), err, a.logged())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop asks the process to end, waits until it has, and returns an error if it did not end well.
func (a *agent) stop() error {
	_ = a.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-a.done:
	case <-time.After(patience):
		a.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM:\n%s", a.name, patience, a.logged())
	}
	if a.err != nil {
		return fmt.Errorf("%s ended with %w:\n%s", a.name, a.err, a.logged())
	}
	return nil
}

// kill ends the process at once.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill() // it may have ended already
	<-a.done
}

// runIn runs a program in a namespace of l and returns what it printed.
func runIn(ctx context.Context, l *netlab.Lab, ns string, name string, args ...string) (string, error) {
	var out []byte
	err := l.In(ns, func() error {
		var err error
		out, err = exec.CommandContext(ctx, name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), err
}
