package serve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/fairway-lb/fairway/dns/wire"
)

// A Proto is how a query came.
type Proto uint8

// The protocols.
const (
	UDP Proto = iota
	TCP
)

func (p Proto) String() string {
	if p == TCP {
		return "tcp"
	}
	return "udp"
}

// A Message is a query for the slow path.
type Message struct {
	Msg    []byte         // as received; the handler's to keep
	Client netip.AddrPort // never an IPv4 address mapped to IPv6
	Local  netip.AddrPort // the address that was asked
	Proto  Proto
}

// A Writer sends replies to one query.
type Writer interface {
	// Write sends one message. It may be called several times over TCP (a zone transfer), from
	// one goroutine, until the handler returns. It does not keep msg. An error means that the
	// client is gone.
	Write(msg []byte) error
}

// A Slow answers what a wire.Fast could not: the message may be odd or malformed still. Writing
// nothing drops the query. It is called from many goroutines at once. The context ends when the
// listener has no more time to close.
type Slow func(ctx context.Context, m *Message, w Writer)

// A Timed is a wire.Fast that wants to know how long its answers took.
type Timed interface {
	// Done is called after a batch of queries was answered and the replies sent: each query that
	// Answer was asked since the last call took this long.
	Done(took time.Duration)
}

// Options say what a Listener does. The zero value of a number or time is its default.
type Options struct {
	// Fast returns what answers in one worker; Answer and Done of one worker are never called at
	// the same time. Each protocol numbers its workers from 0, and below Workers. Nil, or a nil
	// result: all is slow.
	Fast func(p Proto, worker int) wire.Fast
	Slow Slow

	// Clients, if set, says who may ask. Others get nothing: their datagrams are not read any
	// further, their connections closed. It is called for every message, at the same time by all
	// workers. A link-local address may come without its zone.
	Clients func(netip.Addr) bool

	// Workers is how many queries over TCP are answered at once: GOMAXPROCS. There are half as many
	// UDP sockets, rounded up.
	Workers int
	MaxUDP  int // largest reply over UDP in bytes, whatever the client says: 1232

	// A pool may be shared by several listeners. Nil: one of its own with the default bounds.
	Pool *Pool

	MaxConns          int           // TCP connections at once: 4096; beyond, one that is silent for long is closed
	MaxConnsPerClient int           // of one IPv4 address or IPv6 /64: 256; beyond, new ones are closed
	MaxPipeline       int           // slow queries in work for one connection: 32; beyond, it is not read
	MaxQuery          int           // bytes of a query over TCP: 4096; beyond, the connection is closed
	FirstTimeout      time.Duration // for the first query, and for the rest of one that has begun: 3 s
	IdleTimeout       time.Duration // between queries: 10 s
	WriteTimeout      time.Duration // for a reply: 5 s

	// Panic is told of a panic in Fast or Slow. The query is answered with SERVFAIL. Nil: ignored.
	Panic func(value any)
}

func (o *Options) setDefaults() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&o.Workers, runtime.GOMAXPROCS(0))
	def(&o.MaxUDP, 1232)
	o.MaxUDP = min(max(o.MaxUDP, wire.MinUDP), maxDatagram)
	def(&o.MaxConns, 4096)
	def(&o.MaxConnsPerClient, 256)
	def(&o.MaxPipeline, 32)
	def(&o.MaxQuery, maxDatagram)
	o.MaxQuery = min(max(o.MaxQuery, firstBuffer), maxFrame)
	dur(&o.FirstTimeout, 3*time.Second)
	dur(&o.IdleTimeout, 10*time.Second)
	dur(&o.WriteTimeout, 5*time.Second)
	if o.Panic == nil {
		o.Panic = func(any) {}
	}
}

// fast returns the answering part of a worker; the zero one has no answers.
func (o *Options) fast(p Proto, worker int) (f wire.Fast, t Timed) {
	if o.Fast != nil {
		f = o.Fast(p, worker)
	}
	if f == nil {
		f = nothing{}
	}
	t, _ = f.(Timed)
	return f, t
}

type nothing struct{}

func (nothing) Answer(*wire.Query, int, []byte) (int, bool) { return 0, false }

