package serve

import (
	"sync/atomic"

	"github.com/fairway-lb/fairway/dns/wire"
)

// Stats say what a Listener did so far.
type Stats struct {
	Queries  [2][wire.NumVerdicts]uint64 // messages by Proto and verdict
	Slow     [2]uint64                   // of these, handed to the pool, by Proto
	Lost     uint64                      // queries over UDP that the kernel dropped: too many were waiting
	Strange  uint64                      // datagrams and connections of clients that may not ask
	Unsent   uint64                      // replies over UDP that the kernel did not take
	Panics   uint64                      // of wire.Fast
	Conns    int                         // TCP connections now
	Accepted uint64                      // TCP connections so far
	Refused  uint64                      // of these, closed at once: their client had too many
	Evicted  uint64                      // of these, closed to make room for new ones
	TimedOut uint64                      // of these, closed because of a deadline
	Abused   uint64                      // of these, closed because of what they sent
}

// A tally is what one batch counts; it belongs to one goroutine.
type tally struct {
	verdicts                      [wire.NumVerdicts]uint64
	slow, strange, unsent, panics uint64
}

// counters are the sum of the tallies of a worker, for others to read.
type counters struct {
	verdicts                      [wire.NumVerdicts]atomic.Uint64
	slow, strange, unsent, panics atomic.Uint64
}

// publish adds a tally and clears it.
func (c *counters) publish(t *tally) {
	add := func(to *atomic.Uint64, n uint64) {
		if n > 0 {
			to.Add(n)
		}
	}
	for v := range t.verdicts {
		add(&c.verdicts[v], t.verdicts[v])
	}
	add(&c.slow, t.slow)
	add(&c.strange, t.strange)
	add(&c.unsent, t.unsent)
	add(&c.panics, t.panics)
	*t = tally{}
}

func (c *counters) addTo(s *Stats, p Proto) {
	for v := range c.verdicts {
		s.Queries[p][v] += c.verdicts[v].Load()
	}
	s.Slow[p] += c.slow.Load()
	s.Strange += c.strange.Load()
	s.Unsent += c.unsent.Load()
	s.Panics += c.panics.Load()
}

// Stats returns the counters of the listener. What its pool shed is in Pool.Shed.
func (l *Listener) Stats() Stats {
	var s Stats
	l.mu.Lock() // Close waits with closing the sockets
	for _, w := range l.udp {
		w.stats.addTo(&s, UDP)
		if l.state == started {
			s.Lost += w.sock.overflowed()
		} else {
			s.Lost += w.overflow.Load()
		}
	}
	l.mu.Unlock()
	l.tcp.addTo(&s)
	return s
}
