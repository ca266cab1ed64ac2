package server

import (
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// A fastPath is the short form of a chain: what can answer a query at once, a zone or a cache, if
// nothing further out in the chain has to do with the query.
type fastPath []stage

// A stage is something that may have a packed answer.
type stage struct {
	wire.Fast
	by    metrics.Plugin
	outer []plugin.Passer // plugins further out that let some queries pass, and not others
}

func (s *stage) passes(q *wire.Query) bool {
	for _, p := range s.outer {
		if !p.Passes(q) {
			return false
		}
	}
	return true
}

// fastPlugins are the plugins that may be further out whatever the query is: they do nothing to good
// answers, or what they do has been packed into the answers.
var fastPlugins = map[string]bool{
	"errors": true, "loop": true, "loadbalance": true, "cancel": true, "bufsize": true, "cache": true, "kubernetes": true,
}

// A worker is the fast path of one worker of a listener. It answers one query at a time.
type worker struct {
	l     *listener
	proto metrics.Proto
	n     int
	tally metrics.Tally // since the last Done
}

// Answer replies to a query if a packed answer is at hand.
func (w *worker) Answer(q *wire.Query, limit int, out []byte) (int, bool) {
	if q.Class != dnswire.ClassINET {
		return 0, false
	}
	s := w.l.router.Load().only(q)
	if s == nil {
		return 0, false
	}
	q.UDPSize = min(q.UDPSize, s.bufsize)
	if w.proto == metrics.UDP {
		limit = min(len(out), q.Limit(s.maxUDP))
	}
	for i := range s.fast {
		if !s.fast[i].passes(q) {
			continue
		}
		n, ok := s.fast[i].Answer(q, limit, out)
		if !ok {
			continue
		}
		if len(s.fast[i].outer) > 0 && wire.Rcode(out) != wire.Success && wire.Rcode(out) != wire.NXDomain {
			return 0, false // an error may be more than they let pass: the log of errors
		}
		w.tally.Count(s.workers[w.proto][w.n],
			&metrics.Query{V6: q.V6, Type: q.Type, DO: q.DO, In: len(q.Msg), Out: n, Rcode: wire.Rcode(out), By: s.fast[i].by})
		return n, true
	}
	return 0, false
}

// Done notes how long the queries since the last call took.
func (w *worker) Done(took time.Duration) { w.tally.Flush(took) }
