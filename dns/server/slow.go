package server

import (
	"context"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/serve"
	"github.com/fairway-lb/fairway/dns/wire"
)

// enter returns the router in force and keeps its plugins open until leave.
func (l *listener) enter() *router {
	for {
		r := l.router.Load()
		r.running.Add(1)
		if l.router.Load() == r {
			return r
		}
		r.running.Add(-1) // replaced in between: its plugins may be closed
	}
}

func (r *router) leave() { r.running.Add(-1) }

// slow answers a query that the fast path did not: it decodes the message, asks the chain and
// sends what the chain says.
func (l *listener) slow(ctx context.Context, in *serve.Message, w serve.Writer) {
	start := time.Now()
	r := l.enter()
	defer r.leave()
	var q wire.Query
	q.Parse(in.Msg)
	query := new(dnswire.Msg)
	if err := query.Unpack(in.Msg); err != nil || len(query.Question) != 1 {
		var out [wire.MinUDP]byte
		_ = w.Write(out[:wire.Reject(&q, wire.BadForm, out[:])]) // a client that is gone needs no reply
		return
	}
	req := &plugin.Request{Msg: query, Client: in.Client, Local: in.Local, Proto: in.Proto.String(), Size: len(in.Msg), Server: r.label}
	s, reply := r.ask(ctx, &q, req)
	count := metrics.Query{V6: in.Client.Addr().Is6(), Type: q.Type, DO: q.DO, In: len(in.Msg),
		Rcode: reply.Code(), By: metrics.PluginOf(reply.Plugin)}
	if !reply.Drop {
		limit := maxMessage
		if in.Proto == serve.UDP {
			limit = q.Limit(s.udpLimit())
		}
		if o := query.IsEdns0(); o != nil && s != nil {
			o.SetUDPSize(min(o.UDPSize(), s.bufsize))
		}
		count.Out, count.Rcode = send(w, query, reply, limit)
	}
	stripe := r.stripe(s, metrics.Proto(in.Proto))
	stripe.Count(&count)
	stripe.Took(1, time.Since(start))
}

// send writes a reply, all messages of it, and returns their size and the code that was sent.
func send(w serve.Writer, query *dnswire.Msg, reply plugin.Reply, limit int) (size, rcode int) {
	out, err := finish(query, reply, limit)
	if err != nil {
		out = failure(query, dnswire.RcodeServerFailure)
		_ = w.Write(out) // a client that is gone needs no reply
		return len(out), dnswire.RcodeServerFailure
	}
	size, rcode = len(out), reply.Code()
	if w.Write(out) != nil || reply.More == nil {
		return size, rcode
	}
	for m := range reply.More {
		out, err := finish(query, plugin.Reply{Msg: m}, maxMessage)
		if err != nil || w.Write(out) != nil {
			break // a transfer that ends without its last SOA: the client sees that it is not whole
		}
		size += len(out)
	}
	return size, rcode
}

// ask is serve that survives a panic of a plugin.
func (r *router) ask(ctx context.Context, q *wire.Query, req *plugin.Request) (s *site, reply plugin.Reply) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked(p)
			s, reply = nil, plugin.Fail("", dnswire.RcodeServerFailure, nil)
		}
	}()
	return r.serve(context.WithValue(ctx, lookupKey{}, lookup{router: r}), q, req)
}

func (r *router) stripe(s *site, p metrics.Proto) *metrics.Stripe {
	if s == nil {
		return r.refused[p]
	}
	return s.slow[p]
}

func (s *site) udpLimit() int {
	if s == nil {
		return defaultUDP
	}
	return s.maxUDP
}
