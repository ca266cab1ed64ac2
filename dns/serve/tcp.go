package serve

import (
	"container/list"
	"context"
	"errors"
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

// A tcpServer accepts connections and knows all that are open.
type tcpServer struct {
	listener *net.TCPListener
	o        *Options
	ctx      context.Context // of slow queries
	lanes    []*lane
	conns    sync.WaitGroup

	ending atomic.Bool
	grace  time.Time // set before ending: when connections are no longer read

	mu      sync.Mutex
	quiet   list.List // of *conn; those that asked last are in front
	waiting list.List // of *conn; those that were seen to wait for an answer, see victim
	clients map[netip.Addr]int
	alive   int       // connections with a goroutine, those that were evicted among them
	ended   sync.Cond // alive has become smaller
	lane    int       // of the next connection

	unsent  atomic.Int64 // bytes of replies that wait for their clients
	evicted atomic.Uint64
	refused atomic.Uint64
	strange atomic.Uint64
	total   atomic.Uint64
	late    atomic.Uint64
	abused  atomic.Uint64
}

// A lane answers for some of the connections, one at a time, as a worker of UDP does for its
// socket.
type lane struct {
	mu    sync.Mutex
	fast  wire.Fast
	timed Timed
	stats counters
	count tally
	q     wire.Query
	out   [enough + 2 + maxFrame]byte
}

const (
	maxFrame = 0xffff
	enough   = 8 << 10 // replies that are sent together, in bytes

	// Kernel memory of a connection: enough for any query, and for some replies. Left to itself
	// the kernel lends each connection megabytes.
	receiveMemory = 16 << 10
	sendMemory    = 64 << 10

	// maxUnsent bounds the replies, in bytes, that wait for clients which do not read.
	maxUnsent = 32 << 20

	// closingGrace is how long connections are read when the listener closes.
	closingGrace = 100 * time.Millisecond
)

func bindTCP(addr netip.AddrPort, o *Options, ctx context.Context) (*tcpServer, error) {
	s := &tcpServer{o: o, ctx: ctx, clients: map[netip.Addr]int{}}
	s.ended.L = &s.mu
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveMemory)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendMemory)
		})
		return errors.Join(ctl, os.NewSyscallError("SO_REUSEPORT", err))
	}}
	config.SetMultipathTCP(false)
	network, text := "tcp", addr.String()
	if a := addr.Addr().Unmap(); a.Is4() {
		network, text = "tcp4", netip.AddrPortFrom(a, addr.Port()).String()
	}
	ln, err := config.Listen(context.Background(), network, text)
	if err != nil {
		return nil, err
	}
	s.listener = ln.(*net.TCPListener)
	for i := range o.Workers {
		l := &lane{}
		l.fast, l.timed = o.fast(TCP, i)
		s.lanes = append(s.lanes, l)
	}
	return s, nil
}

// accept takes connections until stop, and then what the kernel has accepted.
func (s *tcpServer) accept() {
	defer s.listener.Close()
	for {
		nc, err := s.listener.AcceptTCP()
		switch {
		case err == nil:
			s.admit(nc)
		case s.ending.Load():
			s.acceptRest()
			return
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors or memory
			s.evict(nil)
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// acceptRest takes the connections that are complete and were not accepted: closing the listener
// would reset them.
func (s *tcpServer) acceptRest() {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err == unix.EINTR || err == unix.ECONNABORTED {
				continue
			}
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(n), "tcp")
			nc, err := net.FileConn(f)
			f.Close()
			if tc, ok := nc.(*net.TCPConn); ok && err == nil {
				s.admit(tc)
			}
		}
	})
}

// admit serves a connection, unless its client has too many. When there are too many in all the
// one that asked nothing for longest has to go.
func (s *tcpServer) admit(nc *net.TCPConn) {
	s.total.Add(1)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); s.o.Clients != nil && (!ok || !s.o.Clients(a.AddrPort().Addr().Unmap())) {
		s.strange.Add(1)
		nc.Close()
		return
	}
	c, err := newConn(s, nc)
	if err != nil {
		nc.Close()
		return
	}
	s.mu.Lock()
	// Those that were evicted need a moment to end. Who connects meanwhile waits in the kernel.
	for s.alive >= 2*s.o.MaxConns {
		s.ended.Wait()
	}
	if s.clients[c.key] >= s.o.MaxConnsPerClient {
		s.mu.Unlock()
		s.refused.Add(1)
		nc.Close()
		return
	}
	s.alive++
	s.clients[c.key]++
	s.put(c, &s.quiet)
	c.lane = s.lanes[s.lane]
	s.lane = (s.lane + 1) % len(s.lanes)
	full := s.count() > s.o.MaxConns
	s.mu.Unlock()
	if full {
		s.evict(c)
	}
	s.conns.Go(c.serve)
}

// stop makes accept return, and connections end after a last look.
func (s *tcpServer) stop() {
	s.grace = time.Now().Add(closingGrace)
	s.ending.Store(true)
	_ = s.listener.SetDeadline(time.Unix(1, 0))
	s.each(func(c *conn) { _ = c.nc.SetReadDeadline(s.grace) })
}

// abort closes all connections.
func (s *tcpServer) abort() {
	s.listener.Close()
	s.each(func(c *conn) { c.nc.Close() })
}

func (s *tcpServer) addTo(st *Stats) {
	for _, l := range s.lanes {
		l.stats.addTo(st, TCP)
	}
	s.mu.Lock()
	st.Conns = s.count()
	s.mu.Unlock()
	st.Accepted, st.Refused, st.Evicted = s.total.Load(), s.refused.Load(), s.evicted.Load()
	st.Strange += s.strange.Load()
	st.TimedOut, st.Abused = s.late.Load(), s.abused.Load()
}
