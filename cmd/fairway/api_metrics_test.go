package main

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestRequestMetrics: requests to API servers are counted under the names, and with the labels, that
// kube-proxy and CoreDNS have. What the client library does with what it is given to count is seen in
// TestDNS, and in bench/apilane.
func TestRequestMetrics(t *testing.T) {
	ctx, server := t.Context(), url.URL{Scheme: "https", Host: "api:6443", Path: "/api/v1/services"}
	for name, tc := range map[string]struct {
		m    *requestMetrics
		want []string
	}{
		"proxy": {newProxyRequests(), []string{
			"rest_client_rate_limiter_duration_seconds host verb",
			"rest_client_request_duration_seconds host verb",
			"rest_client_request_retries_total code host verb",
			"rest_client_request_size_bytes host verb",
			"rest_client_requests_total code host method",
			"rest_client_response_size_bytes host verb",
		}},
		"dns": {newDNSRequests(), []string{
			"coredns_kubernetes_rest_client_rate_limiter_duration_seconds host verb",
			"coredns_kubernetes_rest_client_request_duration_seconds host verb",
			"coredns_kubernetes_rest_client_requests_total code host method",
		}},
	} {
		m := tc.m
		latency{m.took}.Observe(ctx, "GET", server, time.Second)
		latency{m.limited}.Observe(ctx, "GET", server, time.Second)
		m.Increment(ctx, "200", "GET", server.Host)
		r := prometheus.NewRegistry()
		r.MustRegister(m.took, m.limited, m.results)
		if m.sent != nil {
			size{m.sent}.Observe(ctx, "POST", server.Host, 100)
			size{m.received}.Observe(ctx, "POST", server.Host, 100)
			m.IncrementRetry(ctx, "429", "GET", server.Host)
			r.MustRegister(m.sent, m.received, m.retries)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range families {
			line := f.GetName()
			for _, l := range f.GetMetric()[0].GetLabel() {
				line += " " + l.GetName()
				if l.GetName() == "host" && l.GetValue() != server.Host {
					t.Errorf("%s: host %s", name, l.GetValue())
				}
			}
			got = append(got, line)
		}
		slices.Sort(got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
