package logging

import (
	"context"
	"slices"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// Log logs queries and what was answered.
type Log struct {
	sink  *Sink
	rules []rule
	quiet bool           // only errors are logged
	set   plugin.ZoneSet // of the names that are logged
}

type rule struct {
	zone    string
	classes []string // nil: all
	format  format
}

// NewLog returns the plugin.
func NewLog(d *corefile.Log, sink *Sink) *Log {
	l := &Log{sink: sink, quiet: true}
	var zones []string
	for _, r := range d.Rules {
		classes := r.Classes
		if slices.Contains(classes, "all") {
			classes = nil
		}
		l.rules = append(l.rules, rule{zone: r.Zone, classes: classes, format: parse(r.Format)})
		zones = append(zones, r.Zone)
		l.quiet = l.quiet && len(classes) == 1 && classes[0] == "error"
	}
	l.set = plugin.NewZoneSet(zones)
	return l
}

// Name returns "log".
func (*Log) Name() string { return "log" }

// Passes implements plugin.Passer. If only errors are logged, it takes for granted that the answer is
// none: the server sends errors of the short path down the long one.
func (l *Log) Passes(q *wire.Query) bool { return l.quiet || !l.set.Holds(q) }

// Wrap returns the plugin in front of next.
func (l *Log) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		at := slices.IndexFunc(l.rules, func(u rule) bool { return plugin.Under(u.zone, r.Name()) })
		if at < 0 {
			return next.Serve(ctx, r)
		}
		start := time.Now()
		reply := next.Serve(ctx, r)
		e := event{request: r, reply: reply, took: time.Since(start)}
		switch {
		case reply.Msg != nil:
			e.msg = reply.Msg
		case !reply.Drop:
			e.msg = new(dnswire.Msg).SetRcode(r.Msg, reply.Rcode)
		}
		e.kind = kindOf(e.msg)
		if u := l.rules[at]; u.classes == nil || slices.Contains(u.classes, class(e.kind)) {
			l.sink.Line(Info, string(u.format.append(nil, &e)))
		}
		return reply
	})
}

// kindOf classifies what was sent. A query without an answer is an error.
func kindOf(m *dnswire.Msg) plugin.Kind {
	if m == nil {
		return plugin.OtherError
	}
	return plugin.KindOf(m)
}

// class returns the class that the directive log has for a kind.
func class(k plugin.Kind) string {
	switch {
	case k.Denial():
		return "denial"
	case k.Error():
		return "error"
	}
	return "success"
}
