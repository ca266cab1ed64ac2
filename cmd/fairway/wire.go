package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairway-lb/fairway/ebpf"
	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/ipvs"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/admin"
	"github.com/fairway-lb/fairway/proxier/config"
	"github.com/fairway-lb/fairway/proxier/conntrack"
	"github.com/fairway-lb/fairway/proxier/health"
	"github.com/fairway-lb/fairway/proxier/localport"
	"github.com/fairway-lb/fairway/proxier/metrics"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/watch"
)

// settings are what the parts of a proxy are made with.
type settings struct {
	mode      string // name of the backend
	manifests string // folder to follow; empty: the API server
	client    watch.ClientOptions
	resolve   resolve.Options
	iptables  iptables.Options
	localhost []netip.Addr // where NodePorts are served on loopback
	conntrack conntrackSettings
	dns       nodeSettings

	minSync, sync time.Duration // between two applies; between two readings of the kernel
	adminSocket   string
	healthz       string // IP:port; empty for none
	metrics       string // IP:port; empty for none
	bindHardFail  bool
	oomScoreAdj   int
	profiling     bool
	configz       any // what /configz shows
}

// newBackend returns the backend of that name. It writes nothing to the kernel.
func newBackend(s settings) (proxier.Backend, error) {
	switch {
	case s.mode != config.ModeIPTables:
		return nil, fmt.Errorf("mode: %q: no such backend", s.mode)
	case s.iptables.MasqueradeBit == 0: // would mean the default
		return nil, errors.New("iptables.masqueradeBit: 0: this backend needs a bit from 1 to 31")
	}
	b, err := iptables.New(s.iptables)
	if err != nil {
		return nil, withInstall(err)
	}
	return b, nil
}

// withProbe adds to the refusal of a backend that is to come what its kernel parts are like.
func withProbe(mode string, refusal error) error {
	probe := map[string]func() error{config.ModeIPVS: ipvs.Probe, config.ModeEBPF: ebpf.Probe}[mode]
	if probe == nil {
		return refusal
	}
	kernel := "this kernel would be ready for it"
	if err := probe(); err != nil {
		kernel = err.Error()
	}
	return fmt.Errorf("%w (%s)", refusal, kernel)
}

// A proxy is all parts of one running proxy.
type proxy struct {
	settings
	log     *slog.Logger
	backend proxier.Backend
	admin   *admin.Server
	store   *watch.Store
	feed    *proxier.Feed // what the cluster asks for
	status  *proxier.Feed // the same, with the problems that this node found when it did it
	metrics *metrics.Metrics
	monitor *health.Monitor
	ports   *health.Ports
	flows   *conntrack.Cleaner
	local   *localport.Forwarder
	dns     *nodeDNS      // nil: there is none
	api     *watch.Client // nil: manifests are followed
}

// newProxy makes the parts and takes the node's lock. Nothing is programmed yet.
func newProxy(s settings, log *slog.Logger) (*proxy, error) {
	p := &proxy{settings: s, log: log, store: watch.NewStore(), feed: new(proxier.Feed), status: new(proxier.Feed), flows: conntrack.New()}
	var err error
	if s.manifests != "" {
		if _, err := os.ReadDir(s.manifests); err != nil {
			return nil, fmt.Errorf("--manifests: %w", err)
		}
	} else if p.api, err = watch.NewClient(s.client); err != nil {
		return nil, err
	}
	if len(s.dns.addrs) > 0 {
		if p.dns, err = newNodeDNS(s, p.store, log); err != nil {
			return nil, err
		}
	}
	if p.admin, err = admin.Listen(s.adminSocket, p.status); err != nil {
		return nil, err
	}
	s.iptables.Note = func(reason error) { log.Info("iptables-restore had to write a table", "reason", reason) }
	var once sync.Once // not for each family
	s.iptables.NoSocket = func(err error) {
		once.Do(func() {
			log.Warn("the kernel has no xt_socket: if this process is killed, there is no DNS on this node until it starts again", "err", err)
		})
	}
	if p.backend, err = newBackend(s); err != nil {
		p.admin.Close()
		return nil, err
	}
	families := []string{}
	for name, on := range map[string]bool{"IPv4": s.resolve.IPv4, "IPv6": s.resolve.IPv6} {
		if on {
			families = append(families, name)
		}
	}
	p.metrics = metrics.New(versionString(), p.backend.Name(), families)
	p.monitor = health.NewMonitor(2*s.sync, families...)
	p.ports = health.NewPorts(p.monitor)
	p.local = localport.New(localport.Options{Addresses: s.localhost})
	p.metrics.Registry().MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "fairway", Name: "watch_staleness_seconds",
		Help: "For how long the API server has not been heard of; 0 while it answers",
	}, func() float64 { return p.store.Staleness().Seconds() }))
	if p.api != nil {
		p.metrics.Registry().MustRegister(proxyRequests()...)
	}
	if p.dns != nil {
		p.metrics.Registry().MustRegister(p.dns)
	}
	return p, nil
}

