package server

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/cache"
	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/forward"
	"github.com/fairway-lb/fairway/dns/loop"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/acl"
	"github.com/fairway-lb/fairway/dns/plugin/autopath"
	"github.com/fairway-lb/fairway/dns/plugin/basic"
	"github.com/fairway-lb/fairway/dns/plugin/dns64"
	"github.com/fairway-lb/fairway/dns/plugin/file"
	"github.com/fairway-lb/fairway/dns/plugin/hosts"
	"github.com/fairway-lb/fairway/dns/plugin/loadbalance"
	"github.com/fairway-lb/fairway/dns/plugin/logging"
	"github.com/fairway-lb/fairway/dns/plugin/rewrite"
	"github.com/fairway-lb/fairway/dns/plugin/template"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
	"github.com/fairway-lb/fairway/dns/zone"
)

// shared is what all instances of a plugin have in common, mostly metrics.
type shared struct {
	cache      *cache.Metrics
	forward    *forward.Metrics
	hosts      *hosts.Metrics
	local      prometheus.Counter
	acl        *acl.Metrics
	dns64      *prometheus.CounterVec
	autopath   *prometheus.CounterVec
	template   *template.Metrics
	loop       *loop.Names // not a metric: the names of all probes
	programmed *prometheus.HistogramVec
}

func newShared() shared {
	return shared{
		cache: cache.NewMetrics(), forward: forward.NewMetrics(), hosts: hosts.NewMetrics(), local: basic.LocalRequests(),
		acl: acl.NewMetrics(), dns64: dns64.Metrics(), autopath: autopath.Metrics(), template: template.NewMetrics(), loop: loop.NewNames(),
		programmed: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "coredns", Subsystem: "kubernetes", Name: "dns_programming_duration_seconds",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20), Help: "Histogram of the time (in seconds) it took to program a dns instance."},
			[]string{"service_kind"}),
	}
}

func (m shared) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.cache, m.forward, m.hosts, m.local, m.acl, m.dns64, m.autopath, m.template, m.programmed}
}

// construct makes the plugin of p's directive. Nothing is started yet but the connection to a
// cluster, whose first state takes longest.
func (s *Server) construct(b *corefile.Block, p *part) (err error) {
	switch d := p.directive.(type) {
	case *corefile.Errors:
		p.plugin = logging.NewErrors(d, s.sink)
	case *corefile.Log:
		p.plugin = logging.NewLog(d, s.sink)
	case *corefile.Any:
		p.plugin = basic.Any{}
	case *corefile.Bufsize:
		p.plugin = basic.NewBufsize(d)
	case *corefile.Cancel:
		p.plugin = basic.NewCancel(d)
	case *corefile.Chaos:
		p.plugin = basic.NewChaos(d, "Fairway-"+s.o.Version, nil)
	case *corefile.Header:
		p.plugin = basic.NewHeader(d)
	case *corefile.Local:
		p.plugin = basic.NewLocal(d, s.shared.local)
	case *corefile.Minimal:
		p.plugin = basic.Minimal{}
	case *corefile.NSID:
		p.plugin = basic.NewNSID(d)
	case *corefile.Whoami:
		p.plugin = basic.Whoami{}
	case *corefile.Hosts:
		p.plugin, err = hosts.New(d, s.shared.hosts, s.log)
	case *corefile.Cache:
		p.plugin, err = cache.New(d, cache.Options{Server: serverLabel(firstAddr(b)), Metrics: s.shared.cache, Rotate: rotates(b)})
	case *corefile.Forward:
		p.plugin, err = forward.New(d, forward.Options{Metrics: s.shared.forward, Log: s.log})
	case *corefile.Loop:
		l := loop.New(d, loop.Options{Names: s.shared.loop, Log: s.log})
		for _, f := range p.needs {
			l.Watch(f.plugin.(*forward.Forward))
		}
		p.plugin = l
	case *corefile.ACL:
		p.plugin = acl.New(d, s.shared.acl)
	case *corefile.DNS64:
		p.plugin = dns64.New(d, s, s.shared.dns64)
	case *corefile.Autopath:
		err = s.constructAutopath(d, p)
	case *corefile.Transfer:
		var from []transfer.Transferer
		for _, n := range p.needs {
			if t, ok := n.plugin.(transfer.Transferer); ok {
				from = append(from, t)
			}
		}
		p.plugin, err = transfer.New(d, from)
	case *corefile.File:
		p.plugin, err = file.New(d, s, s.log)
	case *corefile.Rewrite:
		p.plugin = rewrite.New(d, s)
	case *corefile.Template:
		p.plugin, err = template.New(d, s, s.shared.template)
	case *corefile.Loadbalance:
		p.plugin, err = loadbalance.New(d, s.log)
	case *corefile.Kubernetes:
		err = s.constructZone(b, d, p)
	default:
		return errNotBuilt
	}
	return err
}

// constructAutopath lets the plugin ask the one that knows search paths.
func (s *Server) constructAutopath(d *corefile.Autopath, p *part) error {
	var searcher autopath.Searcher
	if d.From != "" {
		for _, n := range p.needs {
			if a, ok := n.plugin.(autopath.Searcher); ok && n.directive.Plugin() == d.From {
				searcher = a
			}
		}
	}
	p.plugin = autopath.New(d, searcher, autopath.Own("/etc/resolv.conf"), s.shared.autopath)
	return nil
}

// firstAddr is the listener that the metrics of a block's cache are counted for.
func firstAddr(b *corefile.Block) netip.AddrPort {
	a := netip.Addr{}
	if len(b.Binds) > 0 {
		a = b.Binds[0]
	}
	return netip.AddrPortFrom(a, b.Keys[0].Port)
}

// rotates reports whether answers of the block come in a random order.
func rotates(b *corefile.Block) bool {
	d, ok := corefile.Find[*corefile.Loadbalance](b)
	return ok && !ordered(d)
}

// constructZone connects a zone to its cluster.
func (s *Server) constructZone(b *corefile.Block, d *corefile.Kubernetes, p *part) error {
	o := zone.Options{Resolver: s, Rotate: rotates(b), Local: s.localAddrs,
		Programmed: func(kind string, trigger time.Time) {
			s.shared.programmed.WithLabelValues(kind).Observe(time.Since(trigger).Seconds())
		}}
	if c, ok := corefile.Find[*corefile.Cache](b); ok && plugin.Longest(c.Zones, d.PrimaryZone) != "" {
		o.Passing = cache.Passing(c)
	}
	z, err := zone.New(*d, o)
	if err != nil {
		return err
	}
	p.plugin = z
	src, err := s.sources.get(d)
	if err != nil {
		return err
	}
	p.stop = append(p.stop, func() { s.sources.put(src) })
	p.begin = func(ctx context.Context) error {
		life, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { zone.Follow(life, src, z) })
		p.stop = append(p.stop, func() { cancel(); wg.Wait() })
		return src.wait(ctx, d.StartupTimeout, z.Ready)
	}
	return nil
}

// localAddrs returns the addresses that this server is asked at, but for loopback ones: those of
// its listeners, and of all interfaces where one listens on all.
func (s *Server) localAddrs() (out []netip.Addr) {
	for _, l := range *s.served.Load() {
		switch a := l.addr.Addr(); {
		case a.IsLoopback():
		case a.IsValid() && !a.IsUnspecified():
			out = append(out, a)
		default:
			out = append(out, interfaceAddrs()...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func interfaceAddrs() (out []netip.Addr) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				out = append(out, a.Unmap())
			}
		}
	}
	return out
}
