package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
)

// A target is what makes two upstreams the same.
type target struct {
	addr       netip.AddrPort
	tls        bool
	serverName string
}

// An Upstream is one resolver that is asked. It is safe for concurrent use.
type Upstream struct {
	target
	f      *Forward
	stats  *upstreamMetrics
	dialer *net.Dialer
	udp    *net.Dialer
	secure *tls.Config // nil: no TLS
	idle   pool

	fails    atomic.Uint32 // health checks in a row without an answer
	checking atomic.Bool
	isolated atomic.Bool

	// Until when, in Unix nanoseconds, the upstream is taken not to know EDNS or TCP.
	noEDNS, noTCP atomic.Int64
}

func (f *Forward) newUpstream(t target) *Upstream {
	u := &Upstream{target: t, f: f, stats: f.metrics.upstream(t.addr.String()), dialer: &net.Dialer{}, udp: &net.Dialer{}}
	if src := f.o.SourceAddress; src.IsValid() {
		u.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
		u.udp.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	if t.tls {
		u.secure = f.tls.Clone()
		u.secure.ServerName = t.serverName
		if t.serverName == "" { // then the certificate must be for the address
			u.secure.ServerName = t.addr.Addr().WithZone("").String()
		}
	}
	u.idle.init(f.o.Expire, f.o.MaxAge, f.o.MaxIdleConns)
	f.metrics.use(u, true)
	return u
}

// close ends what the upstream keeps when it is not used any more.
func (u *Upstream) close() {
	u.idle.close()
	u.f.metrics.use(u, false)
}

// Addr returns address and port, as in the label to of the metrics.
func (u *Upstream) Addr() string { return u.addr.String() }

// Isolate takes the upstream out of use, or puts it back.
func (u *Upstream) Isolate(on bool) { u.isolated.Store(on) }

// Isolated reports whether the upstream is out of use.
func (u *Upstream) Isolated() bool { return u.isolated.Load() }

// Probe asks the upstream, even one that is isolated, and reports whether anything came back.
func (u *Upstream) Probe(ctx context.Context, name string, qtype uint16) error {
	q, err := newQuestion(flightKey{name: name, typ: qtype, class: dnswire.ClassINET, rd: true, tcp: u.f.o.ForceTCP}, name, nil)
	if err != nil {
		return err
	}
	_, err = u.exchange(ctx, q)
	return err
}

const (
	ednsMemory = 10 * time.Minute
	tcpMemory  = 30 * time.Second
)

// ask asks the upstream once, and counts it.
func (u *Upstream) ask(ctx context.Context, q *question) (*dnswire.Msg, error) {
	start := time.Now()
	m, err := u.exchange(ctx, q)
	if err == nil {
		u.stats.took(m.Rcode, time.Since(start))
	}
	return m, err
}

// exchange asks the upstream in the way that the directive and the question want. A server that
// does not know EDNS is asked without, unless someone needs it.
func (u *Upstream) exchange(ctx context.Context, q *question) (*dnswire.Msg, error) {
	query := q.wire
	needed := q.do || q.send != ""
	if !needed && time.Now().UnixNano() < u.noEDNS.Load() {
		query = q.plain
	}
	m, err := u.transport(ctx, q, query)
	if err != nil || needed || len(query) == len(q.plain) || m.IsEdns0() != nil {
		return m, err
	}
	if m.Rcode != dnswire.RcodeFormatError && m.Rcode != dnswire.RcodeNotImplemented && m.Rcode != dnswire.RcodeBadVers {
		return m, nil
	}
	if plain, err := u.transport(ctx, q, q.plain); err == nil {
		if plain.Rcode != m.Rcode {
			u.noEDNS.Store(time.Now().Add(ednsMemory).UnixNano())
		}
		return plain, nil
	}
	return m, nil
}

var (
	errForged = errors.New("replies that do not match the query")
	errAnswer = errors.New("the reply does not match the query")
)

// transport sends a query over UDP or TCP. A reply over UDP that was cut is fetched again over TCP,
// and so is one that seems to be forged.
func (u *Upstream) transport(ctx context.Context, q *question, query []byte) (*dnswire.Msg, error) {
	if u.tls || q.tcp {
		return u.stream(ctx, q, query)
	}
	m, err := u.datagram(ctx, q, query)
	switch {
	case errors.Is(err, errForged):
		return u.stream(ctx, q, query)
	case err != nil || !m.Truncated || time.Now().UnixNano() < u.noTCP.Load():
		return m, err
	}
	whole, err := u.stream(ctx, q, query)
	if err != nil {
		// The client may try TCP itself, with no better luck, but it will know why.
		u.noTCP.Store(time.Now().Add(tcpMemory).UnixNano())
		return m, nil
	}
	return whole, nil
}

// maxForged is how many datagrams may come that are not the reply before the query goes over TCP.
const maxForged = 8

// maxDatagram is more than any upstream should send to a query of ednsSize.
const maxDatagram = 4096

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// datagram asks over UDP, on a socket and port of its own.
func (u *Upstream) datagram(ctx context.Context, q *question, query []byte) (*dnswire.Msg, error) {
	conn, err := u.udp.DialContext(ctx, "udp", u.Addr())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	u.stats.misses("udp")
	defer u.bound(ctx, conn)()
	b, id := withID(query)
	if _, err := conn.Write(b); err != nil {
		return nil, err
	}
	room := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(room) // a message that was unpacked has no part of it
	buf := room[:]
	for forged := 0; forged < maxForged; {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		m, v := q.read(buf[:n], id)
		cut := v == broken && (buf[2]&(wire.FlagTC>>8) != 0 || n == maxDatagram)
		switch {
		case cut:
			m = &dnswire.Msg{Question: []dnswire.Question{q.asDecoded()}}
			m.Response, m.Truncated, m.Rcode = true, true, wire.Rcode(buf)
			return m, nil
		case v == reply:
			return m, nil
		}
		u.stats.mismatches.Inc()
		forged++
	}
	return nil, errForged
}

// bound makes reads and writes on a connection end in time, and with ctx. The function that it
// returns must be called when they are done.
func (u *Upstream) bound(ctx context.Context, conn net.Conn) func() {
	at := time.Now().Add(u.f.o.ReadTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(at) {
		at = d
	}
	conn.SetDeadline(at)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
