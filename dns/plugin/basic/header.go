package basic

import (
	"context"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// Header sets and clears flags of queries and of responses. The flags of one list are applied in
// their order, so the last one about a bit wins.
type Header struct {
	query, response []corefile.HeaderRule
}

// NewHeader returns the plugin.
func NewHeader(d *corefile.Header) Header { return Header{d.Query, d.Response} }

// Name returns "header".
func (Header) Name() string { return "header" }

// Wrap returns the plugin in front of next.
func (h Header) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		asked := r
		if len(h.query) > 0 {
			asked = r.Copy()
			asked.From = r.From // the question is the same
			flag(asked.Msg, h.query)
		}
		reply := next.Serve(ctx, asked)
		if len(h.response) > 0 && !reply.Drop {
			reply = reply.Shallow(r)
			flag(reply.Msg, h.response)
		}
		return reply
	})
}

func flag(m *dnswire.Msg, flags []corefile.HeaderRule) {
	for _, f := range flags {
		switch f.Flag {
		case "aa":
			m.Authoritative = f.Set
		case "ra":
			m.RecursionAvailable = f.Set
		case "rd":
			m.RecursionDesired = f.Set
		}
	}
}
