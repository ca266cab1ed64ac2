package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// Clients tells who may ask a node's resolver: pods, as the proxy recognises them by their addresses,
// the node itself, and whom the configuration names. Where pods have no known range, in a family or
// at all, nobody of that family is a stranger. It is safe for concurrent use.
type Clients struct {
	more  []netip.Prefix
	log   *slog.Logger
	known atomic.Pointer[insiders]

	mu    sync.Mutex // over changes of known
	quiet [2]bool    // IPv4, IPv6: the resolver does not listen, or it was said that anyone may ask
}

// insiders are what the answer depends on. They do not change.
type insiders struct {
	ranges []netip.Prefix
	open   [2]bool // IPv4, IPv6: anyone
	local  map[netip.Addr]bool
}

// NewClients returns Clients that let in, until [Clients.Learn] is told of pods, the node itself and
// those whose addresses are in more. Addrs are where the resolver listens. Nil for log means
// slog.Default.
func NewClients(addrs []netip.AddrPort, more []netip.Prefix, log *slog.Logger) *Clients {
	if log == nil {
		log = slog.Default()
	}
	c := &Clients{more: more, log: log, quiet: [2]bool{true, true}}
	for _, a := range addrs {
		c.quiet[family(a.Addr())] = false
	}
	c.known.Store(&insiders{ranges: more, local: localAddrs()})
	return c
}

// Learn takes the pods' range from a snapshot. It is for the moment before the kernel is made to
// implement it: a pod that is led here and not known yet would have asked in vain.
func (c *Clients) Learn(s *proxier.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := *c.known.Load()
	k.ranges = slices.Concat(c.more, s.Node.Pods.Prefixes)
	for i, name := range []string{"IPv4", "IPv6"} {
		k.open[i] = len(s.Node.Pods.For(i == 1).Prefixes) == 0
		if k.open[i] && !c.quiet[i] {
			c.quiet[i] = true
			c.log.Warn("anyone may ask the node's resolver: the range of the pods is not known", "family", name)
		}
	}
	c.known.Store(&k)
}

// localInterval is how often the node's own addresses are looked up.
const localInterval = 5 * time.Second

// Run learns the node's own addresses, until ctx is done.
func (c *Clients) Run(ctx context.Context) {
	for {
		local := localAddrs()
		c.mu.Lock()
		k := *c.known.Load()
		k.local = local
		c.known.Store(&k)
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(localInterval):
		}
	}
}

// Allowed reports whether a may ask. The interface of a link-local address does not matter.
func (c *Clients) Allowed(a netip.Addr) bool {
	k := c.known.Load()
	a = a.WithZone("") // a Prefix contains no address with one
	return k.open[family(a)] || a.IsLoopback() || k.local[a] ||
		slices.ContainsFunc(k.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// localAddrs returns the addresses of this network namespace.
func localAddrs() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				out[a.Unmap()] = true
			}
		}
	}
	return out
}
