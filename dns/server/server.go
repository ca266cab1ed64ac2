package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin/logging"
	"github.com/fairway-lb/fairway/dns/serve"
)

// Options are what a Server depends on.
type Options struct {
	// Load reads the configuration, at start and whenever it may have changed.
	Load func() (*corefile.Config, error)
	// NewSource connects to the cluster of a kubernetes directive.
	NewSource NewSource
	// Out gets the lines of the plugins log and errors, and what CoreDNS prints when it starts.
	Out io.Writer
	// Quiet leaves out what is printed at start.
	Quiet bool
	// Log receives what the server itself has to say. Nil means slog.Default.
	Log *slog.Logger
	// Version is the program's.
	Version string
	// Metrics are shown beside the server's own, which are all made anew for each Server.
	Metrics []prometheus.Collector
	// Clients, if set, says who may ask; others get nothing. It must be quick, and safe for concurrent
	// use.
	Clients func(netip.Addr) bool
	// Workers is that of serve.Options, for each listener; 0 means GOMAXPROCS.
	Workers int
}

// A Server runs a resolver. Use [New]; its methods are safe for concurrent use.
type Server struct {
	o       Options
	log     *slog.Logger
	sink    *logging.Sink
	pool    *serve.Pool
	metrics *metrics.Metrics
	shared  shared // metrics that plugins of one kind share
	own     *ownMetrics
	health  *healthMetrics
	sources sources
	ending  atomic.Bool
	served  atomic.Pointer[[]*listener] // what is in listeners
	ready   atomic.Pointer[readiness]   // of the configuration in force; nil: nothing is served yet
	parts   atomic.Pointer[[]*part]     // of the configuration in force

	mu        sync.Mutex // one change of configuration at a time; guards what follows
	now       *generation
	listeners map[netip.AddrPort]*listener
	pageList  map[string]*page
	probes    context.CancelFunc // ends the looks at /health
	probing   sync.WaitGroup

	state   sync.Mutex  // guards what follows
	hash    string      // of the configuration in force
	failed  error       // why the last reload changed nothing
	counted []*listener // that were served and are not closed
	gone    dropCounts  // of listeners that were closed
}

// New returns a Server that does nothing yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Server{o: o, log: o.Log, metrics: metrics.New(o.Version), shared: newShared(), health: newHealthMetrics(),
		listeners: map[netip.AddrPort]*listener{}, pageList: map[string]*page{}, probes: func() {}}
	s.sources.make, s.sources.failed = o.NewSource, func(err error) { s.log.Error("cluster objects cannot be followed any more", "err", err) }
	s.served.Store(new([]*listener))
	s.parts.Store(new([]*part))
	s.own = newOwnMetrics(s)
	return s
}

// sinkLines is how many lines of log may wait to be written.
const sinkLines = 4096

// Run serves until ctx is done, then for as long as lameduck says, and ends in good order. It fails
// if the configuration it starts with cannot be served. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	s.sink = logging.NewSink(s.o.Out, sinkLines)
	defer s.sink.Close()
	s.pool = serve.NewPool(0, 0)
	defer s.pool.Close()
	defer s.end()
	switch _, err := s.reload(ctx, true); {
	case err != nil && ctx.Err() != nil:
		return nil // told to end before it served
	case err != nil:
		return err
	}
	s.greet()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.watchConfig(ctx) })
	<-ctx.Done()
	s.ending.Store(true)
	s.mu.Lock()
	lameduck := s.now.lameduck
	s.mu.Unlock()
	if lameduck > 0 {
		s.log.Info("plugin/health: Going into lameduck mode for " + lameduck.String())
		time.Sleep(lameduck)
	}
	return nil
}

// end closes everything, listeners first.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range s.listeners {
		wg.Go(func() { s.drain(l) })
	}
	wg.Wait()
	if s.now != nil {
		for _, p := range slices.Backward(s.now.parts) {
			p.close()
		}
	}
	s.probes()
	s.probing.Wait()
	for _, p := range s.pageList {
		wg.Go(p.close)
	}
	wg.Wait()
}

func (s *Server) drain(l *listener) {
	if err := l.drain(); err != nil {
		s.log.Warn("queries were given up when a listener closed", "address", l.Addr(), "err", err)
	}
	s.state.Lock()
	defer s.state.Unlock()
	s.counted = slices.DeleteFunc(s.counted, func(c *listener) bool { return c == l })
	s.gone.add(l.Stats())
}

// greet prints what CoreDNS prints when it has started.
func (s *Server) greet() {
	if s.o.Quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.now.config.Blocks {
		for _, k := range b.Keys {
			binds := b.Binds
			if len(binds) == 0 {
				binds = []netip.Addr{{}}
			}
			for _, a := range binds {
				line := fmt.Sprintf("%s:%d", k.Zone, s.listeners[netip.AddrPortFrom(a, k.Port)].Listener.Addr().Port())
				if a.IsValid() {
					line += " on " + a.String()
				}
				fmt.Fprintln(s.o.Out, line)
			}
		}
	}
	if s.now.reload != nil {
		s.sink.Line(logging.Info, "plugin/reload: Running configuration SHA512 = "+s.configHash())
	}
	fmt.Fprintf(s.o.Out, "Fairway-%s\n%s/%s, %s, \n", s.o.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// Addr returns where the server listens for an address of the configuration; the zero AddrPort if
// it does not. They differ where the configuration has port 0.
func (s *Server) Addr(configured netip.AddrPort) netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.listeners[configured]; l != nil {
		return l.Listener.Addr()
	}
	return netip.AddrPort{}
}

// PageAddr returns where the HTTP address of the configuration listens, "" if it does not.
func (s *Server) PageAddr(configured string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pageList[configured]; p != nil {
		return p.l.Addr().String()
	}
	return ""
}

// Ready reports whether the server serves, all plugins are ready, and it is not about to end.
func (s *Server) Ready() bool {
	r := s.ready.Load()
	return r != nil && !s.ending.Load() && len(r.waiting()) == 0
}

// Collectors returns the metrics of the server, for who shows them on a page of its own; nil before
// it serves.
func (s *Server) Collectors() []prometheus.Collector {
	if s.ready.Load() == nil {
		return nil
	}
	return s.collectors()
}

func (s *Server) collectors() []prometheus.Collector {
	return slices.Concat([]prometheus.Collector{s.metrics, s.health.took, s.health.failed, s.sink}, s.own.list, s.shared.collectors())
}

// routerOf returns the router of a listener by its label, nil if there is none.
func (s *Server) routerOf(label string) *router {
	for _, l := range *s.served.Load() {
		if r := l.router.Load(); r.label == label {
			return r
		}
	}
	return nil
}

// Staleness is for how long a cluster has been out of contact, the longest if there are several.
func (s *Server) Staleness() time.Duration { return s.sources.staleness() }

func (s *Server) panicked(value any) {
	s.metrics.Panics.Inc()
	s.log.Error("a query made a plugin panic; it was answered SERVFAIL", "panic", value, "stack", stack())
}

func stack() string {
	buf := make([]byte, 4096)
	return string(buf[:runtime.Stack(buf, false)])
}

func (s *Server) configHash() string {
	s.state.Lock()
	defer s.state.Unlock()
	return s.hash
}

func (s *Server) reloadError() error {
	s.state.Lock()
	defer s.state.Unlock()
	return s.failed
}

func hashText(c *corefile.Config) string { return hex.EncodeToString(c.Hash[:]) }
