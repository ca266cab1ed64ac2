package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/node"
	"github.com/fairway-lb/fairway/dns/server"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/watch"
)

// nodeSettings say how the proxy's process answers DNS queries too.
type nodeSettings struct {
	addrs    []netip.AddrPort // where to listen, all with one port; none: there is no resolver
	corefile string           // a path; "": nodeCorefile
	service  proxier.NamespacedName
	clients  []netip.Prefix // who may ask beside pods and the node
}

// nodeCorefile is kubeadm's without the pages, whose ports on a node are other programs': the
// metrics are on the proxy's own page.
const nodeCorefile = `. {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`

const (
	// nodeWorkers bounds the workers of each listener: the pods of one node are few.
	nodeWorkers = 4
	// retryServe is the pause before a resolver that could not serve tries again.
	retryServe = 5 * time.Second
	// drainQueries is how long the resolver goes on answering after new queries are led elsewhere:
	// the replies of upstreams may take that long.
	drainQueries = time.Second
	// handBackTime bounds how long the process goes on for the sake of the Service.
	handBackTime = 10 * time.Second
)

// A nodeDNS is the resolver in the proxy's process.
type nodeDNS struct {
	nodeSettings
	manifests string
	client    watch.ClientOptions
	store     *watch.Store
	log       *slog.Logger

	zone      string // the cluster's, to ask for
	gate      *node.Gate
	filter    *node.Clients
	server    atomic.Pointer[server.Server]
	inForce   proxier.Feed // what the kernel does
	hold      node.Hold
	standing  atomic.Bool // the store leads the Service here
	stopWatch context.CancelFunc
	watching  sync.WaitGroup
}

// newNodeDNS returns a resolver that does nothing yet. It fails if its Corefile cannot be used.
func newNodeDNS(s settings, store *watch.Store, log *slog.Logger) (*nodeDNS, error) {
	d := &nodeDNS{nodeSettings: s.dns, manifests: s.manifests, client: s.client, store: store, log: log,
		zone: ".", gate: node.NewGate(node.Patience, log), filter: node.NewClients(s.dns.addrs, s.dns.clients, log), hold: node.Hold{Log: log}, stopWatch: func() {}}
	cfg, err := d.load()
	if err != nil {
		return nil, err
	}
	for _, b := range cfg.Blocks {
		if k, ok := corefile.Find[*corefile.Kubernetes](b); ok {
			d.zone = k.PrimaryZone
			break
		}
	}
	return d, nil
}

// load reads the configuration. Blocks without addresses of their own get those of the node.
func (d *nodeDNS) load() (cfg *corefile.Config, err error) {
	o := corefile.Options{DefaultPort: d.addrs[0].Port(), OwnObjects: true}
	if d.corefile == "" {
		cfg, err = corefile.Parse("built-in Corefile", []byte(nodeCorefile), o)
	} else {
		cfg, err = corefile.Load(d.corefile, o)
	}
	if err != nil {
		return nil, err
	}
	unserved := slices.Clone(d.addrs)
	for _, b := range cfg.Blocks {
		if len(b.Binds) == 0 {
			for _, a := range d.addrs {
				b.Binds = append(b.Binds, a.Addr())
			}
		}
		for _, k := range b.Keys {
			unserved = slices.DeleteFunc(unserved, func(a netip.AddrPort) bool { return k.Port == a.Port() && slices.Contains(b.Binds, a.Addr()) })
		}
	}
	if len(unserved) > 0 {
		return nil, fmt.Errorf("--dns-listen: no block of the Corefile serves %v", unserved)
	}
	return cfg, nil
}

// newSource connects a kubernetes directive to the cluster whose proxy this is, behind the gate. One
// that names another API server gets that.
func (d *nodeDNS) newSource(k *corefile.Kubernetes) (names.Source, func(context.Context) error, error) {
	if k.Endpoint != "" || k.Kubeconfig != "" {
		return (&dnsFlags{}).newSource(d.log)(k)
	}
	n, err := watch.NewNames(namesOptions(k))
	if err != nil {
		return nil, nil, err
	}
	src := d.gate.Source(n)
	return src, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { src.Run(ctx) })
		if d.manifests != "" {
			return watch.Manifests(ctx, n, watch.ManifestOptions{Dir: d.manifests, Names: true, Log: d.log})
		}
		client, err := watch.NewClient(d.client)
		if err != nil {
			return err
		}
		shared := d.store
		if k.Labels != "" || len(k.MulticlusterZones) > 0 { // what the proxy does not watch
			shared = nil
		}
		return watch.ClusterNames(ctx, n, client, shared, d.log)
	}, nil
}

