package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Options say what a Lab has. The zero Options build everything.
type Options struct {
	// Pods are the names of the pods to build; nil for AllPods. Fewer build faster.
	Pods []string
}

// A Lab is a cluster of network namespaces. Its methods are safe for concurrent use.
type Lab struct {
	prefix string // of the names of its namespaces, as in "fw123x0-"
	ns     map[string]netns.NsHandle
	inits  atomic.Uint64 // SCTP INITs that servers got

	mu      sync.Mutex
	closers []func()        // what to stop before the namespaces go, newest last
	servers map[string]bool // by namespace, protocol and address
	ports   map[string]int  // how many source ports each namespace's clients used
	close   func() error    // tears down once; later and concurrent calls wait for it
}

// labs numbers the labs of this process.
var labs atomic.Uint64

// New builds a Lab that is closed when the test ends, also by a signal. The test is skipped, or
// fails, where there can be none: see [Require].
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	Require(t)
	stop := CloseOnSignal()
	l, err := Build(o)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer stop()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Require skips the test, with the reason, if this machine cannot have a Lab. If the environment
// variable REQUIRE, a comma-separated list, contains net or all, the test fails instead.
func Require(t testing.TB) {
	t.Helper()
	err := Possible()
	if err == nil {
		return
	}
	for lane := range strings.SplitSeq(os.Getenv("REQUIRE"), ",") {
		if lane == "net" || lane == "all" {
			t.Fatalf("REQUIRE=%s, but: %v", os.Getenv("REQUIRE"), err)
		}
	}
	t.Skipf("SKIPPED, no packets were sent: %v", err)
}

// Possible tells why this machine cannot have a Lab; nil if it can.
var Possible = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	return onThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		return ns.Close()
	})
})

// Build builds a Lab, and removes what processes left behind that died without closing theirs.
// The caller must Close it; [CloseOnSignal] helps with that.
func Build(o Options) (*Lab, error) {
	sweep()
	l := &Lab{
		prefix:  fmt.Sprintf("fw%dx%d-", os.Getpid(), labs.Add(1)-1),
		ns:      map[string]netns.NsHandle{},
		servers: map[string]bool{},
		ports:   map[string]int{},
	}
	l.close = sync.OnceValue(l.tearDown)
	register(l)
	pods := o.Pods
	if pods == nil {
		pods = AllPods
	}
	if err := l.build(pods); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(pods []string) error {
	names := []string{Outside, Node1, Node2}
	for _, p := range pods {
		if PodNode(p) == "" {
			return fmt.Errorf("netlab: there is no pod %q", p)
		}
		if !slices.Contains(names, p) {
			names = append(names, p)
		}
	}
	if err := l.addNamespaces(names); err != nil {
		return err
	}
	return l.connect(names[3:])
}

// addNamespaces makes the namespaces and sets their sysctls, on a thread that ends afterwards.
func (l *Lab) addNamespaces(names []string) error {
	return onThread(func() error {
		for _, name := range names {
			h, err := netns.NewNamed(l.prefix + name)
			if err != nil {
				return fmt.Errorf("network namespace %s: %w", l.prefix+name, err)
			}
			l.ns[name] = h
			if err := setSysctls(name == Node1 || name == Node2); err != nil {
				return fmt.Errorf("network namespace %s: %w", l.prefix+name, err)
			}
		}
		return nil
	})
}

// Places returns the names of the lab's namespaces, sorted.
func (l *Lab) Places() []string {
	var out []string
	for name := range l.ns {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Namespace returns the name of a namespace as "ip netns" knows it.
func (l *Lab) Namespace(ns string) string { return l.prefix + ns }

// In runs f on an OS thread inside the namespace. Child processes that f starts are inside as
// well; goroutines are not.
func (l *Lab) In(ns string, f func() error) error {
	h, ok := l.ns[ns]
	if !ok {
		return fmt.Errorf("netlab: there is no namespace %q", ns)
	}
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("current network namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go back stays locked and so ends with its goroutine.
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
		_ = before.Close()
	}()
	if err := netns.Set(h); err != nil {
		return fmt.Errorf("network namespace %s: %w", l.prefix+ns, err)
	}
	return f()
}

// Close stops the lab's servers and clients and removes its namespaces with all that is in them.
// Closing twice is fine.
func (l *Lab) Close() error { return l.close() }

func (l *Lab) tearDown() error {
	l.mu.Lock()
	closers := l.closers
	l.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
	var errs []error
	for name, h := range l.ns {
		errs = append(errs, h.Close())
		if err := netns.DeleteNamed(l.prefix + name); err != nil {
			errs = append(errs, fmt.Errorf("network namespace %s: %w", l.prefix+name, err))
		}
	}
	unregister(l)
	return errors.Join(errs...)
}

// onThread runs f on a thread of its own, which ends with it and takes its namespace along.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not be reused
		done <- f()
	}()
	return <-done
}

// connect makes the links, addresses and routes.
func (l *Lab) connect(pods []string) error {
	n := map[string]*netlink.Handle{}
	defer func() {
		for _, h := range n {
			h.Close()
		}
	}()
	for name, ns := range l.ns {
		h, err := netlink.NewHandleAt(ns, 0)
		if err != nil {
			return fmt.Errorf("netlink in %s: %w", l.prefix+name, err)
		}
		n[name] = h
	}
	return l.wire(n, pods)
}
