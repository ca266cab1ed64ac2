package server

import (
	"context"
	"net/netip"
	"sync/atomic"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// A router answers what comes in on one listener, under one configuration. It does not change.
type router struct {
	label    string             // dns://addr:port, for metrics
	sites    map[string][]*site // by zone in wire format and lower case; several only if views choose
	any      *site              // of zone ".", if it is the only zone and has no view: the usual case
	refused  [2]*metrics.Stripe // by protocol: of queries that no block wanted
	panicked func(any)
	running  *atomic.Int64 // slow queries of the whole generation
}

// A site is one zone of a server block on one listener.
type site struct {
	zone    string // as text
	view    string
	wants   func(*plugin.Request) bool // nil: all
	chain   plugin.Handler
	classes bool // the chain looks at classes; without, only IN gets there
	fast    fastPath
	maxUDP  int                  // bytes of a reply over UDP
	bufsize uint16               // of EDNS, at most; what a client says beyond is not heard
	slow    [2]*metrics.Stripe   // by protocol
	workers [2][]*metrics.Stripe // by protocol and worker
}

// zoneKey is the name of a zone as sites are keyed by it.
func zoneKey(zone string) (string, error) {
	b, err := wire.AppendName(nil, plugin.Canonical(zone))
	return string(b), err
}

// each calls f with the sites of every zone that holds q's name, the longest zone first, until f
// returns true. A question for DS belongs to the parent of a zone cut (RFC 4035, 3.1.4.1), if that
// is here too; the root block does not count as a parent, since it is what forwards.
func (r *router) each(q *wire.Query, f func([]*site) bool) {
	var own []*site
	for i := range q.Labels() + 1 {
		s, ok := r.sites[string(q.Suffix(i))]
		switch {
		case !ok:
		case i == 0 && q.Type == dnswire.TypeDS && q.Labels() > 0:
			own = s
		case i == q.Labels() && own != nil && f(own):
			return
		case f(s):
			return
		}
	}
	if own != nil {
		f(own)
	}
}

// choose returns the site that wants a request, nil if none does.
func (r *router) choose(q *wire.Query, req *plugin.Request) (chosen *site) {
	if r.any != nil {
		return r.any
	}
	r.each(q, func(sites []*site) bool {
		for _, s := range sites {
			if s.wants == nil || s.wants(req) {
				chosen = s
				return true
			}
		}
		return false // views of a longer zone that do not want it leave it to a shorter one
	})
	return chosen
}

// only returns the site for q if that depends on its name alone.
func (r *router) only(q *wire.Query) *site {
	if r.any != nil {
		return r.any
	}
	var first []*site
	r.each(q, func(sites []*site) bool { first = sites; return true })
	if len(first) == 1 && first[0].wants == nil {
		return first[0]
	}
	return nil
}

// serve runs the chain of the site that wants req, whose name in wire format is in q.
func (r *router) serve(ctx context.Context, q *wire.Query, req *plugin.Request) (*site, plugin.Reply) {
	s := r.choose(q, req)
	if s == nil {
		return nil, plugin.Fail("", dnswire.RcodeRefused, nil)
	}
	req.Zone, req.View = s.zone, s.view
	if req.Class() != dnswire.ClassINET && !s.classes {
		return s, plugin.Fail("", dnswire.RcodeRefused, nil)
	}
	return s, s.chain.Serve(ctx, req)
}

// maxDepth is how many lookups a plugin's lookup may cause in turn: chains of aliases that lead
// from one block to the next.
const maxDepth = 10

type lookupKey struct{}

// A lookup is what the context of a query carries for the queries that it causes.
type lookup struct {
	router *router
	depth  int
}

// Lookup asks the listener's blocks again, from the routing on. It makes a [plugin.Resolver] of the
// server: the context says which listener the query came to.
func (s *Server) Lookup(ctx context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
	l, _ := ctx.Value(lookupKey{}).(lookup)
	if l.router == nil {
		l.router = s.routerOf(r.Server)
	}
	if l.router == nil || l.depth >= maxDepth {
		return plugin.Fail("", dnswire.RcodeServerFailure, errDepth)
	}
	l.depth++
	req := r.Ask(name, qtype)
	packed, err := req.Msg.Pack()
	if err != nil {
		return plugin.Fail("", dnswire.RcodeServerFailure, err)
	}
	var q wire.Query
	switch q.Parse(packed) {
	case wire.OK, wire.Slow:
	default:
		return plugin.Fail("", dnswire.RcodeServerFailure, errQuestion)
	}
	_, reply := l.router.serve(context.WithValue(ctx, lookupKey{}, l), &q, req)
	return reply
}

// serverLabel is how metrics name a listener: the wildcard has no address.
func serverLabel(addr netip.AddrPort) string {
	if addr.Addr().IsUnspecified() || !addr.Addr().IsValid() {
		return "dns://:" + portText(addr.Port())
	}
	return "dns://" + addr.String()
}
