package basic

import (
	"context"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// Bufsize lowers the UDP size that a query offers, for the plugins behind it and so for upstreams.
// It never raises it. What the server itself may send to the client is the server's to limit.
type Bufsize struct {
	size uint16
}

// NewBufsize returns the plugin.
func NewBufsize(d *corefile.Bufsize) Bufsize { return Bufsize{d.Size} }

// Name returns "bufsize".
func (Bufsize) Name() string { return "bufsize" }

// Wrap returns the plugin in front of next.
func (b Bufsize) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if opt := r.Msg.IsEdns0(); opt == nil || opt.UDPSize() <= b.size {
			return next.Serve(ctx, r)
		}
		lowered := r.Copy()
		lowered.From = r.From // the question is the same
		lowered.Msg.IsEdns0().SetUDPSize(b.size)
		return next.Serve(ctx, lowered)
	})
}
