package basic

import (
	"context"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// Cancel gives every query a deadline. A failure that comes after it is not sent: the client has
// long asked again.
type Cancel struct {
	timeout time.Duration
}

// NewCancel returns the plugin.
func NewCancel(d *corefile.Cancel) Cancel { return Cancel{d.Timeout} }

// Name returns "cancel".
func (Cancel) Name() string { return "cancel" }

// Wrap returns the plugin in front of next.
func (c Cancel) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		ctx, stop := context.WithTimeout(ctx, c.timeout)
		defer stop()
		reply := next.Serve(ctx, r)
		if ctx.Err() != nil && reply.Err != nil {
			reply.Drop = true
		}
		return reply
	})
}
