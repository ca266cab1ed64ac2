package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// readiness is the state behind /ready.
type readiness struct {
	parts        []readyPart
	continuously bool
	was          atomic.Bool // ready once, which is enough unless continuously
}

// A readyPart is a plugin that readiness waits for.
type readyPart struct {
	name string
	plugin.Readier
}

// waiting returns the names of the plugins that are not ready, without duplicates.
func (r *readiness) waiting() []string {
	if r.was.Load() {
		return nil
	}
	var names []string
	for _, p := range r.parts {
		if !p.Ready() && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	if len(names) == 0 && !r.continuously {
		r.was.Store(true)
	}
	return names
}

// readyHandler answers /ready as CoreDNS does: 200 "OK", or 503 and which plugins are not ready.
// With ?verbose it adds how old the answers are and whether the last reload failed.
func (s *Server) readyHandler(r *readiness) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		code, body := http.StatusOK, "OK"
		if s.ending.Load() {
			code, body = http.StatusServiceUnavailable, "Shutting down"
		} else if names := r.waiting(); len(names) > 0 {
			code, body = http.StatusServiceUnavailable, strings.Join(names, ",")
		}
		if req.URL.Query().Has("verbose") {
			body += "\n" + s.detail()
		}
		text(w, code, body)
	}
}

// detail says in lines of text what the server knows of itself.
func (s *Server) detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "source: unreachable for %s (0s: in contact)\n", s.Staleness().Round(time.Millisecond))
	fmt.Fprintf(&b, "configuration: %s\n", s.configHash())
	if err := s.reloadError(); err != nil {
		fmt.Fprintf(&b, "last reload: %v\n", err)
	}
	return b.String()
}

// healthMetrics are of the look at its own /health that a server takes every second: a process
// that is starved of CPU shows there first.
type healthMetrics struct {
	took   prometheus.Histogram
	failed prometheus.Counter
}

func newHealthMetrics() *healthMetrics {
	return &healthMetrics{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "coredns", Subsystem: "health", Name: "request_duration_seconds",
			Buckets: prometheus.ExponentialBuckets(0.00025, 10, 5), Help: "Histogram of the time (in seconds) each request took."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "health", Name: "request_failures_total",
			Help: "The number of times the health check failed."}),
	}
}

const (
	probeInterval = time.Second
	probeTimeout  = 3 * time.Second
)

// probe asks for /health at addr until ctx is done.
func (m *healthMetrics) probe(ctx context.Context, addr string) {
	transport := &http.Transport{MaxIdleConns: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: probeTimeout}
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		start := time.Now()
		if err := get(ctx, client, "http://"+addr+"/health"); err != nil {
			if ctx.Err() == nil {
				m.failed.Inc()
			}
			continue
		}
		m.took.Observe(time.Since(start).Seconds())
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1024))
	return err
}

// local returns where this machine reaches a listener.
func local(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return addr.String()
}
