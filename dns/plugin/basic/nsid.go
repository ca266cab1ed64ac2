package basic

import (
	"context"
	"encoding/hex"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// NSID names this server in replies to queries that ask for it (RFC 5001).
type NSID struct {
	id string // in hexadecimal digits
}

// NewNSID returns the plugin.
func NewNSID(d *corefile.NSID) NSID { return NSID{hex.EncodeToString([]byte(d.Data))} }

// Name returns "nsid".
func (NSID) Name() string { return "nsid" }

// Wrap returns the plugin in front of next.
func (n NSID) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		reply := next.Serve(ctx, r)
		if reply.Drop || !asks(r, dnswire.EDNS0NSID) {
			return reply
		}
		reply = reply.Shallow(r)
		plugin.Option(reply.Msg, &dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID, Nsid: n.id})
		return reply
	})
}

// asks reports whether the query has an EDNS option of that code.
func asks(r *plugin.Request, code uint16) bool {
	opt := r.Msg.IsEdns0()
	if opt == nil {
		return false
	}
	for _, o := range opt.Option {
		if o.Option() == code {
			return true
		}
	}
	return false
}
