package basic

import (
	"context"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// Minimal leaves authority and additional records out of successful answers. Denials keep their
// SOA and delegations their name servers: without those they would say something else.
type Minimal struct{}

// Name returns "minimal".
func (Minimal) Name() string { return "minimal" }

// Wrap returns the plugin in front of next.
func (Minimal) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		reply := next.Serve(ctx, r)
		if reply.Msg == nil || reply.Err != nil || plugin.KindOf(reply.Msg) != plugin.Success || plugin.Denied(reply.Msg) {
			return reply
		}
		reply = reply.Shallow(r)
		reply.Msg.Ns = nil
		var options []dnswire.RR
		if opt := reply.Msg.IsEdns0(); opt != nil {
			options = []dnswire.RR{opt}
		}
		reply.Msg.Extra = options
		return reply
	})
}
