package metrics

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of all server blocks of one process. They outlive reloads: a counter never
// goes back. It is a [prometheus.Collector] and safe for concurrent use.
type Metrics struct {
	build  prometheus.Gauge
	Panics prometheus.Counter // queries whose handler panicked

	mu      sync.Mutex
	series  map[Block]*Series
	enabled []Enabled
}

// A Block names a server block of one listener, by its labels.
type Block struct {
	Server string // such as dns://:53
	Zone   string // with its final dot; "dropped" for queries that no block wanted
	View   string // that chooses the block, "" if none does
}

// Enabled says that a block has a plugin.
type Enabled struct {
	Block
	Plugin string
}

// New returns Metrics without blocks.
func New(version string) *Metrics {
	m := &Metrics{series: map[Block]*Series{}}
	m.build = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help:        "A metric with a constant '1' value labeled by version, revision, and goversion from which the resolver was built.",
		ConstLabels: prometheus.Labels{"version": version, "revision": "", "goversion": runtime.Version()}})
	m.build.Set(1)
	m.Panics = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "panics_total", Help: "A metrics that counts the number of panics."})
	return m
}

// SetEnabled says which blocks have which plugins from now on.
func (m *Metrics) SetEnabled(list []Enabled) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled = list
}

// Series returns the counters of a block, always the same ones for the same labels.
func (m *Metrics) Series(b Block) *Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.series[b]
	if s == nil {
		s = &Series{stripes: map[stripeKey]*Stripe{}}
		m.series[b] = s
	}
	return s
}

// A Series is the counters of one block.
type Series struct {
	mu      sync.Mutex
	stripes map[stripeKey]*Stripe
}

type stripeKey struct {
	proto  Proto
	worker int
}

// Stripe returns the counters of one worker, always the same ones for the same number.
func (s *Series) Stripe(p Proto, worker int) *Stripe {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := stripeKey{p, worker}
	if s.stripes[k] == nil {
		s.stripes[k] = &Stripe{proto: p}
	}
	return s.stripes[k]
}

func (s *Series) all() []*Stripe {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.stripes))
}

const namespace = "coredns"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// Labels are in the order of these descriptions everywhere below.
var (
	descEnabled   = desc("plugin_enabled", "A metric that indicates whether a plugin is enabled on per server and zone basis.", "server", "zone", "view", "name")
	descRequests  = desc("dns_requests_total", "Counter of DNS requests made per zone, protocol and family.", "server", "zone", "view", "proto", "family", "type")
	descResponses = desc("dns_responses_total", "Counter of response status codes.", "server", "zone", "view", "rcode", "plugin")
	descDO        = desc("dns_do_requests_total", "Counter of DNS requests with DO bit set per zone.", "server", "zone", "view")
	descTook      = desc("dns_request_duration_seconds", "Histogram of the time (in seconds) each request took per zone.", "server", "zone", "view")
	descIn        = desc("dns_request_size_bytes", "Size of the request in bytes.", "server", "zone", "view", "proto")
	descOut       = desc("dns_response_size_bytes", "Size of the returned response in bytes.", "server", "zone", "view", "proto")
)

// Describe sends the descriptions.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.build.Describe(ch)
	m.Panics.Describe(ch)
	for _, d := range []*prometheus.Desc{descEnabled, descRequests, descResponses, descDO, descTook, descIn, descOut} {
		ch <- d
	}
}

// Collect sums the stripes.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.build.Collect(ch)
	m.Panics.Collect(ch)
	m.mu.Lock()
	enabled, series := m.enabled, maps.Clone(m.series)
	m.mu.Unlock()
	for _, e := range enabled {
		ch <- prometheus.MustNewConstMetric(descEnabled, prometheus.GaugeValue, 1, e.Server, e.Zone, e.View, e.Plugin)
	}
	for b, s := range series {
		s.collect(ch, b)
	}
}

func (s *Series) collect(ch chan<- prometheus.Metric, b Block) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{b.Server, b.Zone, b.View}, labels...)...)
		}
	}
	var (
		do        uint64
		took      histogram
		responses [len(rcodeNames)][len(pluginNames)]uint64
		stripes   = s.all()
	)
	slices.SortFunc(stripes, func(a, b *Stripe) int { return cmp.Compare(a.proto, b.proto) })
	for _, proto := range []Proto{UDP, TCP} {
		var requests [2][len(typeNames)]uint64
		var in, out histogram
		for _, st := range stripes {
			if st.proto != proto {
				continue
			}
			for f := range requests {
				for k := range requests[f] {
					requests[f][k] += st.requests[f][k].Load()
				}
			}
			for r := range responses {
				for p := range responses[r] {
					responses[r][p] += st.responses[r][p].Load()
				}
			}
			do += st.do.Load()
			in.add(st.in[:], &st.inSum)
			out.add(st.out[:], &st.outSum)
			took.add(st.took[:], &st.tookSum)
		}
		for f, family := range []string{"1", "2"} {
			for k, kind := range typeNames {
				counter(descRequests, requests[f][k], proto.String(), family, kind)
			}
		}
		in.send(ch, descIn, sizeBounds[:], 1, b.Server, b.Zone, b.View, proto.String())
		out.send(ch, descOut, sizeBounds[:], 1, b.Server, b.Zone, b.View, proto.String())
	}
	for r, rcode := range rcodeNames {
		for p, plugin := range pluginNames {
			counter(descResponses, responses[r][p], rcode, plugin)
		}
	}
	counter(descDO, do)
	took.send(ch, descTook, timeBounds[:], 1e-9, b.Server, b.Zone, b.View)
}

// A histogram is the sum of the same histogram of several stripes.
type histogram struct {
	counts [len(timeBounds) + 1]uint64 // the longer of the two kinds
	sum    uint64
}

func (h *histogram) add(counts []atomic.Uint64, sum *atomic.Uint64) {
	for i := range counts {
		h.counts[i] += counts[i].Load()
	}
	h.sum += sum.Load()
}

// send makes a metric of the histogram, unless it is empty. A unit of the bounds is that much of a
// unit of the metric.
func (h *histogram) send(ch chan<- prometheus.Metric, d *prometheus.Desc, bounds []uint64, unit float64, labels ...string) {
	buckets := map[float64]uint64{}
	total := uint64(0)
	for i, b := range bounds {
		total += h.counts[i]
		buckets[float64(b)*unit] = total
	}
	total += h.counts[len(bounds)]
	if total > 0 {
		ch <- prometheus.MustNewConstHistogram(d, total, float64(h.sum)*unit, buckets, labels...)
	}
}