// run works until ctx is done, or until a part fails that the others cannot do without. The
// data plane keeps working afterwards.
func (p *proxy) run(ctx context.Context) error {
	defer p.backend.Close()
	asked := ctx // done when the process is to end: the resolver's Service needs the parts for longer
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, ctx := errgroup.WithContext(ctx)
	part := func(f func(context.Context)) { g.Go(func() error { f(ctx); return nil }) }

	g.Go(func() error { return p.source(ctx) })
	part(p.reportProgress)
	part(p.reportProblems)
	part(func(ctx context.Context) {
		watch.Publish(ctx, p.store, resolve.New(p.resolve), p.feed, watch.PublishOptions{Published: p.published})
	})
	loop := &proxier.Loop{Feed: p.feed, Backend: p.backend, MinInterval: p.minSync, Resync: p.sync,
		Applied: func(a proxier.Applied) { p.applied(ctx, a) }, Log: p.log}
	if p.dns != nil {
		loop.Applying = func(want *proxier.Snapshot) {
			p.dns.filter.Learn(want)
			p.dns.gate.Applying(want)
		}
		g.Go(func() error { return p.dns.run(ctx, p.bindHardFail) })
		part(p.dns.filter.Run)
		part(func(ctx context.Context) { p.dns.hold.Follow(ctx, &p.dns.inForce) })
		if p.dns.service.Name != "" {
			p.dns.watch(ctx)
		}
	}
	part(loop.Run)
	part(func(ctx context.Context) {
		select {
		case <-ctx.Done():
			return
		case <-asked.Done():
		}
		if p.dns != nil {
			p.dns.handBack(ctx)
		}
		end()
	})
	part(p.ports.Run)
	part(func(ctx context.Context) { p.local.Run(ctx, p.feed) })
	g.Go(func() error { return p.admin.Run(ctx) })
	p.serve(ctx, g, "healthz", p.healthz, p.monitor.Handler(p.metrics.Answered))
	p.serve(ctx, g, "metrics", p.settings.metrics, debugHandler(p.metrics.Handler(), p.backend.Name(), p.configz, p.profiling))
	err := g.Wait()
	if p.dns != nil {
		p.dns.watching.Wait()
	}
	return err
}

// serve answers HTTP on addr as a part of g, if there is an address.
func (p *proxy) serve(ctx context.Context, g *errgroup.Group, name, addr string, h http.Handler) {
	if addr == "" {
		return
	}
	g.Go(func() error {
		err := health.Serve(ctx, addr, h, p.bindHardFail, func(err error) {
			p.log.Error("cannot listen; will try again", "server", name, "err", err)
		})
		if err != nil {
			return fmt.Errorf("%s server: %w", name, err)
		}
		return nil
	})
}

// source fills the store from what the settings name.
func (p *proxy) source(ctx context.Context) error {
	if p.manifests != "" {
		return watch.Manifests(ctx, p.store, watch.ManifestOptions{Dir: p.manifests, NodeName: p.resolve.NodeName, Log: p.log})
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		watch.Events(ctx, p.store, p.api, p.status, watch.EventOptions{NodeName: p.resolve.NodeName, Log: p.log})
	})
	watch.Cluster(ctx, p.store, p.api, watch.ClusterOptions{
		NodeName: p.resolve.NodeName, ServiceProxyName: p.resolve.ServiceProxyName, ForDNS: p.dns != nil, Log: p.log})
	return nil
}

// published notes a new snapshot.
func (p *proxy) published(s *proxier.Snapshot, triggers []proxier.Trigger) {
	p.metrics.Published(s, triggers)
	p.monitor.Published(s)
}

// applied notes the outcome of an Apply, and lets what depends on it follow.
func (p *proxy) applied(ctx context.Context, a proxier.Applied) {
	p.metrics.Applied(a)
	if c, ok := p.backend.(proxier.RuleCounter); ok {
		p.metrics.Rules(c.Rules())
	}
	p.monitor.Applied(a)
	if a.Err == nil {
		p.cleanFlows(ctx, a)
	}
	if p.dns != nil {
		p.dns.applied(a)
	}
	if a.Err != nil {
		return
	}
	p.ports.Sync(a.Now)
	p.admin.Applied(a)
	if a.Prev == nil {
		saveMemory()
	}
}

// cleanFlows deletes the flows that the change made stale. It is done before others are told
// that the snapshot is in force.
func (p *proxy) cleanFlows(ctx context.Context, a proxier.Applied) {
	start := time.Now()
	before := [2]uint64{p.flows.Deleted(false), p.flows.Deleted(true)}
	deleted, err := p.flows.Clean(ctx, a.Prev, a.Now)
	took := time.Since(start)
	if err != nil && ctx.Err() == nil {
		p.log.Error("stale flows could not be removed; will try again", "err", err)
	}
	if deleted > 0 {
		p.log.Info("removed stale flows", "flows", deleted, "took", took)
	}
	for i, family := range []string{"IPv4", "IPv6"} {
		p.metrics.Flows(family, int(p.flows.Deleted(i == 1)-before[i]), took)
	}
}
