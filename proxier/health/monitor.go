package health

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// A Monitor knows whether this node keeps up with the cluster: whether every snapshot that
// was published was applied in time. It is safe for concurrent use.
type Monitor struct {
	timeout  time.Duration
	families []string

	mu      sync.Mutex
	newest  *proxier.Snapshot // what was published last
	applied *proxier.Snapshot // what was applied last
	since   time.Time         // when newest was published
	waiting time.Time         // since when something waits to be applied; zero if nothing does
	updated time.Time         // when applied was applied; zero before the first
}

// NewMonitor returns a Monitor that calls the node unhealthy once a snapshot has waited for
// timeout. Families are the names of the address families, "IPv4" and "IPv6", that the
// answers list.
func NewMonitor(timeout time.Duration, families ...string) *Monitor {
	return &Monitor{timeout: timeout, families: families}
}

// Published notes that s is the newest snapshot.
func (m *Monitor) Published(s *proxier.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest, m.since = s, time.Now()
	if s != m.applied && m.waiting.IsZero() {
		m.waiting = m.since
	}
}

// Applied notes the outcome of an Apply.
func (m *Monitor) Applied(a proxier.Applied) {
	if a.Err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.updated, m.waiting = a.Now, time.Now(), time.Time{}
	// The snapshot may be applied before Published is told of it, or after a newer one came.
	if m.newest != nil && m.newest.Revision > a.Now.Revision {
		m.waiting = m.since
	}
}

// Healthy reports whether the node keeps up. It is healthy until the first snapshot has been
// applied: an earlier process may have left a data plane that works.
func (m *Monitor) Healthy() bool { return m.status().Healthy }

// Status is the body of /healthz and /livez, as kube-proxy words it.
type Status struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"` // only in /healthz
	Healthy      bool                    `json:"healthy"`
	Families     map[string]FamilyStatus `json:"status,omitempty"`
}

// FamilyStatus is the state of one address family. Fairway applies both together, so that all
// are equal.
type FamilyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

func (m *Monitor) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	s := Status{LastUpdated: m.updated, CurrentTime: now, Healthy: true}
	if m.updated.IsZero() {
		return s
	}
	s.Healthy = m.waiting.IsZero() || now.Sub(m.waiting) < m.timeout
	s.Families = map[string]FamilyStatus{}
	for _, f := range m.families {
		s.Families[f] = FamilyStatus{LastUpdated: m.updated, Healthy: s.Healthy}
	}
	return s
}

// eligible reports whether load balancers may use this node, by the newest snapshot.
func (m *Monitor) eligible() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest == nil || m.newest.Node.Eligible
}

// Handler serves /healthz and /livez. Answered, if not nil, is told the path and status code
// of every answer.
func (m *Monitor) Handler(answered func(path string, code int)) http.Handler {
	if answered == nil {
		answered = func(string, int) {}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, r *http.Request) {
		s := m.status()
		answered("/livez", write(w, s.Healthy, s))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		s, eligible := m.status(), m.eligible()
		s.NodeEligible = &eligible
		answered("/healthz", write(w, s.Healthy && eligible, s))
	})
	return mux
}

// write answers s with 200 or 503 and returns the code.
func write(w http.ResponseWriter, ok bool, s Status) int {
	code := http.StatusServiceUnavailable
	if ok {
		code = http.StatusOK
		// Who watches this field for freshness expects "now" from a healthy node, although
		// nothing may have changed for hours.
		s.LastUpdated = s.CurrentTime
	}
	writeJSON(w, code, s)
	return code
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	out, err := json.Marshal(body)
	if err != nil { // only of types that JSON cannot hold
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(out) // the client went away: nobody to tell
}