// run serves until ctx is done. An address that cannot be had must not take the data plane down: it
// is tried again.
func (d *nodeDNS) run(ctx context.Context, hardFail bool) error {
	for {
		s := server.New(server.Options{Load: d.load, NewSource: d.newSource, Out: os.Stderr, Quiet: true, Log: d.log,
			Version: versionString(), Clients: d.filter.Allowed, Workers: min(nodeWorkers, runtime.GOMAXPROCS(0))})
		d.server.Store(s)
		err := s.Run(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case hardFail:
			return fmt.Errorf("resolver: %w", err)
		}
		d.log.Error("the node's resolver cannot serve; will try again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryServe):
		}
	}
}

// watch leads the Service here while the resolver answers, until ctx is done or handBack begins.
func (d *nodeDNS) watch(ctx context.Context) {
	ctx, d.stopWatch = context.WithCancel(ctx)
	d.watching.Go(func() {
		node.Watch{Addrs: d.addrs, Zone: d.zone, Log: d.log, Changed: d.stand,
			Ready: func() bool { s := d.server.Load(); return s != nil && s.Ready() }}.Run(ctx)
	})
}

func (d *nodeDNS) standIn() *resolve.StandIn {
	return &resolve.StandIn{Service: d.service, Port: 53, Addrs: d.addrs}
}

// stand leads the Service here, or not any more.
func (d *nodeDNS) stand(answers bool) {
	d.standing.Store(answers)
	if answers {
		d.store.SetStandIn(d.standIn())
	} else {
		d.store.SetStandIn(nil)
	}
}

// handBack gives the Service back to its other endpoints before the resolver ends, as when a pod
// terminates: first new queries go there, and when those on their way are answered, the flows that
// still lead here are cut. It returns when that is in the kernel, or after a bounded time.
func (d *nodeDNS) handBack(ctx context.Context) {
	d.stopWatch()
	d.watching.Wait()
	if !d.standing.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handBackTime)
	defer cancel()
	leaving := d.standIn()
	leaving.Leaving = true
	d.store.SetStandIn(leaving)
	d.await(ctx, func(e *proxier.Endpoint) bool { return !e.Ready })
	select {
	case <-ctx.Done():
	case <-time.After(drainQueries):
	}
	d.stand(false)
	if !d.await(ctx, func(*proxier.Endpoint) bool { return false }) {
		d.log.Error("the DNS Service still leads to this node's resolver, which ends", "service", d.service)
		return
	}
	d.log.Info("handed the DNS Service back to its other endpoints", "service", d.service)
}

// await waits until the kernel does something in which f is true for all endpoints of the Service that
// are the resolver.
func (d *nodeDNS) await(ctx context.Context, f func(*proxier.Endpoint) bool) bool {
	for {
		s, changed := d.inForce.Current()
		if s != nil && d.all(s, f) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

func (d *nodeDNS) all(s *proxier.Snapshot, f func(*proxier.Endpoint) bool) bool {
	svc := s.Service(d.service)
	if svc == nil {
		return true
	}
	for _, p := range svc.Ports {
		for _, e := range p.Endpoints {
			if slices.Contains(d.addrs, e.AddrPort()) && !f(e) {
				return false
			}
		}
	}
	return true
}

// applied notes the outcome of an Apply.
func (d *nodeDNS) applied(a proxier.Applied) {
	d.gate.Applied(a)
	if a.Err == nil {
		d.inForce.Publish(a.Now)
	}
}

// Describe describes nothing: which metrics there are depends on the configuration.
func (d *nodeDNS) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of the resolver that runs at present.
func (d *nodeDNS) Collect(ch chan<- prometheus.Metric) {
	if s := d.server.Load(); s != nil {
		for _, c := range s.Collectors() {
			c.Collect(ch)
		}
	}
	standing := 0.0
	if d.standing.Load() && d.hold.Complete() {
		standing = 1
	}
	ch <- prometheus.MustNewConstMetric(descStanding, prometheus.GaugeValue, standing)
}

var descStanding = prometheus.NewDesc("fairway_dns_service_local", "1 while the DNS Service leads to the resolver of this node", nil, nil)
