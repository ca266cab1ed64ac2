package cache

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
)

// Options are what a cache is told besides its directive.
type Options struct {
	Server  string   // label of metrics, such as dns://:53
	View    string   // label of metrics
	Metrics *Metrics // nil: counted for nobody
	// Rotate puts another address first in each hit of Answer, as the plugin loadbalance does on
	// the slow path.
	Rotate bool
}

// A Cache is the cache of one server block. It is safe for concurrent use.
type Cache struct {
	o               corefile.Cache
	rotate          bool
	everywhere      bool     // the zones are the root
	zones           [][]byte // wire format
	success, denial limit
	servfail        uint32

	stores [2]*store // of successes and of denials
	seed   maphash.Seed
	epoch  time.Time // when the cache's clock began
	count  *series

	base    context.Context // of refreshes in the background
	stop    context.CancelFunc
	mu      sync.Mutex // over closed and the start of refreshes
	closed  bool
	running sync.WaitGroup
	slots   chan struct{}
}

// The two kinds of entries.
const (
	successes = 0
	denials   = 1
)

// maxRefreshes is how many answers may be fetched in the background at a time. Above it they
// expire as if nobody had asked.
const maxRefreshes = 256

// New returns an empty cache.
func New(d *corefile.Cache, o Options) (*Cache, error) {
	c := &Cache{o: *d, rotate: o.Rotate, seed: maphash.MakeSeed(), epoch: time.Now(), slots: make(chan struct{}, maxRefreshes)}
	c.stores = [2]*store{successes: newStore(d.SuccessCap), denials: newStore(d.DenialCap)}
	c.success, c.denial, c.servfail = limits(d)
	for _, z := range d.Zones {
		name, err := wire.AppendName(nil, plugin.Canonical(z))
		if err != nil {
			return nil, err
		}
		c.zones = append(c.zones, name)
		c.everywhere = c.everywhere || z == "."
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	c.count = o.Metrics.series(labels{server: o.Server, zones: strings.Join(d.Zones, ","), view: o.View}, c)
	c.base, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Name returns "cache".
func (c *Cache) Name() string { return "cache" }

// Close ends what runs in the background and waits for it.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	return nil
}

// now is the cache's clock, in nanoseconds. It is not the time of day, which may be set.
func (c *Cache) now() int64 { return int64(time.Since(c.epoch)) }

// find returns the entry to answer with, which may have expired if such are served, and the time on
// the cache's clock if there is one. Denials come first, but an upstream's trouble never stands in
// the way of an answer that is still there.
func (c *Cache) find(k *key) (e *entry, now int64) {
	good, bad := c.stores[successes].get(k), c.stores[denials].get(k)
	if good == nil && bad == nil {
		return nil, 0
	}
	now = c.now()
	good, bad = c.usable(good, now), c.usable(bad, now)
	if bad == nil || good != nil && (c.o.PreferPositive || bad.rcode != wire.NXDomain && bad.rcode != wire.Success) {
		return good, now
	}
	return bad, now
}

func (c *Cache) usable(e *entry, now int64) *entry {
	if e == nil || e.left(now) <= -int64(c.o.StaleUpTo/time.Second) {
		return nil
	}
	return e
}

// Answer answers with a copy of a fresh entry, see [wire.Fast].
func (c *Cache) Answer(q *wire.Query, limit int, out []byte) (int, bool) {
	if !c.everywhere && !c.holds(q) {
		return 0, false
	}
	k := key{name: q.Name(), typ: q.Type, class: q.Class, do: q.DO, cd: q.Flags&wire.FlagCD != 0}
	k.seal(c.seed)
	e, now := c.find(&k)
	if e == nil {
		return 0, false
	}
	left := e.left(now)
	if left <= 0 || c.o.Prefetch > 0 && c.due(e, now, left) {
		return 0, false
	}
	if c.o.KeepTTL {
		left = int64(e.ttl)
	}
	n, ok := e.packed.Reply(q, limit, out, 0, uint32(left))
	if !ok {
		return 0, false
	}
	if e.ad && !q.DO && q.Flags&wire.FlagAD == 0 {
		out[3] &^= wire.FlagAD
	}
	if c.rotate {
		e.spin.rotate(out[:n])
	}
	e.touch()
	c.count.hit(e, k.hash)
	return n, true
}

// holds reports whether a query is for one of the zones of the cache.
func (c *Cache) holds(q *wire.Query) bool {
	for _, z := range c.zones {
		for skip := range q.Labels() + 1 {
			if string(q.Suffix(skip)) == string(z) {
				return true
			}
		}
	}
	return false
}

// Wrap puts the cache in front of next.
func (c *Cache) Wrap(next plugin.Handler) plugin.Handler { return &handler{Cache: c, next: next} }

type handler struct {
	*Cache
	next plugin.Handler
}

// Serve answers from the cache, or asks next and keeps the answer.
func (h *handler) Serve(ctx context.Context, r *plugin.Request) plugin.Reply {
	// An answer to options that the Corefile sends along may hold for nobody else.
	if r.Msg.Opcode != dnswire.OpcodeQuery || len(r.Send) > 0 || plugin.Longest(h.o.Zones, r.Name()) == "" {
		return h.next.Serve(ctx, r)
	}
	k, err := h.key(r)
	if err != nil {
		return h.next.Serve(ctx, r)
	}
	e, now := h.find(&k)
	if e == nil {
		h.count.misses.Add(1)
		return h.fetch(ctx, r, &k).reply
	}
	e.touch()
	h.count.hit(e, k.hash)
	left := e.left(now)
	if left <= 0 {
		return h.stale(ctx, r, &k, e)
	}
	if h.o.Prefetch > 0 && h.due(e, now, left) && e.begin(now) {
		h.prefetch(r, &k, e)
	}
	return h.from(e, r, uint32(left))
}

// from makes a reply of an entry.
func (h *handler) from(e *entry, r *plugin.Request, ttl uint32) plugin.Reply {
	if h.o.KeepTTL && ttl > 0 {
		ttl = e.ttl
	}
	m, err := e.message(r, ttl)
	if err != nil {
		return plugin.Fail("cache", dnswire.RcodeServerFailure, err)
	}
	return plugin.Answered("cache", m)
}

// key makes the key of a request. Its name is in memory of its own.
func (c *Cache) key(r *plugin.Request) (key, error) {
	name, err := wire.AppendName(make([]byte, 0, 64), r.Name())
	if err != nil {
		return key{}, err
	}
	k := key{name: name, typ: r.Type(), class: r.Class(), do: do(r.Msg), cd: r.Msg.CheckingDisabled}
	k.seal(c.seed)
	return k, nil
}

// A fetched reply is one that came from the next plugin, made ready for the client.
type fetched struct {
	reply plugin.Reply
	kind  plugin.Kind
	match bool // it answers the question of the request
}

// fetch asks the next plugin and keeps the answer.
func (h *handler) fetch(ctx context.Context, r *plugin.Request, k *key) fetched {
	return h.take(ctx, r, k, h.ask(ctx, r), nil)
}

// ask asks the next plugin, with AD set: whether an answer is authentic is kept for those who want
// to know it.
func (h *handler) ask(ctx context.Context, r *plugin.Request) plugin.Reply {
	if !r.Msg.AuthenticatedData {
		c, m := *r, *r.Msg
		m.AuthenticatedData = true
		c.Msg = &m
		r = &c
	}
	return h.next.Serve(ctx, r)
}

// take keeps an answer, if it may be kept and accept says so, and gives its records their TTL.
func (h *handler) take(ctx context.Context, r *plugin.Request, k *key, p plugin.Reply, accept func(fetched) bool) fetched {
	now := time.Now()
	f := fetched{reply: p, kind: plugin.OtherError}
	switch {
	case p.Drop || p.More != nil:
		return f
	case p.Msg == nil:
		if p.Rcode == dnswire.RcodeServerFailure && p.Err != nil && ctx.Err() == nil && accept == nil {
			m := new(dnswire.Msg)
			m.SetRcode(r.Msg, p.Rcode)
			h.keep(r, k, m, plugin.ServerError, p.Plugin)
		}
		return f
	case len(p.Msg.Question) != 1:
		h.count.drops.Add(1)
		return f
	}
	f.match = matches(r, p.Msg)
	f.kind = kindOf(p.Msg, k.do, now)
	ttl := h.ttl(p.Msg, f.kind)
	f.reply.Msg = dress(r, p.Msg, ttl)
	if accept != nil && !accept(f) {
		return f
	}
	switch {
	case !keepable(p.Msg, f.kind):
	case !f.match:
		h.count.drops.Add(1)
	default:
		h.keep(r, k, p.Msg, f.kind, p.Plugin)
	}
	return f
}

// matches reports whether a message is an answer to the question of a request.
func matches(r *plugin.Request, m *dnswire.Msg) bool {
	q := m.Question[0]
	return m.Response && q.Qtype == r.Type() && q.Qclass == r.Class() && plugin.Canonical(q.Name) == r.Name()
}

// dress returns a message with all TTLs set, and AD as the client understands it. The message of a
// reply may be shared, so that it is copied if anything must change.
func dress(r *plugin.Request, m *dnswire.Msg, ttl uint32) *dnswire.Msg {
	ready := !m.AuthenticatedData || wantsAD(r.Msg)
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range s {
			h := rr.Header()
			ready = ready && (h.Ttl == ttl || h.Rrtype == dnswire.TypeOPT)
		}
	}
	if ready {
		return m
	}
	m = m.Copy()
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range s {
			if h := rr.Header(); h.Rrtype != dnswire.TypeOPT {
				h.Ttl = ttl
			}
		}
	}
	m.AuthenticatedData = m.AuthenticatedData && wantsAD(r.Msg)
	return m
}

// keep stores a message that may be kept. The client's query must have had RD: what a resolver
// says without being asked to resolve is no answer for others.
func (h *handler) keep(r *plugin.Request, k *key, m *dnswire.Msg, kind plugin.Kind, from string) {
	ttl := h.ttl(m, kind)
	if ttl == 0 || !r.Msg.RecursionDesired || from == "kubernetes" {
		return
	}
	which, except := successes, h.o.SuccessExcept
	if kind != plugin.Success {
		which, except = denials, h.o.DenialExcept
	}
	if plugin.Longest(except, r.Name()) != "" {
		return
	}
	e := pack(k, m)
	if e == nil {
		return
	}
	now := h.now()
	e.ttl, e.stored, e.denial = ttl, now, which == denials
	e.last.Store(now)
	h.stores[which].put(k, e, now)
	switch {
	case which == successes:
		h.stores[denials].remove(k)
	case kind != plugin.ServerError && !h.o.PreferPositive:
		h.stores[successes].remove(k)
	}
}
