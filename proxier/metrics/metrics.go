package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairway-lb/fairway/proxier"
)

// Metrics are the metrics of one proxy, in a registry of their own. They are safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	backend  string
	families []string

	syncAll, syncFull, syncPartial *prometheus.HistogramVec // ip_family
	lastSync, lastQueued           *prometheus.GaugeVec     // ip_family
	endpointChanges                prometheus.Counter
	endpointPending                prometheus.Gauge
	serviceChanges                 prometheus.Counter
	servicePending                 prometheus.Gauge
	noLocal                        *prometheus.GaugeVec     // traffic_policy, ip_family
	healthz, livez                 *prometheus.CounterVec   // code
	flowsTook                      *prometheus.HistogramVec // ip_family
	flowsDeleted                   *prometheus.CounterVec   // ip_family
	restoreFailures                *prometheus.CounterVec   // ip_family
	partialFailures                *prometheus.CounterVec   // ip_family
	rulesKept, rulesWritten        *prometheus.GaugeVec     // table, ip_family
	programming                    programming

	published, applied             prometheus.Gauge
	failures                       prometheus.Counter
	objects                        *prometheus.CounterVec // change
	lines                          prometheus.Counter
	problems                       *prometheus.GaugeVec // reason
	services, frontends, endpoints prometheus.Gauge

	mu     sync.Mutex
	newest *proxier.Snapshot
}

// buckets are kube-proxy's for durations: 1 ms to 16 s.
var buckets = prometheus.ExponentialBuckets(0.001, 2, 15)

// iptablesBackend is the name of the backend for which kube-proxy has metrics of its own.
const iptablesBackend = "iptables"

// New returns the metrics of a proxy that programs these families, "IPv4" and "IPv6".
func New(version, backend string, families []string) *Metrics {
	r := prometheus.NewRegistry()
	kube := factory{r, "kubeproxy"}
	own := factory{r, "fairway"}
	m := &Metrics{registry: r, backend: backend, families: families,
		syncAll:         kube.histogram("sync_proxy_rules_duration_seconds", "Time that one sync of the rules took", "ip_family"),
		syncFull:        kube.histogram("sync_full_proxy_rules_duration_seconds", "Time that one sync took which read the kernel first", "ip_family"),
		syncPartial:     kube.histogram("sync_partial_proxy_rules_duration_seconds", "Time that one sync took which wrote differences only", "ip_family"),
		lastSync:        kube.gauges("sync_proxy_rules_last_timestamp_seconds", "When rules were last synced without error", "ip_family"),
		lastQueued:      kube.gauges("sync_proxy_rules_last_queued_timestamp_seconds", "When a sync of the rules was last requested", "ip_family"),
		endpointChanges: kube.counter("sync_proxy_rules_endpoint_changes_total", "Services whose endpoints changed, counted at every change"),
		endpointPending: kube.gauge("sync_proxy_rules_endpoint_changes_pending", "Changes of endpoints that are not synced yet"),
		serviceChanges:  kube.counter("sync_proxy_rules_service_changes_total", "Services that came, went or changed, counted at every change"),
		servicePending:  kube.gauge("sync_proxy_rules_service_changes_pending", "Changes of Services that are not synced yet"),
		noLocal:         kube.gauges("sync_proxy_rules_no_local_endpoints_total", "Service ports with a Local traffic policy and endpoints, but none on this node", "traffic_policy", "ip_family"),
		healthz:         kube.counters("proxy_healthz_total", "Answers of /healthz", "code"),
		livez:           kube.counters("proxy_livez_total", "Answers of /livez", "code"),
		restoreFailures: kube.counters("sync_proxy_rules_iptables_restore_failures_total", "Syncs that could not write iptables rules", "ip_family"),
		partialFailures: kube.counters("sync_proxy_rules_iptables_partial_restore_failures_total", "Syncs that could not write differences to iptables rules; the next reads the kernel first", "ip_family"),
		rulesKept:       kube.gauges("sync_proxy_rules_iptables_total", "iptables rules of this proxy", "table", "ip_family"),
		rulesWritten:    kube.gauges("sync_proxy_rules_iptables_last", "iptables rules that the last sync wrote", "table", "ip_family"),
		programming: programming{families: families, took: kube.histogramOf(programmingBuckets,
			"network_programming_duration_seconds", "Time from a change of endpoints, as the endpoint controller noted it, until the rules for it are in force", "ip_family")},
		flowsTook:    kube.histogram("conntrack_reconciler_sync_duration_seconds", "Time that one removal of stale flows took", "ip_family"),
		flowsDeleted: kube.counters("conntrack_reconciler_deleted_entries_total", "Stale flows that were removed", "ip_family"),

		published: own.gauge("snapshot_revision", "Revision of the newest snapshot"),
		applied:   own.gauge("applied_revision", "Revision of the snapshot that the kernel implements; less than fairway_snapshot_revision while a change waits"),
		failures:  own.counter("apply_failures_total", "Applies that failed"),
		objects:   own.counters("applied_objects_total", "Kernel objects of the backend that applies added, updated or removed", "change"),
		lines:     own.counter("applied_lines_total", "Rules, entries or messages that applies wrote"),
		problems:  own.gauges("problems", "What objects ask for and this node does not do", "reason"),
		services:  own.gauge("services", "Services in the newest snapshot, headless ones included"),
		frontends: own.gauge("frontends", "Addresses and ports that this node load-balances"),
		endpoints: own.gauge("endpoints", "Endpoints of all Service ports, whatever their condition"),
	}
	own.gauges("build_info", "Version and backend of this proxy; always 1", "version", "backend").WithLabelValues(version, backend).Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, f := range families { // so that a rate exists from the start
		m.flowsDeleted.WithLabelValues(f)
		m.programming.took.WithLabelValues(f)
		if backend == iptablesBackend {
			m.restoreFailures.WithLabelValues(f)
			m.partialFailures.WithLabelValues(f)
		}
		for _, policy := range []string{"internal", "external"} {
			m.noLocal.WithLabelValues(policy, f)
		}
	}
	for _, code := range []string{"200", "503"} {
		m.healthz.WithLabelValues(code)
		m.livez.WithLabelValues(code)
	}
	return m
}

