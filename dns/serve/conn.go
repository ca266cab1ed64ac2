package serve

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairway-lb/fairway/dns/wire"
	"golang.org/x/sys/unix"
)

// A conn is one TCP connection. One goroutine reads it and answers what is fast. Slow answers come
// from goroutines of the pool. Whoever has a reply tries to send it at once; what the client does
// not take waits in pending, and one goroutine at a time sends that.
type conn struct {
	s      *tcpServer
	nc     *net.TCPConn
	raw    syscall.RawConn
	client netip.AddrPort
	local  netip.AddrPort
	key    netip.Addr // what connections of one client share
	lane   *lane
	list   *list.List    // of tcpServer, guarded by its mu; nil: it is forgotten
	place  *list.Element // in list

	inWork atomic.Int32 // slow queries; decreased under mu
	aside  atomic.Bool  // the server is to be told when inWork is 0
	gone   atomic.Bool  // evicted: what it asked is not answered any more

	mu       sync.Mutex
	change   sync.Cond // of inWork, pending, flushing, err
	pending  []byte
	flushing bool
	err      error // the client cannot be written to
}

func newConn(s *tcpServer, nc *net.TCPConn) (*conn, error) {
	c := &conn{s: s, nc: nc}
	c.change.L = &c.mu
	var err error
	if c.raw, err = nc.SyscallConn(); err != nil {
		return nil, err
	}
	unmap := func(a net.Addr) netip.AddrPort {
		ap := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	c.client, c.local = unmap(nc.RemoteAddr()), unmap(nc.LocalAddr())
	c.key = c.client.Addr().WithZone("")
	if c.key.Is6() {
		c.key = netip.PrefixFrom(c.key, 64).Masked().Addr()
	}
	return c, nil
}

// firstBuffer is enough for nearly every query. It grows with what has arrived, not with what a
// client announces.
const firstBuffer = 512

// serve reads and answers until the client is gone, silent, hostile, or in the way.
func (c *conn) serve() {
	buf, have := make([]byte, firstBuffer), 0
	deadline := time.Now().Add(c.s.o.FirstTimeout)
	asking := false // something was asked, so that the deadline is for what comes next
	var err error
	for err == nil {
		if err = c.arm(deadline); err != nil {
			break
		}
		var n, used int
		before := have
		n, err = c.nc.Read(buf[have:])
		have += n
		used, bad := c.answerAll(buf[:have])
		if bad != nil {
			err = bad
			break
		}
		have = copy(buf, buf[used:have])
		asking = asking || used > 0
		switch {
		case used > 0 && have == 0:
			deadline = time.Now().Add(c.s.o.IdleTimeout)
		case used > 0, asking && before == 0: // a query has begun
			deadline = time.Now().Add(c.s.o.FirstTimeout)
		}
		if have == len(buf) {
			buf = append(buf, make([]byte, min(have, c.s.o.MaxQuery+2-have))...)
		}
	}
	c.end(err)
}

// arm sets the deadline of the next read: sooner if the listener closes.
func (c *conn) arm(deadline time.Time) error {
	for {
		ending := c.s.ending.Load()
		if ending && c.s.grace.Before(deadline) {
			deadline = c.s.grace
		}
		if err := c.nc.SetReadDeadline(deadline); err != nil {
			return err
		}
		if ending == c.s.ending.Load() {
			return nil
		}
	}
}

var errAbused = errors.New("read query: not what a client sends")

// end waits for the answers that are in work, sends what is pending, and closes.
func (c *conn) end(err error) {
	switch {
	case errors.Is(err, errAbused):
		c.s.abused.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.s.ending.Load():
		c.s.late.Add(1)
	}
	c.mu.Lock()
	for c.inWork.Load() > 0 {
		c.change.Wait()
	}
	c.mu.Unlock()
	_ = c.flush()
	if c.s.ending.Load() && err != io.EOF {
		// What the client sent and nobody read would turn the close into a reset, and the reset
		// would overtake the replies.
		_ = c.nc.CloseWrite()
		_ = c.nc.SetReadDeadline(time.Now().Add(closingGrace))
		_, _ = io.CopyN(io.Discard, c.nc, receiveMemory)
	}
	c.nc.Close()
	c.s.mu.Lock()
	c.s.forget(c)
	c.s.alive--
	c.s.ended.Signal()
	c.s.mu.Unlock()
}

// answerAll answers the whole queries in buf and returns how many bytes they were.
func (c *conn) answerAll(buf []byte) (used int, err error) {
	for {
		n, why, err := c.answerSome(buf[used:])
		used += n
		if n > 0 {
			c.s.asked(c)
		}
		if err == nil {
			err = c.flush()
		}
		if err != nil || why == noMore {
			return used, err
		}
		c.mu.Lock()
		for int(c.inWork.Load()) >= c.s.o.MaxPipeline && c.err == nil {
			c.change.Wait()
		}
		c.mu.Unlock()
	}
}

// A pause is why answerSome stopped.
type pause uint8

const (
	noMore  pause = iota // there is no other whole query
	tooSlow              // too many slow queries are in work
	turn                 // others shall have the lane
)

var errEvicted = errors.New("read query: the connection had to make room")

// answerSome answers queries until there is no whole one, or until it has had its turn: no
// connection keeps those waiting that share its lane.
func (c *conn) answerSome(buf []byte) (used int, why pause, err error) {
	l := c.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.gone.Load() {
		return 0, noMore, errEvicted
	}
	var start time.Time
	if l.timed != nil {
		start = time.Now()
	}
	ready := 0
	for err == nil && ready <= enough {
		size, msg, ok := frame(buf[used:])
		if size > c.s.o.MaxQuery {
			err = errAbused
			break
		}
		if !ok {
			break
		}
		if int(c.inWork.Load()) >= c.s.o.MaxPipeline {
			why = tooSlow
			break
		}
		var n int
		if n, err = c.answer(msg, l.out[ready+2:ready+2+maxFrame]); n > 0 {
			binary.BigEndian.PutUint16(l.out[ready:], uint16(n))
			ready += n + 2
		}
		used += size + 2
	}
	if ready > enough {
		why = turn
	}
	if ready > 0 {
		err = errors.Join(err, c.send(l.out[:ready]))
	}
	if l.timed != nil && used > 0 {
		l.timed.Done(time.Since(start))
	}
	l.stats.publish(&l.count)
	return used, why, err
}

// frame returns the announced size of the first message in buf, and the message if it is whole.
func frame(buf []byte) (size int, msg []byte, ok bool) {
	if len(buf) < 2 {
		return 0, nil, false
	}
	size = int(binary.BigEndian.Uint16(buf))
	if len(buf) < size+2 {
		return size, nil, false
	}
	return size, buf[2 : size+2], true
}

// answer answers one message into out and returns the length of the reply: 0 if there is none, or
// none yet. Callers hold the lane.
func (c *conn) answer(msg, out []byte) (n int, err error) {
	l := c.lane
	v := l.q.Parse(msg)
	l.count.verdicts[v]++
	switch v {
	case wire.Drop:
		return 0, errAbused // no client's mistake: on TCP the peer meant it
	case wire.OK:
		l.q.V6, l.q.TCP = c.client.Addr().Is6(), true
		if n, ok := c.fast(out); ok {
			return n, nil
		}
		fallthrough
	case wire.Slow:
		l.count.slow++
		c.inWork.Add(1)
		c.s.o.Pool.submit(&segment{c: c, msg: Message{Msg: bytes.Clone(msg), Client: c.client, Local: c.local, Proto: TCP}})
		return 0, nil
	}
	return wire.Reject(&l.q, v, out), nil
}

// fast asks the lane's Fast, and answers with SERVFAIL if that panics.
func (c *conn) fast(out []byte) (n int, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			c.lane.count.panics++
			n, ok = wire.Refuse(&c.lane.q, wire.ServFail, out), true
			c.s.o.Panic(v)
		}
	}()
	n, ok = c.lane.fast.Answer(&c.lane.q, maxFrame, out)
	_ = out[:n]
	return n, ok
}

