package cache

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of all caches of a process. They outlive the caches, so that a reload
// does not set them back. It is a [prometheus.Collector] and safe for concurrent use.
type Metrics struct {
	mu  sync.Mutex
	all map[labels]*series
}

// NewMetrics returns Metrics without caches.
func NewMetrics() *Metrics { return &Metrics{all: map[labels]*series{}} }

type labels struct{ server, zones, view string }

// A series has the counters of the caches with the same labels, one after the other.
type series struct {
	hits       [2]counter // of successes and of denials
	misses     atomic.Uint64
	prefetches atomic.Uint64
	drops      atomic.Uint64
	stale      atomic.Uint64

	mu      sync.Mutex
	cache   *Cache    // the latest
	evicted [2]uint64 // by those before
}

// A counter is added to by many cores at once. Each adds to one of several numbers, far enough
// apart not to share a cache line.
type counter [8]struct {
	n atomic.Uint64
	_ [56]byte
}

func (c *counter) sum() (n uint64) {
	for i := range c {
		n += c[i].n.Load()
	}
	return n
}

func (s *series) hit(e *entry, hash uint64) {
	which := successes
	if e.denial {
		which = denials
	}
	// Nothing here tells one core from another, but two rarely answer the same name at once.
	s.hits[which][hash%8].n.Add(1)
}

// series returns the counters of a new cache.
func (m *Metrics) series(l labels, c *Cache) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.all[l]
	if s == nil {
		s = &series{}
		m.all[l] = s
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache != nil {
		for i, st := range s.cache.stores {
			s.evicted[i] += st.evictions.Load()
		}
	}
	s.cache = c
	return s
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("coredns_cache_"+name, help, labels, nil)
}

var (
	descEntries    = desc("entries", "The number of elements in the cache.", "server", "type", "zones", "view")
	descHits       = desc("hits_total", "The count of cache hits.", "server", "type", "zones", "view")
	descEvictions  = desc("evictions_total", "The count of cache evictions.", "server", "type", "zones", "view")
	descRequests   = desc("requests_total", "The count of cache requests.", "server", "zones", "view")
	descMisses     = desc("misses_total", "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.", "server", "zones", "view")
	descPrefetches = desc("prefetch_total", "The number of times the cache has prefetched a cached item.", "server", "zones", "view")
	descDrops      = desc("drops_total", "The number responses that are not cached, because the reply is malformed.", "server", "zones", "view")
	descStale      = desc("served_stale_total", "The number of requests served from stale cache entries.", "server", "zones", "view")
)

// Describe sends the descriptions.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEntries, descHits, descEvictions, descRequests, descMisses, descPrefetches, descDrops, descStale} {
		ch <- d
	}
}

// Collect sums up. A counter that never counted is left out, as in CoreDNS.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l, s := range m.all {
		s.collect(l, ch)
	}
}

func (s *series) collect(l labels, ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, n float64, values ...string) {
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(d, kind, n, values...)
		}
	}
	requests := s.misses.Load()
	for i, name := range []string{successes: "success", denials: "denial"} {
		store, hits := s.cache.stores[i], s.hits[i].sum()
		requests += hits
		send(descHits, prometheus.CounterValue, float64(hits), l.server, name, l.zones, l.view)
		send(descEvictions, prometheus.CounterValue, float64(s.evicted[i]+store.evictions.Load()), l.server, name, l.zones, l.view)
		ch <- prometheus.MustNewConstMetric(descEntries, prometheus.GaugeValue, float64(store.entries.Load()), l.server, name, l.zones, l.view)
	}
	for d, n := range map[*prometheus.Desc]uint64{descRequests: requests, descMisses: s.misses.Load(),
		descPrefetches: s.prefetches.Load(), descDrops: s.drops.Load(), descStale: s.stale.Load()} {
		send(d, prometheus.CounterValue, float64(n), l.server, l.zones, l.view)
	}
}
