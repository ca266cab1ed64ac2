package server

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/view"
	"github.com/fairway-lb/fairway/dns/wire"
)

// A generation is everything that one configuration brings.
type generation struct {
	config   *corefile.Config
	parts    []*part
	made     []*part // those of parts that the generation before does not have
	routers  map[netip.AddrPort]*router
	timeouts map[netip.AddrPort]corefile.Timeouts
	narrow   map[netip.AddrPort]bool            // of routers: see addNarrow
	pages    map[string]map[string]http.Handler // by address and path
	health   []string                           // addresses that serve /health
	ready    *readiness
	lameduck time.Duration
	reload   *corefile.Reload // nil: the file is not looked at again
	debug    bool
	enabled  []metrics.Enabled
	running  atomic.Int64 // slow queries that are in its plugins
}

// build makes a generation for a configuration, with all that it can keep of the one before, which
// may be nil. Nothing of the new parts has been started, no socket bound.
func (s *Server) build(cfg *corefile.Config, before *generation) (*generation, error) {
	g := &generation{config: cfg, routers: map[netip.AddrPort]*router{}, timeouts: map[netip.AddrPort]corefile.Timeouts{}, narrow: map[netip.AddrPort]bool{},
		pages: map[string]map[string]http.Handler{}, ready: &readiness{}}
	b := &builder{s: s, g: g}
	if before != nil {
		b.old = slices.Clone(before.parts)
	}
	for _, block := range cfg.Blocks {
		if err := b.block(block); err != nil {
			for _, p := range g.made {
				p.close()
			}
			return nil, err
		}
	}
	for _, r := range g.routers {
		root, _ := zoneKey(".")
		if sites := r.sites[root]; len(r.sites) == 1 && len(sites) == 1 && sites[0].wants == nil {
			r.any = sites[0]
		}
	}
	g.addNarrow(onlyAddrs(interfaceAddrs()))
	return g, nil
}

// addNarrow has the machine's own addresses served by sockets of their own beside those of a
// wildcard, which serve what is left: without asking the kernel for the address of each query, and
// telling it that of each reply, a query takes 5 % less CPU. Those that a block is bound to have
// theirs already.
func (g *generation) addNarrow(own []netip.Addr) {
	for wildcard, r := range maps.Clone(g.routers) {
		if wildcard.Addr().IsValid() || wildcard.Port() == 0 {
			continue
		}
		for _, a := range own {
			addr := netip.AddrPortFrom(a, wildcard.Port())
			if g.routers[addr] == nil {
				g.routers[addr], g.timeouts[addr], g.narrow[addr] = r, g.timeouts[wildcard], true
			}
		}
	}
}

// onlyAddrs returns the address of each family of which there is one, as in a pod. Machines with
// several may run others who serve one of them.
func onlyAddrs(list []netip.Addr) []netip.Addr {
	families := map[bool]int{}
	for _, a := range list {
		families[a.Is4()]++
	}
	return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return families[a.Is4()] > 1 })
}

// A builder makes one generation.
type builder struct {
	s   *Server
	g   *generation
	old []*part // of the generation before, not taken over yet
}

func (b *builder) block(block *corefile.Block) error {
	parts := map[corefile.Directive]*part{}
	// From the inside to the outside, because some plugins need one that is further in. The cache
	// comes first of all: what it does to TTLs is packed into the zone's answers.
	inside := slices.Clone(block.Plugins)
	slices.Reverse(inside)
	slices.SortStableFunc(inside, func(x, y corefile.Directive) int { return isCache(y) - isCache(x) })
	for _, d := range inside {
		p, err := b.part(block, d, parts)
		if err != nil {
			return err
		}
		if p != nil {
			parts[d] = p
		}
	}
	var chain []*part
	for _, d := range block.Plugins {
		if p := parts[d]; p != nil {
			chain = append(chain, p)
			if r, ok := p.plugin.(plugin.Readier); ok {
				b.g.ready.parts = append(b.g.ready.parts, readyPart{d.Plugin(), r})
			}
		}
	}
	if err := b.pages(block); err != nil {
		return err
	}
	return b.sites(block, chain)
}

func isCache(d corefile.Directive) int {
	if _, ok := d.(*corefile.Cache); ok {
		return 1
	}
	return 0
}

