package forward

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of all forward directives of a process, under CoreDNS's names and, for what
// CoreDNS does not have, our own. They outlive reloads. It is a [prometheus.Collector] and safe
// for concurrent use.
type Metrics struct {
	broken, rejected prometheus.Counter
	scrubbed         prometheus.Counter
	duration         *prometheus.HistogramVec
	failures         *prometheus.CounterVec
	connHits         *prometheus.CounterVec
	connMisses       *prometheus.CounterVec
	mismatches       *prometheus.CounterVec

	mu   sync.Mutex
	used map[*Upstream]bool // those of all directives at present
}

var isolatedDesc = prometheus.NewDesc("fairway_dns_forward_isolated",
	"1 for an upstream that forwards back to this server, and is not asked for that.", []string{"to"}, nil)

// NewMetrics returns Metrics that have counted nothing.
func NewMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		used:     map[*Upstream]bool{},
		broken:   counter("coredns_forward_healthcheck_broken_total", "Counter of the number of complete failures of the healthchecks."),
		rejected: counter("coredns_forward_max_concurrent_rejects_total", "Counter of the number of queries rejected because the concurrent queries were at maximum."),
		scrubbed: counter("fairway_dns_forward_scrubbed_records_total", "Records of upstreams' replies that did not belong to the question."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_proxy_request_duration_seconds",
			Help:    "Histogram of the time each request took.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16), NativeHistogramBucketFactor: 1.05}, []string{"proxy_name", "to", "rcode"}),
		failures:   vec("coredns_proxy_healthcheck_failures_total", "Counter of the number of failed healthchecks.", "proxy_name", "to"),
		connHits:   vec("coredns_proxy_conn_cache_hits_total", "Counter of connection cache hits per upstream and protocol.", "proxy_name", "to", "proto"),
		connMisses: vec("coredns_proxy_conn_cache_misses_total", "Counter of connection cache misses per upstream and protocol.", "proxy_name", "to", "proto"),
		mismatches: vec("fairway_dns_forward_mismatched_replies_total", "Messages from an upstream's address that were no reply to what was asked: late, broken or forged.", "to"),
	}
}

func (m *Metrics) each(f func(prometheus.Collector)) {
	for _, c := range []prometheus.Collector{m.broken, m.rejected, m.scrubbed, m.duration, m.failures, m.connHits, m.connMisses, m.mismatches} {
		f(c)
	}
}

// Describe sends the descriptions.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.each(func(c prometheus.Collector) { c.Describe(ch) })
	ch <- isolatedDesc
}

// Collect sends the metrics.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.each(func(c prometheus.Collector) { c.Collect(ch) })
	for to, isolated := range m.isolated() {
		value := 0.0
		if isolated {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(isolatedDesc, prometheus.GaugeValue, value, to)
	}
}

// use notes that a directive begins to use an upstream, or ends to.
func (m *Metrics) use(u *Upstream, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on {
		m.used[u] = true
	} else {
		delete(m.used, u)
	}
}

// isolated tells for each upstream, by its address, whether a directive isolates it.
func (m *Metrics) isolated() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]bool{}
	for u := range m.used {
		out[u.Addr()] = out[u.Addr()] || u.Isolated()
	}
	return out
}

// upstreamMetrics are those of one upstream. Labels are looked up once, and only for what happens.
type upstreamMetrics struct {
	m          *Metrics
	to         string
	failures   prometheus.Counter
	mismatches prometheus.Counter
	took16     [16]atomic.Pointer[prometheus.Observer]
}

func (m *Metrics) upstream(to string) *upstreamMetrics {
	return &upstreamMetrics{m: m, to: to,
		failures: m.failures.WithLabelValues("forward", to), mismatches: m.mismatches.WithLabelValues(to)}
}

func (u *upstreamMetrics) took(rcode int, d time.Duration) {
	slot := &u.took16[rcode&15]
	o := slot.Load()
	if o == nil || rcode > 15 {
		name, ok := dnswire.RcodeToString[rcode]
		if !ok {
			name = strconv.Itoa(rcode)
		}
		fresh := u.m.duration.WithLabelValues("forward", u.to, name)
		o = &fresh
		if rcode <= 15 {
			slot.Store(o)
		}
	}
	(*o).Observe(d.Seconds())
}

func (u *upstreamMetrics) hits(proto string) {
	u.m.connHits.WithLabelValues("forward", u.to, proto).Inc()
}
func (u *upstreamMetrics) misses(proto string) {
	u.m.connMisses.WithLabelValues("forward", u.to, proto).Inc()
}
