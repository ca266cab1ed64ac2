package localport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// maxDials is how many endpoints one connection tries.
const maxDials = 3

// A port is one listening socket.
type port struct {
	f        *Forwarder
	listener *net.TCPListener
	frontend atomic.Pointer[proxier.Frontend]

	mu    sync.Mutex
	stick *proxier.Endpoint // where the last connection went, if there is session affinity
	since time.Time
}

// accept serves connections until the listener is closed.
func (p *port) accept(ctx context.Context) {
	for {
		client, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors or memory: the client waits in the backlog meanwhile.
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		p.f.total.Add(1)
		select {
		case p.f.slots <- struct{}{}:
			p.f.work.Go(func() {
				defer func() { <-p.f.slots }()
				p.serve(ctx, client)
			})
		default:
			p.f.reset.Add(1)
			reset(client)
		}
	}
}

// serve forwards one connection until both sides are done or ctx ends.
func (p *port) serve(ctx context.Context, client *net.TCPConn) {
	server := p.dial(ctx)
	if server == nil {
		p.f.reset.Add(1)
		reset(client)
		return
	}
	stop := context.AfterFunc(ctx, func() { reset(client); reset(server) })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pipe(server, client) })
	both.Go(func() { pipe(client, server) })
	both.Wait()
	client.Close()
	server.Close()
}

// pipe copies until from ends, and then tells to; the other direction may go on. A client or
// endpoint that vanished is found by TCP keep-alive, which Go sets on both sides.
func pipe(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	to.CloseWrite()
}

// reset closes c so that the peer sees a reset, as it would from the endpoint itself.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// dial returns a connection to an endpoint, or nil if none accepts.
func (p *port) dial(ctx context.Context) *net.TCPConn {
	d := net.Dialer{Timeout: p.f.o.DialTimeout}
	for _, e := range p.choose(time.Now()) {
		c, err := d.DialContext(ctx, "tcp", e.AddrPort().String())
		if err == nil {
			p.remember(e)
			return c.(*net.TCPConn)
		}
	}
	return nil
}

// choose returns the endpoints to try, in order.
func (p *port) choose(now time.Time) []*proxier.Endpoint {
	fe := p.frontend.Load()
	all := fe.From[proxier.FromNode].Pool.Endpoints
	if len(all) == 0 {
		return nil // it went since the connection was accepted
	}
	out := make([]*proxier.Endpoint, 0, maxDials)
	if fe.Affinity > 0 {
		p.mu.Lock()
		if p.stick != nil && now.Sub(p.since) < fe.Affinity {
			for _, e := range all {
				if e.AddrPort() == p.stick.AddrPort() {
					out = append(out, e)
				}
			}
		}
		p.mu.Unlock()
	}
	for i, first := 0, rand.N(len(all)); i < len(all) && len(out) < maxDials; i++ {
		out = append(out, all[(first+i)%len(all)])
	}
	return out
}

func (p *port) remember(e *proxier.Endpoint) {
	p.mu.Lock()
	p.stick, p.since = e, time.Now()
	p.mu.Unlock()
}
