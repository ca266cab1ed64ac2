package basic

import (
	"context"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// Any answers questions of type ANY with a single HINFO record (RFC 8482).
type Any struct{}

// Name returns "any".
func (Any) Name() string { return "any" }

// Passes implements plugin.Passer.
func (Any) Passes(q *wire.Query) bool { return q.Type != wire.TypeANY }

// Wrap returns the plugin in front of next.
func (Any) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if r.Type() != dnswire.TypeANY {
			return next.Serve(ctx, r)
		}
		m := r.Answer()
		m.Authoritative = false
		m.Answer = []dnswire.RR{&dnswire.HINFO{
			Hdr: dnswire.RR_Header{Name: r.Spelled(), Rrtype: dnswire.TypeHINFO, Class: dnswire.ClassINET, Ttl: 8482},
			Cpu: "ANY obsoleted",
			Os:  "See RFC 8482",
		}}
		return plugin.Answered("any", m)
	})
}