// part returns the part for a directive, one of the generation before if it is the same; nil if
// the directive has no plugin that handles queries.
func (b *builder) part(block *corefile.Block, d corefile.Directive, inner map[corefile.Directive]*part) (*part, error) {
	if passive[d.Plugin()] {
		return nil, nil
	}
	want := &part{block: blockName(block), directive: d, with: b.with(block, d), needs: needs(d, inner)}
	if i := slices.IndexFunc(b.old, want.same); i >= 0 {
		p := b.old[i]
		b.old = slices.Delete(b.old, i, i+1)
		b.g.parts = append(b.g.parts, p)
		return p, nil
	}
	if err := b.s.construct(block, want); err != nil {
		want.close()
		return nil, fmt.Errorf("%s: plugin/%s: %w", d.Position(), d.Plugin(), err)
	}
	b.g.parts, b.g.made = append(b.g.parts, want), append(b.g.made, want)
	return want, nil
}

// with returns the other directives of the block that the plugin of d depends on.
func (b *builder) with(block *corefile.Block, d corefile.Directive) (out []corefile.Directive) {
	for _, o := range block.Plugins {
		name := o.Plugin()
		switch d.(type) {
		case *corefile.Cache: // what was stored may have come from any of them
			if o != d && !passive[name] && !harmless[name] {
				out = append(out, o)
			}
		case *corefile.Kubernetes:
			if name == "cache" || name == "loadbalance" {
				out = append(out, o)
			}
		}
	}
	return out
}

// needs returns the parts that the plugin of d calls.
func needs(d corefile.Directive, inner map[corefile.Directive]*part) (out []*part) {
	for o, p := range inner {
		switch d.(type) {
		case *corefile.Autopath:
			if o.Plugin() == "kubernetes" {
				out = append(out, p)
			}
		case *corefile.Loop:
			if o.Plugin() == "forward" {
				out = append(out, p)
			}
		case *corefile.Transfer:
			if o.Plugin() == "kubernetes" || o.Plugin() == "file" {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(x, y *part) int { return x.directive.Position().Line - y.directive.Position().Line })
	return out
}

// pages adds what a block serves over HTTP, and other things that concern the whole process.
func (b *builder) pages(block *corefile.Block) error {
	for _, d := range block.Plugins {
		switch d := d.(type) {
		case *corefile.Health:
			b.page(d.Addr, "/health", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "OK") }))
			b.g.health = append(b.g.health, d.Addr)
			b.g.lameduck = max(b.g.lameduck, d.Lameduck)
		case *corefile.Ready:
			b.page(d.Addr, "/ready", b.s.readyHandler(b.g.ready))
			b.g.ready.continuously = b.g.ready.continuously || d.Continuously
		case *corefile.Prometheus:
			if d.TLSConfig != "" {
				return fmt.Errorf("%s: plugin/prometheus: option tls exists in CoreDNS and is not supported", d.Position())
			}
			b.page(d.Addr, "/metrics", b.s.metricsHandler(d.RuntimeMetrics))
		case *corefile.Timeouts:
			if d.MaxTCPQueries != 0 {
				b.s.log.Warn(d.Pos.String() + ": plugin/timeouts: connections take any number of queries, so this option has no effect")
			}
		case *corefile.Pprof:
			runtime.SetBlockProfileRate(d.Block)
			for path, h := range profiles {
				b.page(d.Addr, path, h)
			}
		case *corefile.Reload:
			if b.g.reload == nil {
				b.g.reload = d
			}
		case *corefile.Debug:
			b.g.debug = true
		}
	}
	return nil
}

// page adds a path at an address. Blocks may name the same ones.
func (b *builder) page(addr, path string, h http.Handler) {
	if b.g.pages[addr] == nil {
		b.g.pages[addr] = map[string]http.Handler{}
	}
	b.g.pages[addr][path] = h
}

