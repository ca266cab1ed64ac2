// Package process runs the programs that tests and measurements put side by side: API servers,
// proxies, databases. It makes sure that they end with the process that started them, and keeps
// the end of what they printed for the error message.
//
// It deliberately does not restart anything and knows no program. A program's files are its
// owner's to remove.
package process

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// A Process is a running program. Its methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	err  error // of Wait; read after done
	kill sync.Once
}

// Start starts cmd in the network namespace of the calling thread, in a process group of its own
// (a Ctrl-C at the terminal does not reach it) and bound to end when this process does, whatever
// ends it. Output goes to memory, in so far as cmd has no writers of its own.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.out
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	here, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("start %s: network namespace: %w", cmd.Path, err)
	}
	started := make(chan error)
	go p.run(here, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run starts the program and waits for its end, on a thread of its own: the kernel ends the
// program with the thread that started it (PR_SET_PDEATHSIG), and a thread of Go's pool may end
// at any time with a goroutine that had locked it.
func (p *Process) run(ns netns.NsHandle, started chan<- error) {
	runtime.LockOSThread() // and never unlock: the thread has changed its namespace
	err := enter(ns)
	_ = ns.Close()
	if err == nil {
		err = p.cmd.Start()
	}
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}

// enter moves the calling thread into the namespace. To stay needs no privilege.
func enter(ns netns.NsHandle) error {
	now, err := netns.Get()
	if err != nil {
		return err
	}
	defer now.Close()
	if now.Equal(ns) {
		return nil
	}
	return netns.Set(ns)
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells why the process is not running; nil while it is.
func (p *Process) Err() error {
	select {
	case <-p.done:
		if p.err == nil {
			return fmt.Errorf("%s ended: %s", p.cmd.Path, p.Output())
		}
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, p.err, p.Output())
	default:
		return nil
	}
}

// Output is the end of what the process printed.
func (p *Process) Output() string { return strings.TrimSpace(p.out.String()) }

// Kill ends the process and its children with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.kill.Do(func() { // once: later, the number may be another's
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // only fails if all are gone
	})
	<-p.done
}

// Stop asks the process to end and kills it if it is still there after grace. It returns an
// error if it had to.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && p.Err() == nil {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		p.Kill()
		return errors.New(p.cmd.Path + " did not end when told to")
	}
}

// Usage is the CPU time of the ended process and of its children that it waited for.
func (p *Process) Usage() (user, system time.Duration) {
	<-p.done
	s := p.cmd.ProcessState
	return s.UserTime(), s.SystemTime()
}

// keptOutput is how much of the end of a program's output is kept.
const keptOutput = 16 << 10

// A tail is a writer that keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - keptOutput; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