var errUnread = errors.New("send reply: the client does not read")

// send sends framed replies as far as that goes without waiting; the rest becomes pending.
func (c *conn) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if len(c.pending) == 0 && !c.flushing {
		b = b[c.try(b):]
	}
	if len(b) == 0 {
		return nil
	}
	if c.s.unsent.Add(int64(len(b))) > maxUnsent {
		c.s.unsent.Add(-int64(len(b)))
		c.fail(errUnread)
		return errUnread
	}
	c.pending = append(c.pending, b...)
	return nil
}

// try writes what the kernel takes at once. Errors show when the rest is written.
func (c *conn) try(b []byte) (n int) {
	_ = c.raw.Control(func(fd uintptr) { n, _ = unix.Write(int(fd), b) })
	return max(n, 0)
}

// fail gives the connection up. Callers hold mu.
func (c *conn) fail(err error) {
	c.err = err
	c.s.unsent.Add(-int64(len(c.pending)))
	c.pending = nil
	c.nc.Close()
	c.change.Broadcast()
}

// flush sends what is pending, and returns when it is sent or the client does not take it in time.
func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flushing && c.err == nil {
		c.change.Wait()
	}
	for len(c.pending) > 0 && c.err == nil {
		b := c.pending
		c.pending, c.flushing = nil, true
		c.mu.Unlock()
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.s.o.WriteTimeout))
		_, err := c.nc.Write(b)
		c.s.unsent.Add(-int64(len(b)))
		c.mu.Lock()
		c.flushing = false
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.s.late.Add(1)
			}
			c.fail(err)
		}
		c.change.Broadcast()
	}
	return c.err
}

// A segment is a slow query over TCP, and the Writer of its replies.
type segment struct {
	c   *conn
	msg Message
}

func (g *segment) run() {
	defer g.drop()
	defer func() {
		if v := recover(); v != nil {
			g.c.s.o.Panic(v)
			servFail(g.msg.Msg, g)
		}
	}()
	g.c.s.o.Slow(g.c.s.ctx, &g.msg, g)
}

func (g *segment) drop() {
	g.c.mu.Lock()
	left := g.c.inWork.Add(-1)
	g.c.change.Broadcast()
	g.c.mu.Unlock()
	if left == 0 {
		g.c.s.answered(g.c)
	}
}

// maxAhead is how many bytes of replies to one query may wait for the client before the next has
// to.
const maxAhead = 64 << 10

// Write sends a message with its length in front (RFC 1035, 4.2.2).
func (g *segment) Write(msg []byte) error {
	if len(msg) > maxFrame {
		return errors.New("send reply: longer than a message can be")
	}
	c := g.c
	if err := c.send(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(msg)+2), uint16(len(msg))), msg...)); err != nil {
		return err
	}
	c.mu.Lock()
	waiting, flushing, err := len(c.pending), c.flushing, c.err
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case waiting > maxAhead:
		return c.flush()
	case waiting > 0 && !flushing:
		c.s.conns.Go(func() { _ = c.flush() })
	}
	return nil
}
