package main

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientmetrics "k8s.io/client-go/tools/metrics"
)

// A requestMetrics counts requests to API servers. Those that are nil are not counted.
type requestMetrics struct {
	took, limited  *prometheus.HistogramVec // verb, host
	sent, received *prometheus.HistogramVec // verb, host
	results        *prometheus.CounterVec   // code, method, host
	retries        *prometheus.CounterVec   // code, verb, host
}

// Help of kube-proxy and CoreDNS, who have it from one library.
const (
	helpTook    = "Request latency in seconds. Broken down by verb and host."
	helpLimited = "Client side rate limiter latency in seconds. Broken down by verb and host."
	helpResults = "Number of HTTP requests, partitioned by status code, method, and host."
)

func restHistogram(prefix, name, help string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "rest_client_" + name, Help: help, Buckets: buckets}, []string{"verb", "host"})
}

func restCounter(prefix, name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "rest_client_" + name, Help: help}, labels)
}

// newDNSRequests has CoreDNS's names and buckets.
func newDNSRequests() *requestMetrics {
	const prefix = "coredns_kubernetes_"
	return &requestMetrics{
		took:    restHistogram(prefix, "request_duration_seconds", helpTook, prometheus.DefBuckets),
		limited: restHistogram(prefix, "rate_limiter_duration_seconds", helpLimited, prometheus.DefBuckets),
		results: restCounter(prefix, "requests_total", helpResults, "code", "method", "host"),
	}
}

// newProxyRequests has the names and buckets of kube-proxy, which are those of all of Kubernetes.
func newProxyRequests() *requestMetrics {
	seconds := []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60}
	bytes := []float64{64, 256, 512, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}
	return &requestMetrics{
		took:     restHistogram("", "request_duration_seconds", helpTook, seconds),
		limited:  restHistogram("", "rate_limiter_duration_seconds", helpLimited, seconds),
		sent:     restHistogram("", "request_size_bytes", "Request size in bytes. Broken down by verb and host.", bytes),
		received: restHistogram("", "response_size_bytes", "Response size in bytes. Broken down by verb and host.", bytes),
		results:  restCounter("", "requests_total", helpResults, "code", "method", "host"),
		retries:  restCounter("", "request_retries_total", "Number of request retries, partitioned by status code, verb, and host.", "code", "verb", "host"),
	}
}

// The client library knows one set of metrics for the process: the first that is asked for.
var (
	dnsRequests   = sync.OnceValue(func() []prometheus.Collector { return newDNSRequests().register() })
	proxyRequests = sync.OnceValue(func() []prometheus.Collector { return newProxyRequests().register() })
)

// register has the client library count with m, and returns what is counted.
func (m *requestMetrics) register() []prometheus.Collector {
	o := clientmetrics.RegisterOpts{RequestLatency: latency{m.took}, RateLimiterLatency: latency{m.limited}, RequestResult: m}
	all := []prometheus.Collector{m.took, m.limited, m.results}
	if m.sent != nil {
		o.RequestSize, o.ResponseSize, o.RequestRetry = size{m.sent}, size{m.received}, m
		all = append(all, m.sent, m.received, m.retries)
	}
	clientmetrics.Register(o)
	return all
}

// Increment counts a request.
func (m *requestMetrics) Increment(_ context.Context, code, method, host string) {
	m.results.WithLabelValues(code, method, host).Inc()
}

// IncrementRetry counts a request that is made again.
func (m *requestMetrics) IncrementRetry(_ context.Context, code, verb, host string) {
	m.retries.WithLabelValues(code, verb, host).Inc()
}

// latency is a histogram of times as the client library wants it.
type latency struct{ h *prometheus.HistogramVec }

// Observe counts the time of a request.
func (l latency) Observe(_ context.Context, verb string, u url.URL, took time.Duration) {
	l.h.WithLabelValues(verb, u.Host).Observe(took.Seconds())
}

// size is a histogram of sizes as the client library wants it.
type size struct{ h *prometheus.HistogramVec }

// Observe counts the bytes of a request or response.
func (s size) Observe(_ context.Context, verb, host string, bytes float64) {
	s.h.WithLabelValues(verb, host).Observe(bytes)
}
