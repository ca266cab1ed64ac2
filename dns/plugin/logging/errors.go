package logging

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// Errors logs what went wrong in the plugins behind it. Errors of a kind can be summed up in one
// line for each period.
type Errors struct {
	sink  *Sink
	kinds []*kind
}

// NewErrors returns the plugin.
func NewErrors(d *corefile.Errors, sink *Sink) *Errors {
	e := &Errors{sink: sink}
	for _, c := range d.Consolidate {
		e.kinds = append(e.kinds, &kind{Consolidate: c, level: strings.ToUpper(c.Level), sink: sink})
	}
	return e
}

// Name returns "errors".
func (*Errors) Name() string { return "errors" }

// Close writes the sums that are still open.
func (e *Errors) Close() error {
	for _, k := range e.kinds {
		k.end()
	}
	return nil
}

// Wrap returns the plugin in front of next.
func (e *Errors) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		reply := next.Serve(ctx, r)
		if reply.Err != nil {
			e.log(r, reply)
		}
		return reply
	})
}

func (e *Errors) log(r *plugin.Request, reply plugin.Reply) {
	text := reply.Err.Error()
	level := Error
	for _, k := range e.kinds {
		if !k.Pattern.MatchString(text) {
			continue
		}
		if !k.count() {
			return
		}
		level = k.level
		break
	}
	e.sink.Line(level, fmt.Sprintf("plugin/errors: %d %s %s: %s", reply.Code(), r.Name(), dnswire.Type(r.Type()), text))
}

// A kind is the errors that one pattern matches, and how many there were in this period.
type kind struct {
	corefile.Consolidate
	level string
	sink  *Sink

	mu     sync.Mutex
	n      int
	timer  *time.Timer
	closed bool
}

// count adds an error and reports whether it shall be logged by itself.
func (k *kind) count() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return true
	}
	k.n++
	if k.n > 1 {
		return false
	}
	k.timer = time.AfterFunc(k.Period, k.sum)
	return k.ShowFirst
}

// sum writes the line of a period that is over.
func (k *kind) sum() {
	k.mu.Lock()
	n := k.n
	k.n = 0
	k.mu.Unlock()
	if n > 1 || n == 1 && !k.ShowFirst {
		k.sink.Line(k.level, fmt.Sprintf("plugin/errors: %d errors like '%s' occurred in last %s", n, k.Pattern, k.Period))
	}
}

// end closes the current period. Errors after it are logged one by one.
func (k *kind) end() {
	k.mu.Lock()
	k.closed = true
	if k.timer != nil {
		k.timer.Stop()
	}
	k.mu.Unlock()
	k.sum()
}
