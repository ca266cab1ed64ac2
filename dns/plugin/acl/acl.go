package acl

import (
	"context"
	"net/netip"
	"slices"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// Metrics are those of all instances of the plugin in a process.
type Metrics struct {
	blocked, filtered, dropped, allowed *prometheus.CounterVec
}

// NewMetrics returns the metrics of a process.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "acl", Name: name, Help: help}, labels)
	}
	return &Metrics{
		blocked:  counter("blocked_requests_total", "Counter of DNS requests being blocked.", "server", "zone", "view"),
		filtered: counter("filtered_requests_total", "Counter of DNS requests being filtered.", "server", "zone", "view"),
		dropped:  counter("dropped_requests_total", "Counter of DNS requests being dropped.", "server", "zone", "view"),
		allowed:  counter("allowed_requests_total", "Counter of DNS requests being allowed.", "server", "view"),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []*prometheus.CounterVec{m.blocked, m.filtered, m.dropped, m.allowed} {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []*prometheus.CounterVec{m.blocked, m.filtered, m.dropped, m.allowed} {
		c.Collect(ch)
	}
}

// An action is what happens to a query, the harsher the greater.
type action int

const (
	allow action = iota
	filter
	block
	drop
)

var actions = map[string]action{"allow": allow, "filter": filter, "block": block, "drop": drop}

// ACL is the plugin.
type ACL struct {
	rules   []corefile.ACLRule
	metrics *Metrics
}

// New returns the plugin.
func New(d *corefile.ACL, m *Metrics) *ACL { return &ACL{rules: d.Rules, metrics: m} }

// Name returns "acl".
func (*ACL) Name() string { return "acl" }

// Wrap returns the plugin in front of next.
func (a *ACL) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		verdict, zone := a.judge(r)
		switch verdict {
		case drop:
			a.metrics.dropped.WithLabelValues(r.Server, zone, r.View).Inc()
			return plugin.Reply{Drop: true, Plugin: "acl"}
		case block:
			a.metrics.blocked.WithLabelValues(r.Server, zone, r.View).Inc()
			return deny(r, dnswire.RcodeRefused, dnswire.ExtendedErrorCodeBlocked)
		case filter:
			a.metrics.filtered.WithLabelValues(r.Server, zone, r.View).Inc()
			return deny(r, dnswire.RcodeSuccess, dnswire.ExtendedErrorCodeFiltered)
		}
		a.metrics.allowed.WithLabelValues(r.Server, r.View).Inc()
		return next.Serve(ctx, r)
	})
}

// deny answers without records, and says why (RFC 8914).
func deny(r *plugin.Request, rcode int, why uint16) plugin.Reply {
	reply := plugin.Fail("acl", rcode, nil).Own(r)
	plugin.Option(reply.Msg, &dnswire.EDNS0_EDE{InfoCode: why})
	return reply
}

// judge returns the harshest action for a request and those that it was made from, and the zone of
// the rule that says so.
func (a *ACL) judge(r *plugin.Request) (verdict action, zone string) {
	client := r.Client.Addr().WithZone("").Unmap()
	for ; r != nil; r = r.From {
		if v, z := a.one(r, client); v > verdict {
			verdict, zone = v, z
		}
	}
	return verdict, zone
}

func (a *ACL) one(r *plugin.Request, client netip.Addr) (action, string) {
	name, qtype := r.Name(), r.Type()
	for _, rule := range a.rules {
		zone := plugin.Longest(rule.Zones, name)
		if zone == "" {
			continue
		}
		for _, p := range rule.Policies {
			if matches(p, qtype, client) {
				// The first policy that matches ends it, in this rule and those after it.
				return actions[p.Action], zone
			}
		}
	}
	return allow, ""
}

func matches(p corefile.ACLPolicy, qtype uint16, client netip.Addr) bool {
	if p.Types != nil && !slices.Contains(p.Types, qtype) {
		return false
	}
	return p.Nets == nil || slices.ContainsFunc(p.Nets, func(n netip.Prefix) bool { return n.Contains(client) })
}
