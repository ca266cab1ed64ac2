package server

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/serve"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/dns/zone"
)

// ownMetrics are those of the server as a whole. Those that CoreDNS does not have begin with
// fairway_dns.
type ownMetrics struct {
	reloadFailed prometheus.Counter
	hash         atomic.Pointer[string]
	list         []prometheus.Collector
}

func newOwnMetrics(s *Server) *ownMetrics {
	m := &ownMetrics{reloadFailed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "reload", Name: "failed_total",
		Help: "Counter of the number of failed reload attempts."})}
	m.list = []prometheus.Collector{
		m.reloadFailed, m.versionCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "fairway", Subsystem: "dns", Name: "staleness_seconds",
			Help: "For how long the API server has not been heard of; 0 while it answers"},
			func() float64 { return s.Staleness().Seconds() }),
		&changes{s, prometheus.NewDesc("fairway_dns_last_change_timestamp_seconds",
			"When answers from a cluster changed last, the serial of the zone", []string{"zone"}, nil)},
		&drops{s, prometheus.NewDesc("fairway_dns_drops_total",
			"Queries and connections that got no answer, or none but an error, and why", []string{"reason"}, nil)},
	}
	return m
}

// version says which configuration is in force.
func (m *ownMetrics) version(hash string) { m.hash.Store(&hash) }

// versionCollector shows the hash of the configuration in force as a label, and no older one.
func (m *ownMetrics) versionCollector() prometheus.Collector {
	return &versionInfo{m, prometheus.NewDesc("coredns_reload_version_info", "A metric with the hash of the configuration in force.",
		[]string{"hash", "value"}, nil)}
}

type versionInfo struct {
	m    *ownMetrics
	desc *prometheus.Desc
}

func (v *versionInfo) Describe(ch chan<- *prometheus.Desc) { ch <- v.desc }

func (v *versionInfo) Collect(ch chan<- prometheus.Metric) {
	if h := v.m.hash.Load(); h != nil && *h != "" {
		ch <- prometheus.MustNewConstMetric(v.desc, prometheus.GaugeValue, 1, "sha512", *h)
	}
}

// changes shows the age of what the zones of clusters know.
type changes struct {
	s    *Server
	desc *prometheus.Desc
}

func (c *changes) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *changes) Collect(ch chan<- prometheus.Metric) {
	serials := map[string]uint32{} // several blocks may have the zone
	for _, p := range *c.s.parts.Load() {
		if z, ok := p.plugin.(*zone.Zone); ok {
			name := p.directive.(*corefile.Kubernetes).PrimaryZone
			serials[name] = max(serials[name], z.Serial())
		}
	}
	for name, serial := range serials {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(serial), name)
	}
}

// drops counts what was not served, over all listeners that there were.
type drops struct {
	s    *Server
	desc *prometheus.Desc
}

func (d *drops) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

func (d *drops) Collect(ch chan<- prometheus.Metric) {
	d.s.state.Lock()
	sum := d.s.gone
	for _, l := range d.s.counted {
		sum.add(l.Stats())
	}
	d.s.state.Unlock()
	sum.shed = d.s.pool.Shed()
	for reason, n := range map[string]uint64{
		"shed": sum.shed, "socket full": sum.lost, "malformed": sum.malformed, "client": sum.strange, "unsent": sum.unsent, "connections refused": sum.refused,
		"connections evicted": sum.evicted, "connections timed out": sum.timedOut, "connections abused": sum.abused,
	} {
		ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, float64(n), reason)
	}
}

// dropCounts are what drops shows.
type dropCounts struct {
	shed, lost, malformed, strange, unsent, refused, evicted, timedOut, abused uint64
}

func (c *dropCounts) add(s serve.Stats) {
	for _, q := range s.Queries {
		c.malformed += q[wire.BadForm] + q[wire.BadOpcode] + q[wire.BadVersion] + q[wire.Drop]
	}
	c.lost += s.Lost
	c.strange += s.Strange
	c.unsent += s.Unsent
	c.refused += s.Refused
	c.evicted += s.Evicted
	c.timedOut += s.TimedOut
	c.abused += s.Abused
}

// metricsHandler serves the page of metrics; runtime adds all metrics of the Go runtime.
func (s *Server) metricsHandler(runtime bool) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(s.collectors()...)
	r.MustRegister(s.o.Metrics...)
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if runtime {
		r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
	} else {
		r.MustRegister(collectors.NewGoCollector())
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
