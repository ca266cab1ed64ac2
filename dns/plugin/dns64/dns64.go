package dns64

import (
	"context"
	"net/netip"
	"slices"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// noSOA is the highest TTL in seconds of a made record if the AAAA reply has no SOA (5.1.7).
const noSOA = 600

// Metrics returns the counter of all instances of the plugin in a process.
func Metrics() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "dns64", Name: "requests_translated_total",
		Help: "Counter of DNS requests translated by dns64."}, []string{"server"})
}

// DNS64 is the plugin.
type DNS64 struct {
	prefix       netip.Prefix
	translateAll bool
	allowIPv4    bool
	resolver     plugin.Resolver
	translated   *prometheus.CounterVec
}

// New returns the plugin. The counter is that of [Metrics].
func New(d *corefile.DNS64, resolver plugin.Resolver, translated *prometheus.CounterVec) *DNS64 {
	return &DNS64{d.Prefix, d.TranslateAll, d.AllowIPv4, resolver, translated}
}

// Name returns "dns64".
func (*DNS64) Name() string { return "dns64" }

// Passes implements plugin.Passer.
func (d *DNS64) Passes(q *wire.Query) bool {
	return q.Type != wire.TypeAAAA || !q.V6 && !d.allowIPv4
}

// Wrap returns the plugin in front of next.
func (d *DNS64) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		first := next.Serve(ctx, r)
		if first.Drop || !d.concerns(r) || first.Code() == dnswire.RcodeNameError {
			return first
		}
		real := hasAddress(first)
		if real && !d.translateAll {
			return withoutMapped(first, r)
		}
		second := d.resolver.Lookup(ctx, r, r.Spelled(), dnswire.TypeA)
		if second.Msg == nil || second.Msg.Rcode != dnswire.RcodeSuccess || !slices.ContainsFunc(second.Msg.Answer, isA) {
			return first
		}
		d.translated.WithLabelValues(r.Server).Inc()
		return plugin.Answered("dns64", d.synthesize(r, first.Msg, second.Msg))
	})
}

// concerns reports whether a question is one that the plugin acts on.
func (d *DNS64) concerns(r *plugin.Request) bool {
	if r.Type() != dnswire.TypeAAAA || r.Class() != dnswire.ClassINET {
		return false
	}
	if opt := r.Msg.IsEdns0(); opt != nil && opt.Do() && r.Msg.CheckingDisabled {
		return false // the client validates, and a made record would not pass
	}
	return d.allowIPv4 || r.Client.Addr().Unmap().Is6()
}

func isA(rr dnswire.RR) bool { return rr.Header().Rrtype == dnswire.TypeA }

// isMapped reports whether a record is the IPv4-mapped address that 5.1.4 excludes.
func isMapped(rr dnswire.RR) bool {
	aaaa, ok := rr.(*dnswire.AAAA)
	return ok && aaaa.AAAA.To4() != nil
}

// hasAddress reports whether a reply has an IPv6 address that counts.
func hasAddress(p plugin.Reply) bool {
	return p.Msg != nil && slices.ContainsFunc(p.Msg.Answer, func(rr dnswire.RR) bool {
		return rr.Header().Rrtype == dnswire.TypeAAAA && !isMapped(rr)
	})
}

func withoutMapped(p plugin.Reply, r *plugin.Request) plugin.Reply {
	if slices.ContainsFunc(p.Msg.Answer, isMapped) {
		p = p.Shallow(r)
		p.Msg.Answer = slices.DeleteFunc(p.Msg.Answer, isMapped)
	}
	return p
}

// synthesize makes the reply of the A records in second. first is the reply to the AAAA question,
// or nil.
func (d *DNS64) synthesize(r *plugin.Request, first, second *dnswire.Msg) *dnswire.Msg {
	m := r.Answer()
	m.Authoritative = second.Authoritative
	m.RecursionAvailable = second.RecursionAvailable
	m.Truncated = second.Truncated
	m.Ns, m.Extra = second.Ns, second.Extra
	limit := uint32(noSOA)
	if first != nil {
		for _, rr := range first.Ns {
			if rr.Header().Rrtype == dnswire.TypeSOA {
				limit = rr.Header().Ttl
			}
		}
	}
	for _, rr := range second.Answer {
		switch rr := rr.(type) {
		case *dnswire.A:
			h := rr.Hdr
			h.Rrtype, h.Rdlength, h.Ttl = dnswire.TypeAAAA, 0, min(h.Ttl, limit)
			if v4, ok := netip.AddrFromSlice(rr.A.To4()); ok {
				v6 := embed(d.prefix, v4)
				m.Answer = append(m.Answer, &dnswire.AAAA{Hdr: h, AAAA: v6.AsSlice()})
			}
		case *dnswire.RRSIG:
			if rr.TypeCovered != dnswire.TypeA {
				m.Answer = append(m.Answer, rr)
			}
		default:
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// embed puts an IPv4 address behind a prefix of 32, 40, 48, 56, 64 or 96 bits. Bits 64 to 71 stay
// zero (RFC 6052, 2.2).
func embed(prefix netip.Prefix, v4 netip.Addr) netip.Addr {
	b := prefix.Addr().As16()
	at := prefix.Bits() / 8
	for _, octet := range v4.As4() {
		if at == 8 {
			at++
		}
		b[at] = octet
		at++
	}
	return netip.AddrFrom16(b)
}