// Registry is where other parts of the program add metrics of theirs.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Published notes that s is the newest snapshot, and what triggered the changes of endpoints in it.
// It may come after s was applied.
func (m *Metrics) Published(s *proxier.Snapshot, triggers []proxier.Trigger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programming.published(s, triggers)
	services, endpoints, more := changes(m.newest, s)
	m.newest = s
	m.serviceChanges.Add(float64(services))
	m.servicePending.Add(float64(services))
	m.endpointChanges.Add(float64(endpoints))
	m.endpointPending.Add(float64(endpoints))
	m.each(m.lastQueued, float64(time.Now().UnixNano())/1e9)
	m.published.Set(float64(s.Revision))
	m.services.Set(float64(len(s.Services)))
	m.frontends.Set(float64(len(s.Frontends)))
	m.endpoints.Add(float64(more))
}

// Problems notes what is not done at present.
func (m *Metrics) Problems(all []proxier.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems.Reset()
	for _, p := range all {
		m.problems.WithLabelValues(p.Reason).Inc()
	}
}

// Applied notes the outcome of an Apply.
func (m *Metrics) Applied(a proxier.Applied) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Err != nil {
		m.failures.Inc()
		if m.backend == iptablesBackend {
			for _, f := range m.families {
				m.restoreFailures.WithLabelValues(f).Inc()
				if !a.Changes.Full {
					m.partialFailures.WithLabelValues(f).Inc()
				}
			}
		}
		return
	}
	kind := m.syncPartial
	if a.Changes.Full {
		kind = m.syncFull
	}
	for _, f := range m.families {
		m.syncAll.WithLabelValues(f).Observe(a.Took.Seconds())
		kind.WithLabelValues(f).Observe(a.Took.Seconds())
	}
	m.each(m.lastSync, float64(a.Start.Add(a.Took).UnixNano())/1e9)
	m.programming.applied(a.Now.Revision, a.Start.Add(a.Took))
	m.applied.Set(float64(a.Now.Revision))
	m.objects.WithLabelValues("added").Add(float64(a.Changes.Added))
	m.objects.WithLabelValues("updated").Add(float64(a.Changes.Updated))
	m.objects.WithLabelValues("removed").Add(float64(a.Changes.Removed))
	m.lines.Add(float64(a.Changes.Lines))
	services, endpoints := 0, 0
	if m.newest != nil && m.newest.Revision > a.Now.Revision {
		services, endpoints, _ = changes(a.Now, m.newest)
	}
	m.servicePending.Set(float64(services))
	m.endpointPending.Set(float64(endpoints))
	m.countNoLocal(a.Now)
}

// Rules notes how many rules there are after an Apply.
func (m *Metrics) Rules(all []proxier.RuleCount) {
	for _, c := range all {
		family := "IPv4"
		if c.IPv6 {
			family = "IPv6"
		}
		m.rulesKept.WithLabelValues(c.Table, family).Set(float64(c.Kept))
		m.rulesWritten.WithLabelValues(c.Table, family).Set(float64(c.Written))
	}
}

// Answered notes an answer of /healthz or /livez.
func (m *Metrics) Answered(path string, code int) {
	switch path {
	case "/healthz":
		m.healthz.WithLabelValues(strconv.Itoa(code)).Inc()
	case "/livez":
		m.livez.WithLabelValues(strconv.Itoa(code)).Inc()
	}
}

// Flows notes that stale flows of one family were removed.
func (m *Metrics) Flows(family string, deleted int, took time.Duration) {
	m.flowsTook.WithLabelValues(family).Observe(took.Seconds())
	m.flowsDeleted.WithLabelValues(family).Add(float64(deleted))
}

// each sets g to v for every family.
func (m *Metrics) each(g *prometheus.GaugeVec, v float64) {
	for _, f := range m.families {
		g.WithLabelValues(f).Set(v)
	}
}

// countNoLocal sets the number of Service ports of which some connections are dropped, because
// they may stay on this node only and no endpoint is here.
func (m *Metrics) countNoLocal(s *proxier.Snapshot) {
	type port struct {
		owner          proxier.ServicePortName
		policy, family string
	}
	seen := map[port]bool{}
	count := map[[2]string]int{}
	for _, f := range s.Frontends {
		pool := f.From[proxier.FromOutside].Pool
		if pool.Scope != proxier.ThisNode || len(pool.Endpoints) > 0 || pool.Empty != proxier.Drop {
			continue
		}
		p := port{f.Owner, "external", "IPv4"}
		if f.Kind == proxier.ClusterIP {
			p.policy = "internal"
		}
		if f.Addr.Is6() {
			p.family = "IPv6"
		}
		if !seen[p] {
			seen[p] = true
			count[[2]string{p.policy, p.family}]++
		}
	}
	for _, family := range m.families {
		for _, policy := range []string{"internal", "external"} {
			m.noLocal.WithLabelValues(policy, family).Set(float64(count[[2]string{policy, family}]))
		}
	}
}