// A Listener serves one address over UDP and TCP. Its methods are safe for concurrent use.
type Listener struct {
	addr    netip.AddrPort
	o       Options
	ownPool bool
	ctx     context.Context
	cancel  context.CancelFunc
	udp     []*worker
	tcp     *tcpServer
	running sync.WaitGroup // the workers and the one who accepts

	mu    sync.Mutex
	state state
}

type state uint8

const (
	bound state = iota
	started
	closed
)

// Listen binds the sockets of an address. What arrives waits in them until Start. The zero address
// is the wildcard of both families; port 0 takes a port that is free for UDP and TCP.
func Listen(addr netip.AddrPort, o Options) (*Listener, error) {
	if o.Slow == nil {
		return nil, errors.New("listen: no slow handler")
	}
	o.setDefaults()
	l := &Listener{o: o}
	if o.Pool == nil {
		l.o.Pool, l.ownPool = NewPool(0, 0), true
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.bind(addr); err != nil {
		l.cancel()
		return nil, bindError(addr, err)
	}
	return l, nil
}

// bindError says which address could not be had as a configuration names it, and what helps.
func bindError(addr netip.AddrPort, err error) error {
	at := addr.String()
	if !addr.Addr().IsValid() {
		at = fmt.Sprintf(":%d", addr.Port())
	}
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("listen on %s: %w (a port this low needs the capability CAP_NET_BIND_SERVICE, or root)", at, err)
	}
	return fmt.Errorf("listen on %s: %w", at, err)
}

// bind binds UDP first: fewer ports are taken there. With port 0 another is tried if TCP's is not
// free.
func (l *Listener) bind(addr netip.AddrPort) error {
	const attempts = 20
	for attempt := 0; ; attempt++ {
		err := l.bindOnce(addr)
		if err == nil || addr.Port() != 0 || attempt == attempts {
			return err
		}
	}
}

func (l *Listener) bindOnce(addr netip.AddrPort) (err error) {
	defer func() {
		if err != nil {
			l.closeSockets()
		}
	}()
	l.udp, l.addr = nil, addr
	for i := range (l.o.Workers + 1) / 2 {
		s, err := bindUDP(l.addr)
		if err != nil {
			return fmt.Errorf("udp: %w", err)
		}
		l.addr = s.addr
		l.udp = append(l.udp, newWorker(s, &l.o, l.ctx, i))
	}
	for _, w := range l.udp {
		w.sock.divide()
	}
	if l.tcp, err = bindTCP(l.addr, &l.o, l.ctx); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	return nil
}

func (l *Listener) closeSockets() {
	for _, w := range l.udp {
		w.sock.release()
	}
	if l.tcp != nil {
		l.tcp.listener.Close()
	}
}

// Addr returns the address that is served, with the port that was chosen.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Start begins to serve. It does nothing after the first time, or after Close.
func (l *Listener) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != bound {
		return
	}
	l.state = started
	for _, w := range l.udp {
		l.running.Go(w.run)
	}
	l.running.Go(l.tcp.accept)
}

// Close ends the listener. First it takes the sockets out of the kernel's choice, so that what
// comes next goes to another socket of the same port or is refused. Then it answers what the
// kernel had accepted, and what is in work. When ctx ends before, the rest is given up, and its
// error returned. A second Close does nothing.
func (l *Listener) Close(ctx context.Context) error {
	l.mu.Lock()
	was := l.state
	l.state = closed
	if was == started {
		for _, w := range l.udp {
			w.overflow.Store(w.sock.overflowed())
		}
	}
	l.mu.Unlock()
	switch was {
	case closed:
		return nil
	case bound:
		l.cancel()
		l.closeSockets()
		return nil
	}
	for _, w := range l.udp {
		w.stop()
	}
	l.tcp.stop()
	done := make(chan struct{})
	go func() {
		l.running.Wait() // no query is handed out any more
		for _, w := range l.udp {
			w.slow.Wait()
		}
		l.tcp.conns.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("close %v: %w", l.addr, ctx.Err())
		l.cancel()
		l.tcp.abort()
	}
	l.cancel()
	for _, w := range l.udp {
		w.sock.release()
	}
	if l.ownPool {
		l.o.Pool.Close()
	}
	return err
}
