package server

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/serve"
	"github.com/fairway-lb/fairway/dns/wire"
)

// defaultUDP is the largest reply over UDP unless bufsize says otherwise: what fits into one packet
// of any IPv6 path (DNS flag day 2020). maxUDP is what bufsize can ask for.
const (
	defaultUDP = 1232
	maxUDP     = 4096
)

// A listener is one address that is served. It stays open over reloads as long as a block has its
// address; only its router changes.
type listener struct {
	addr     netip.AddrPort // as configured: port 0 stays 0
	timeouts corefile.Timeouts
	router   atomic.Pointer[router]
	*serve.Listener
}

// listen binds an address. Nothing is read before Start.
func (s *Server) listen(addr netip.AddrPort, t corefile.Timeouts) (*listener, error) {
	l := &listener{addr: addr, timeouts: t}
	var err error
	l.Listener, err = serve.Listen(addr, serve.Options{
		Fast:         func(p serve.Proto, n int) wire.Fast { return &worker{l: l, proto: metrics.Proto(p), n: n} },
		Slow:         l.slow,
		Clients:      s.o.Clients,
		Workers:      s.o.Workers,
		MaxUDP:       maxUDP,
		Pool:         s.pool,
		FirstTimeout: t.Read, WriteTimeout: t.Write, IdleTimeout: t.Idle,
		Panic: s.panicked,
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// drainTime is how long a listener that is not needed any more may take for what is in work.
const drainTime = 5 * time.Second

func (l *listener) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return l.Close(ctx)
}
