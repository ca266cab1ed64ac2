package basic

import (
	"context"
	"net/netip"
	"strings"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// localTTL is the TTL of what never changes, in seconds: a week.
const localTTL = 604800

var localZones = []string{"localhost.", "0.in-addr.arpa.", "127.in-addr.arpa.", "255.in-addr.arpa."}

var localSet = plugin.NewZoneSet(localZones)

// Local answers for names that mean the asking host itself, so that they do not leave the cluster:
// localhost and what is below it (RFC 6761), localhost.<anything> unless switched off, and the
// reverse zones of 0/8, 127/8 and 255/8.
type Local struct {
	prefix   bool
	requests prometheus.Counter
}

// LocalRequests returns the counter of what [Local] answers but for localhost itself.
func LocalRequests() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "coredns", Subsystem: "local", Name: "localhost_requests_total",
		Help: "Counter of localhost.<domain> and <name>.localhost requests.",
	})
}

// NewLocal returns the plugin. The counter is shared by all instances, see [LocalRequests].
func NewLocal(d *corefile.Local, requests prometheus.Counter) *Local {
	return &Local{prefix: !d.NoLocalhostPrefix, requests: requests}
}

// Name returns "local".
func (*Local) Name() string { return "local" }

// Passes implements plugin.Passer.
func (l *Local) Passes(q *wire.Query) bool {
	return !localSet.Holds(q) && !(l.prefix && q.Labels() > 1 && string(q.Label(0)) == "localhost")
}

// Wrap returns the plugin in front of next.
func (l *Local) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		name := r.Name()
		below := strings.HasSuffix(name, ".localhost.")
		before := l.prefix && strings.HasPrefix(name, "localhost.") && name != "localhost."
		if below || before {
			l.requests.Inc()
			return reply(r, loopback(r), r.Spelled())
		}
		zone := plugin.Longest(localZones, name)
		if zone == "" {
			return next.Serve(ctx, r)
		}
		spelled := r.Spelled()[len(r.Spelled())-len(zone):]
		if name != zone && name != "1.0.0.127.in-addr.arpa." {
			m := r.Answer()
			m.Rcode = dnswire.RcodeNameError
			m.Ns = []dnswire.RR{soa(spelled)}
			m.Authoritative = false
			return plugin.Answered("local", m)
		}
		return reply(r, apex(r, name, zone), spelled)
	})
}

// reply returns an answer, or NODATA of a zone.
func reply(r *plugin.Request, answer dnswire.RR, zone string) plugin.Reply {
	m := r.Answer()
	m.Authoritative = false
	if answer == nil {
		m.Ns = []dnswire.RR{soa(zone)}
	} else {
		m.Answer = []dnswire.RR{answer}
	}
	return plugin.Answered("local", m)
}

// apex returns what is at a name that exists, or nil.
func apex(r *plugin.Request, name, zone string) dnswire.RR {
	h := dnswire.RR_Header{Name: r.Spelled(), Rrtype: r.Type(), Class: dnswire.ClassINET, Ttl: localTTL}
	switch {
	case name != zone && r.Type() == dnswire.TypePTR:
		return &dnswire.PTR{Hdr: h, Ptr: "localhost."}
	case name != zone:
		return nil
	case r.Type() == dnswire.TypeSOA:
		return soa(r.Spelled())
	case r.Type() == dnswire.TypeNS:
		return &dnswire.NS{Hdr: h, Ns: "localhost."}
	case name == "localhost.":
		return loopback(r)
	}
	return nil
}

// loopback returns the loopback address of the family that is asked for, or nil.
func loopback(r *plugin.Request) dnswire.RR {
	switch r.Type() {
	case dnswire.TypeA:
		return address(r.Spelled(), dnswire.ClassINET, localTTL, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case dnswire.TypeAAAA:
		return address(r.Spelled(), dnswire.ClassINET, localTTL, netip.IPv6Loopback())
	}
	return nil
}

func soa(zone string) dnswire.RR {
	return &dnswire.SOA{
		Hdr: dnswire.RR_Header{Name: zone, Rrtype: dnswire.TypeSOA, Class: dnswire.ClassINET, Ttl: localTTL},
		Ns:  "localhost.", Mbox: "root.localhost.", Serial: 1, Minttl: localTTL,
	}
}

// address returns an A or AAAA record.
func address(name string, class uint16, ttl uint32, a netip.Addr) dnswire.RR {
	a = a.Unmap()
	h := dnswire.RR_Header{Name: name, Rrtype: dnswire.TypeA, Class: class, Ttl: ttl}
	if a.Is4() {
		return &dnswire.A{Hdr: h, A: a.AsSlice()}
	}
	h.Rrtype = dnswire.TypeAAAA
	return &dnswire.AAAA{Hdr: h, AAAA: a.WithZone("").AsSlice()}
}
