package localport

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// Options say where to listen and how much to bear. Zero values mean the defaults.
type Options struct {
	// Addresses are the loopback addresses to listen on. Empty means none: the Forwarder does
	// nothing.
	Addresses []netip.Addr
	// MaxConns is how many connections are forwarded at once; more are reset. Default 4096,
	// which costs 8192 file descriptors.
	MaxConns int
	// DialTimeout is how long one endpoint may take to accept. Default 5 s.
	DialTimeout time.Duration
	// Retry is the time until a port that could not be opened is tried again. Default 10 s.
	Retry time.Duration
}

func (o Options) withDefaults() Options {
	o.MaxConns = cmp.Or(o.MaxConns, 4096)
	o.DialTimeout = cmp.Or(o.DialTimeout, 5*time.Second)
	o.Retry = cmp.Or(o.Retry, 10*time.Second)
	return o
}

// A Forwarder serves TCP NodePorts on loopback addresses. Its methods may be called concurrently;
// Run only once.
type Forwarder struct {
	o     Options
	slots chan struct{} // one element per connection
	work  sync.WaitGroup

	prev   *proxier.Snapshot        // owned by Run
	ports  map[netip.AddrPort]*port // owned by Run
	failed map[netip.AddrPort]bool  // wanted, and could not be opened; owned by Run

	mu       sync.Mutex
	problems []proxier.Problem

	total, reset atomic.Uint64
}

// New returns a Forwarder that does nothing until Run.
func New(o Options) *Forwarder {
	o = o.withDefaults()
	return &Forwarder{
		o:      o,
		slots:  make(chan struct{}, o.MaxConns),
		ports:  map[netip.AddrPort]*port{},
		failed: map[netip.AddrPort]bool{},
	}
}

// Problems returns what keeps ports from being served at the moment, sorted.
func (f *Forwarder) Problems() []proxier.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.problems)
}

// Connections returns how many connections were accepted since New, and how many of them were
// reset because no endpoint accepted or too many were open.
func (f *Forwarder) Connections() (total, reset uint64) { return f.total.Load(), f.reset.Load() }

// Run follows the snapshots of feed until ctx ends. Then it closes everything and returns when
// the last connection is closed.
func (f *Forwarder) Run(ctx context.Context, feed *proxier.Feed) {
	defer f.work.Wait()
	defer f.closeAll()
	if len(f.o.Addresses) == 0 {
		return
	}
	for {
		now, changed := feed.Current()
		if now != nil {
			f.follow(ctx, now)
		}
		var retry <-chan time.Time
		if len(f.failed) > 0 {
			retry = time.After(f.o.Retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-retry:
		}
	}
}

// follow opens and closes what differs between the snapshot before and now, and tries again what
// failed.
func (f *Forwarder) follow(ctx context.Context, now *proxier.Snapshot) {
	var problems []proxier.Problem
	open := func(at netip.AddrPort, want *proxier.Frontend) {
		if err := f.open(ctx, at, want); err != nil {
			f.failed[at] = true
			problems = append(problems, proxier.Problem{
				Kind: "Service", Object: want.Owner.NamespacedName, Reason: "LocalPortTaken",
				Message: fmt.Sprintf("node port %d is not served on %s: %v", at.Port(), at.Addr(), err),
			})
			return
		}
		delete(f.failed, at)
	}
	again := f.failed
	f.failed = map[netip.AddrPort]bool{}
	for was, is := range proxier.Diff(f.prev, now) {
		for _, at := range f.listenOn(was) {
			if !serves(is) {
				f.close(at)
				delete(again, at)
			}
		}
		for _, at := range f.listenOn(is) {
			if serves(is) {
				delete(again, at)
				open(at, is)
			}
		}
	}
	for at := range again {
		if fe := nodePort(now, at); serves(fe) {
			open(at, fe)
		}
	}
	f.prev = now
	slices.SortFunc(problems, func(a, b proxier.Problem) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Message, b.Message))
	})
	f.mu.Lock()
	f.problems = problems
	f.mu.Unlock()
}

// listenOn returns where fe, which may be nil, is served if it is.
func (f *Forwarder) listenOn(fe *proxier.Frontend) []netip.AddrPort {
	if fe == nil || !fe.IsNodePort() || fe.Protocol != proxier.TCP {
		return nil
	}
	var out []netip.AddrPort
	for _, a := range f.o.Addresses {
		if a.Is6() == fe.Addr.Is6() {
			out = append(out, netip.AddrPortFrom(a, fe.Port))
		}
	}
	return out
}

// serves reports whether there is anyone to forward to.
func serves(fe *proxier.Frontend) bool {
	return fe != nil && len(fe.From[proxier.FromNode].Pool.Endpoints) > 0
}

// nodePort returns the frontend that is served at the address, or nil.
func nodePort(s *proxier.Snapshot, at netip.AddrPort) *proxier.Frontend {
	key := proxier.FrontendKey{Addr: netip.IPv4Unspecified(), Port: at.Port(), Protocol: proxier.TCP}
	if at.Addr().Is6() {
		key.Addr = netip.IPv6Unspecified()
	}
	i, ok := slices.BinarySearchFunc(s.Frontends, key, func(f *proxier.Frontend, k proxier.FrontendKey) int { return f.Compare(k) })
	if !ok {
		return nil
	}
	return s.Frontends[i]
}

// open makes the port at the address serve want.
func (f *Forwarder) open(ctx context.Context, at netip.AddrPort, want *proxier.Frontend) error {
	if p := f.ports[at]; p != nil {
		p.frontend.Store(want)
		return nil
	}
	// Go's SO_REUSEADDR does not take a port from a process that listens on it, on this or on
	// the unspecified address.
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	p := &port{f: f, listener: l}
	p.frontend.Store(want)
	f.ports[at] = p
	f.work.Go(func() { p.accept(ctx) })
	return nil
}

// close stops listening; connections go on.
func (f *Forwarder) close(at netip.AddrPort) {
	if p := f.ports[at]; p != nil {
		p.listener.Close()
		delete(f.ports, at)
	}
}

func (f *Forwarder) closeAll() {
	for at := range f.ports {
		f.close(at)
	}
}
