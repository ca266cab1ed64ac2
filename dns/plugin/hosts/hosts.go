package hosts

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/poll"
	"github.com/fairway-lb/fairway/dns/wire"
)

// Metrics are those of all instances of the plugin in a process.
type Metrics struct {
	entries  *prometheus.GaugeVec
	reloaded prometheus.Gauge
}

// NewMetrics returns the metrics of a process.
func NewMetrics() *Metrics {
	return &Metrics{
		entries: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "coredns", Subsystem: "hosts", Name: "entries",
			Help: "The combined number of entries in hosts and Corefile."}, []string{"hostsfile"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "coredns", Subsystem: "hosts", Name: "reload_timestamp_seconds",
			Help: "The timestamp of the last reload of hosts file."}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.entries.Describe(ch)
	m.reloaded.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.entries.Collect(ch)
	m.reloaded.Collect(ch)
}

// Hosts is the plugin.
type Hosts struct {
	zones       []string
	ttl         uint32
	reverse     bool
	fall        plugin.Fall
	unsupported bool // other types fall through as well

	zoneSet, fallSet plugin.ZoneSet // for Passes

	path    string
	poll    poll.File
	metrics *Metrics
	inline  *table
	file    atomic.Pointer[table]
}

// New returns the plugin and reads its file. A file that is not there may come later.
func New(d *corefile.Hosts, m *Metrics, log *slog.Logger) (*Hosts, error) {
	h := &Hosts{
		zones: d.Zones, ttl: d.TTL, reverse: !d.NoReverse, fall: plugin.NewFall(d.Fallthrough),
		unsupported: d.FallthroughUnsupported, path: d.Path, metrics: m,
		zoneSet: plugin.NewZoneSet(d.Zones), fallSet: plugin.NewZoneSet(d.Fallthrough),
	}
	h.inline = read([]byte(strings.Join(d.Inline, "\n")), h.zones, h.reverse)
	h.file.Store(read(nil, nil, false))
	h.poll = poll.File{Path: d.Path, Every: d.Reload, Load: h.load, Failed: func(err error) {
		log.Warn("hosts file", "err", err)
	}}
	err := h.poll.Read()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return h, err
}

func (h *Hosts) load(data []byte, changed time.Time) error {
	t := read(data, h.zones, h.reverse)
	h.file.Store(t)
	h.metrics.entries.WithLabelValues(h.path).Set(float64(h.inline.size() + t.size()))
	h.metrics.reloaded.Set(float64(changed.UnixNano()) / 1e9)
	return nil
}

// Name returns "hosts".
func (*Hosts) Name() string { return "hosts" }

// Start begins to look for changes of the file.
func (h *Hosts) Start(ctx context.Context) error {
	h.poll.Start(ctx)
	return nil
}

// Close ends what Start began.
func (h *Hosts) Close() error {
	h.poll.Close()
	return nil
}

// Passes implements plugin.Passer.
func (h *Hosts) Passes(q *wire.Query) bool {
	if h.file.Load().knows(q) || h.inline.knows(q) {
		return false
	}
	return q.Type == wire.TypePTR || !h.zoneSet.Holds(q) || h.fallSet.Holds(q)
}

// Wrap returns the plugin in front of next.
func (h *Hosts) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if answer, ok := h.answer(r); ok {
			return answer
		}
		return next.Serve(ctx, r)
	})
}

// answer returns what the plugin says, and false if the next one is to be asked.
func (h *Hosts) answer(r *plugin.Request) (plugin.Reply, bool) {
	name, file := r.Name(), h.file.Load()
	if r.Type() == dnswire.TypePTR {
		return h.pointers(r, name, file)
	}
	if plugin.Longest(h.zones, name) == "" {
		return plugin.Reply{}, false
	}
	v4 := union(file.of(name, true), h.inline.of(name, true))
	v6 := union(file.of(name, false), h.inline.of(name, false))
	through := h.fall.Through(name)
	if len(v4)+len(v6) == 0 {
		if through {
			return plugin.Reply{}, false
		}
		return plugin.Fail("hosts", dnswire.RcodeServerFailure, nil), true
	}
	m := r.Answer()
	switch r.Type() {
	case dnswire.TypeA:
		m.Answer = h.records(r, v4)
	case dnswire.TypeAAAA:
		m.Answer = h.records(r, v6)
	default:
		if through && h.unsupported {
			return plugin.Reply{}, false
		}
	}
	return plugin.Answered("hosts", m), true
}

// union returns what is in either list, once.
func union[T comparable](a, b []T) []T {
	out := slices.Clip(a) // an append makes a copy
	for _, item := range b {
		out = once(out, item)
	}
	return out
}

func (h *Hosts) records(r *plugin.Request, addrs []netip.Addr) (out []dnswire.RR) {
	head := dnswire.RR_Header{Name: r.Spelled(), Rrtype: r.Type(), Class: dnswire.ClassINET, Ttl: h.ttl}
	for _, a := range addrs {
		if a.Is4() {
			out = append(out, &dnswire.A{Hdr: head, A: a.AsSlice()})
		} else {
			out = append(out, &dnswire.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return out
}

// pointers answers for reverse names of addresses that are listed. Which zones the plugin has does
// not matter to them, and what is not listed always goes to the next plugin.
func (h *Hosts) pointers(r *plugin.Request, name string, file *table) (plugin.Reply, bool) {
	addr, ok := plugin.ReverseAddr(name)
	if !ok {
		return plugin.Reply{}, false
	}
	names := union(file.addrs[addr], h.inline.addrs[addr])
	if len(names) == 0 {
		return plugin.Reply{}, false
	}
	m := r.Answer()
	head := dnswire.RR_Header{Name: r.Spelled(), Rrtype: dnswire.TypePTR, Class: dnswire.ClassINET, Ttl: h.ttl}
	for _, n := range names {
		m.Answer = append(m.Answer, &dnswire.PTR{Hdr: head, Ptr: n})
	}
	return plugin.Answered("hosts", m), true
}
