package forward

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	dnswire "github.com/miekg/dns"
)

// withID returns a copy of a query with a new id. The generator behind it is ChaCha8, seeded by
// the kernel.
func withID(query []byte) (b []byte, id uint16) {
	b = append([]byte(nil), query...)
	id = uint16(rand.Uint32())
	binary.BigEndian.PutUint16(b, id)
	return b, id
}

// stream asks over TCP or TLS. A connection serves one query at a time and is kept for the next.
// If one that was kept is found closed by the other side, a new one is made at once.
func (u *Upstream) stream(ctx context.Context, q *question, query []byte) (*dnswire.Msg, error) {
	proto := "tcp"
	if u.tls {
		proto = "tcp-tls"
	}
	for {
		c := u.idle.get()
		kept := c != nil
		if kept {
			u.stats.hits(proto)
		} else {
			u.stats.misses(proto)
			var err error
			if c, err = u.dial(ctx); err != nil {
				return nil, err
			}
		}
		m, err := u.over(ctx, c, q, query)
		if err == nil {
			u.idle.put(c)
			return m, nil
		}
		c.Close()
		if ne, ok := err.(net.Error); !kept || err == errAnswer || ok && ne.Timeout() || ctx.Err() != nil {
			return nil, err
		}
	}
}

// connectTime bounds the time to connect. It is at most half of what is left, so that another
// attempt can follow, unless there will be none.
func (u *Upstream) connectTime(ctx context.Context) (context.Context, context.CancelFunc) {
	d, ok := ctx.Deadline()
	if !ok || u.f.o.MaxConnectAttempts == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(d)/2)
}

// dial connects.
func (u *Upstream) dial(ctx context.Context) (*idleConn, error) {
	ctx, cancel := u.connectTime(ctx)
	defer cancel()
	conn, err := u.dialer.DialContext(ctx, "tcp", u.Addr())
	if err != nil {
		return nil, err
	}
	if u.secure != nil {
		s := tls.Client(conn, u.secure)
		if err := s.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = s
	}
	return &idleConn{Conn: conn, created: time.Now()}, nil
}

// over asks on a connection.
func (u *Upstream) over(ctx context.Context, c net.Conn, q *question, query []byte) (*dnswire.Msg, error) {
	defer u.bound(ctx, c)()
	b, id := withID(query)
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, err
	}
	m, v := q.read(buf, id)
	if v != reply {
		u.stats.mismatches.Inc()
		return nil, errAnswer
	}
	return m, nil
}

// An idleConn is a connection that can be kept.
type idleConn struct {
	net.Conn
	created, used time.Time
}

// maxIdle bounds the connections that are kept for one upstream if the directive does not.
const maxIdle = 256

// A pool keeps connections of one upstream while nobody uses them.
type pool struct {
	expire, maxAge time.Duration
	most           int

	mu     sync.Mutex
	conns  []*idleConn // the longest unused one first
	timer  *time.Timer // runs purge
	closed bool
}

func (p *pool) init(expire, maxAge time.Duration, most int) {
	p.expire, p.maxAge, p.most = expire, maxAge, most
	if most == 0 {
		p.most = maxIdle
	}
}

// get returns the connection that was used last, or nil.
func (p *pool) get() *idleConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(time.Now())
	if n := len(p.conns); n > 0 {
		c := p.conns[n-1]
		p.conns = p.conns[:n-1]
		return c
	}
	return nil
}

// put keeps a connection, or closes it.
func (p *pool) put(c *idleConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	c.used = now
	c.SetDeadline(time.Time{})
	p.conns = append(p.conns, c)
	if p.closed || len(p.conns) > p.most {
		p.conns = p.conns[:len(p.conns)-1]
		c.Close()
	}
	p.drop(now)
	if p.timer == nil && len(p.conns) > 0 {
		p.timer = time.AfterFunc(p.expire, p.purge)
	}
}

// drop closes what is too old.
func (p *pool) drop(now time.Time) {
	kept := p.conns[:0]
	for _, c := range p.conns {
		if now.Sub(c.used) > p.expire || p.maxAge > 0 && now.Sub(c.created) > p.maxAge {
			c.Close()
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.conns[len(kept):])
	p.conns = kept
}

// purge drops connections that nobody asks for, until there are none.
func (p *pool) purge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(time.Now())
	p.timer = nil
	if len(p.conns) > 0 && !p.closed {
		p.timer = time.AfterFunc(p.expire, p.purge)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
	if p.timer != nil {
		p.timer.Stop()
	}
}