// sites puts the zones of a block on its listeners.
func (b *builder) sites(block *corefile.Block, parts []*part) error {
	chain, classes, fast := chainOf(parts)
	limit, bufsize := defaultUDP, uint16(math.MaxUint16)
	if d, ok := corefile.Find[*corefile.Bufsize](block); ok {
		limit, bufsize = int(d.Size), d.Size
	}
	var timeouts corefile.Timeouts
	if d, ok := corefile.Find[*corefile.Timeouts](block); ok {
		timeouts = *d
		timeouts.Pos = corefile.Pos{}
	}
	var wants func(*plugin.Request) bool
	label := ""
	if d, ok := corefile.Find[*corefile.View](block); ok {
		v, err := view.New(d)
		if err != nil {
			return fmt.Errorf("%s: plugin/view: %w", d.Pos, err)
		}
		wants, label = v.Match, v.Label()
	}
	_, exported := corefile.Find[*corefile.Prometheus](block)
	binds := slices.Compact(slices.SortedFunc(slices.Values(block.Binds), netip.Addr.Compare))
	if len(binds) == 0 {
		binds = []netip.Addr{{}}
	}
	for _, k := range block.Keys {
		for _, a := range binds {
			addr := netip.AddrPortFrom(a, k.Port)
			r := b.router(addr)
			if timeouts != (corefile.Timeouts{}) {
				b.g.timeouts[addr] = timeouts
			}
			key, err := zoneKey(k.Zone)
			if err != nil {
				return fmt.Errorf("%s: zone %q: %w", block.Pos, k.Zone, err)
			}
			site := &site{zone: k.Zone, view: label, wants: wants, chain: chain, classes: classes, fast: fast, maxUDP: limit, bufsize: bufsize}
			b.count(site, metrics.Block{Server: r.label, Zone: k.Zone, View: label}, parts, exported)
			r.sites[key] = append(r.sites[key], site)
		}
	}
	return nil
}

// router returns the router of an address.
func (b *builder) router(addr netip.AddrPort) *router {
	r := b.g.routers[addr]
	if r == nil {
		r = &router{label: serverLabel(addr), sites: map[string][]*site{}, panicked: b.s.panicked, running: &b.g.running}
		refused := b.s.metrics.Series(metrics.Block{Server: r.label, Zone: "dropped"})
		for p := range r.refused {
			r.refused[p] = refused.Stripe(metrics.Proto(p), slowStripe)
		}
		b.g.routers[addr] = r
	}
	return r
}

// slowStripe is the number of the stripe of all slow queries.
const slowStripe = -1

// count gives a site its counters; exported says that the block has the directive prometheus.
func (b *builder) count(s *site, block metrics.Block, parts []*part, exported bool) {
	series := b.s.metrics.Series(block)
	for p := range s.slow {
		s.slow[p] = series.Stripe(metrics.Proto(p), slowStripe)
		for w := range b.s.o.Workers {
			s.workers[p] = append(s.workers[p], series.Stripe(metrics.Proto(p), w))
		}
	}
	for _, p := range parts {
		b.g.enabled = append(b.g.enabled, metrics.Enabled{Block: block, Plugin: p.directive.Plugin()})
	}
	if exported {
		b.g.enabled = append(b.g.enabled, metrics.Enabled{Block: block, Plugin: "prometheus"})
	}
}

// chainOf puts parts in a row, and returns its short form if it has one.
func chainOf(parts []*part) (chain plugin.Handler, classes bool, fast fastPath) {
	if len(parts) == 0 {
		return refuse, false, nil
	}
	var plugins []plugin.Plugin
	var zone, cache fastPath
	var outer []plugin.Passer // must have nothing to do with a query that is to take the short path
	short := true
	for i, p := range parts {
		name := p.directive.Plugin()
		plugins = append(plugins, p.plugin)
		if f, ok := p.plugin.(wire.Fast); ok && short {
			st := stage{f, metrics.PluginOf(name), slices.Clone(outer)}
			if name == "cache" {
				cache = append(cache, st)
			} else {
				zone = append(zone, st)
			}
		}
		if !fastPlugins[name] || ordered(p.directive) {
			passer, ok := p.plugin.(plugin.Passer)
			short = short && ok
			outer = append(outer, passer)
		}
		if knowsClasses(p) && !slices.ContainsFunc(parts[i+1:], knowsClasses) {
			plugins, classes = append(plugins, plugin.OnlyIN), true
		}
	}
	// The zone goes first, although its plugin comes after the cache: it is as fast, and right.
	return plugin.Chain(plugins...), classes, append(zone, cache...)
}

// ordered reports whether a directive puts addresses in an order that is not packed into answers.
func ordered(d corefile.Directive) bool {
	l, ok := d.(*corefile.Loadbalance)
	return ok && (l.Weights != "" || len(l.Prefer) > 0)
}

// knowsClasses reports whether a plugin tells classes apart. Behind the last that does, and in
// blocks without one, other classes than IN are refused.
func knowsClasses(p *part) bool {
	switch p.directive.(type) {
	case *corefile.Chaos, *corefile.Rewrite, *corefile.Template:
		return true
	}
	return false
}
