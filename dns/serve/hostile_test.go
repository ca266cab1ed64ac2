package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// full says that the hostile tests run with all they have (make dns-hostile), which takes minutes.
var full = os.Getenv("HOSTILE") == "full"

// size returns how much of something a hostile test does.
func size(all, share int) int {
	if full {
		return all
	}
	return share
}

// A mangler makes malformed messages out of good ones. The first bytes stay those of a query more
// often than not, so that what follows them is looked at.
type mangler struct {
	rnd  *rand.Rand
	good [][]byte
	buf  [maxDatagram + 200]byte
}

func newMangler(t testing.TB, seed uint64) *mangler {
	t.Helper()
	m := &mangler{rnd: rand.New(rand.NewPCG(seed, 0))}
	for _, name := range []string{".", "www.example.", "a.very.long.name.with.many.labels.svc.cluster.local."} {
		for _, edns := range []bool{false, true} {
			q := new(dnswire.Msg)
			q.SetQuestion(name, dnswire.TypeA)
			if edns {
				q.SetEdns0(4096, true)
				q.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_PADDING{Padding: make([]byte, 20)}}
			}
			b, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			m.good = append(m.good, b)
		}
	}
	return m
}

// next returns a message that is valid until the next one.
func (m *mangler) next() []byte {
	r := m.rnd
	b := m.buf[:copy(m.buf[:], m.good[r.IntN(len(m.good))])]
	switch r.IntN(8) {
	case 0: // noise
		b = m.buf[:r.IntN(600)]
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) > 2 && r.IntN(2) == 0 {
			b[2] = 1
		}
	case 1: // cut
		b = b[:r.IntN(len(b))]
	case 2: // counts
		binary.BigEndian.PutUint16(b[4+2*r.IntN(4):], uint16(r.Uint32()))
	case 3: // pointers, in the name and elsewhere
		at := wire.HeaderLen + r.IntN(len(b)-wire.HeaderLen-1)
		binary.BigEndian.PutUint16(b[at:], 0xc000|uint16(r.IntN(2*len(b))))
	case 4: // lengths of labels and options
		b[wire.HeaderLen+r.IntN(len(b)-wire.HeaderLen)] = byte(r.Uint32())
	case 5: // anything
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
	case 6: // a long tail, sometimes longer than is read
		b = m.buf[:len(b)+r.IntN(len(m.buf)-len(b))]
	case 7: // records without end
		b = append(b[:wire.HeaderLen], 0, 0, 1, 0, 1)
		binary.BigEndian.PutUint16(b[10:], uint16(1+r.IntN(2)))
		for len(b) < 500 {
			b = append(b, 0, 0, byte(r.IntN(64)), 4, 0, 0, 0, byte(r.IntN(2)*128), 0, 0, byte(r.IntN(3)))
		}
	}
	return b
}

// memory is what the process holds, after a collection.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestHostileDatagrams puts malformed datagrams into a worker's buffers: nothing panics, no reply
// is longer than allowed or not a reply, and nothing is kept.
func TestHostileDatagrams(t *testing.T) {
	panics := 0
	pool := NewPool(4, 64)
	defer pool.Close()
	w := bench(t, Options{Pool: pool, Slow: slowly(nil), Panic: func(v any) { panics++; t.Error(v) },
		Fast: func(Proto, int) wire.Fast { return &answering{} }})
	m := newMangler(t, 1)
	before := memory()
	total := size(10_000_000, 100_000)
	var verdicts [wire.NumVerdicts]uint64
	replies := 0
	for done := 0; done < total; done += batch {
		w.next, w.ready = 0, 0
		for i := range batch {
			w.put(i, m.next())
		}
		w.answerAll(batch)
		replies += w.ready
		for i := range w.ready {
			b := w.replies[i][:w.outVec[i].Len]
			if len(b) < wire.HeaderLen || len(b) > w.o.MaxUDP || b[2]&0x80 == 0 {
				t.Fatalf("reply %x", b)
			}
		}
		for v, n := range w.count.verdicts {
			verdicts[v] += n
		}
		w.stats.publish(&w.count)
	}
	w.slow.Wait()
	after := memory()
	t.Logf("%d datagrams, %d replies, verdicts %v, %d panics; %d KiB before, %d KiB after", total, replies, verdicts, panics, before>>10, after>>10)
	if after > before+8<<20 {
		t.Errorf("memory grew from %d to %d bytes", before, after)
	}
	for v, n := range verdicts {
		if n == 0 {
			t.Errorf("no datagram had verdict %d: they are not hostile enough", v)
		}
	}
}

// served keeps asking as good clients do, over UDP and TCP, and counts. A lost datagram is asked
// for again, as clients do; a TCP connection that was closed is opened again.
type served struct {
	udp, tcp, again atomic.Int64
	worst           atomic.Int64 // nanoseconds
	fault           atomic.Pointer[error]
}

func (s *served) run(to netip.AddrPort, stop <-chan struct{}, source string) {
	msg := new(dnswire.Msg)
	msg.SetQuestion("www.example.", dnswire.TypeA)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		network, count := "udp", &s.udp
		if i%4 == 0 {
			network, count = "tcp", &s.tcp
		}
		start := time.Now()
		if err := s.ask(network, source, to, msg); err != nil {
			err = fmt.Errorf("%s: %w", network, err)
			s.fault.CompareAndSwap(nil, &err)
			return
		}
		count.Add(1)
		if took := int64(time.Since(start)); took > s.worst.Load() {
			s.worst.Store(took)
		}
	}
}

func (s *served) ask(network, source string, to netip.AddrPort, msg *dnswire.Msg) (err error) {
	for range 20 {
		d := net.Dialer{Timeout: patience}
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(source)}
		if network == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
		c := dnswire.Client{Net: network, Dialer: &d, Timeout: 2 * time.Second}
		var got *dnswire.Msg
		if got, _, err = c.Exchange(msg, to.String()); err == nil {
			if len(got.Answer) != 1 {
				return errors.New(got.String())
			}
			return nil
		}
		s.again.Add(1)
	}
	return err
}

// watch has good clients ask while f runs, and fails if they were not served, or if memory grew by
// more than limit.
func watch(t *testing.T, l *Listener, limit uint64, f func()) {
	t.Helper()
	var s served
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { s.run(l.Addr(), stop, fmt.Sprintf("127.0.0.%d", 1+i)) })
	}
	before, most := memory(), uint64(0)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(250 * time.Millisecond):
				most = max(most, memory())
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
	t.Logf("good clients: %d over UDP, %d over TCP, %d times asked again, the longest took %v; memory %d KiB before, at most %d KiB, %d KiB after",
		s.udp.Load(), s.tcp.Load(), s.again.Load(), time.Duration(s.worst.Load()), before>>10, most>>10, memory()>>10)
	if e := s.fault.Load(); e != nil {
		t.Errorf("a good client was not served: %v", *e)
	}
	if s.udp.Load() == 0 || s.tcp.Load() == 0 {
		t.Error("good clients were not served")
	}
	if most > before+limit {
		t.Errorf("memory grew from %d to %d bytes", before, most)
	}
}

// TestHostileSockets sends malformed datagrams through real sockets.
func TestHostileSockets(t *testing.T) {
	l := serve(t, loopback, Options{Panic: func(v any) { t.Error(v) }})
	total := size(300_000, 8_000)
	watch(t, l, 32<<20, func() {
		var wg sync.WaitGroup
		for seed := range uint64(4) {
			wg.Go(func() {
				m := newMangler(t, 100+seed)
				c := dial(t, "udp", l.Addr())
				for range total / 4 {
					_, _ = c.Write(m.next()) // what is longer than a socket takes is not sent
				}
			})
		}
		wg.Wait()
	})
	t.Logf("%d sent: %+v", total, l.Stats())
}

// TestHostileConns opens hostile TCP connections, many at a time, from many addresses.
func TestHostileConns(t *testing.T) {
	o := Options{MaxConns: 200, MaxConnsPerClient: 24, FirstTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond,
		WriteTimeout: 300 * time.Millisecond, Pool: NewPool(64, 256), Panic: func(v any) { t.Error(v) }}
	defer o.Pool.Close()
	l := serve(t, loopback, o)
	total := size(100_000, 600)
	var opened, failed [len(attacks)]atomic.Int64
	watch(t, l, 96<<20, func() {
		var wg sync.WaitGroup
		var next atomic.Int64
		for i := range 320 {
			wg.Go(func() {
				m := newMangler(t, uint64(i))
				for {
					n := int(next.Add(1))
					if n > total {
						return
					}
					kind := n % len(attacks)
					d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 1, byte(1+i%12))}}
					c, err := d.Dial("tcp", l.Addr().String())
					if err != nil {
						failed[kind].Add(1)
						continue
					}
					opened[kind].Add(1)
					_ = c.SetDeadline(time.Now().Add(patience))
					attacks[kind].run(t, c.(*net.TCPConn), m)
					c.Close()
				}
			})
		}
		wg.Wait()
	})
	for i, a := range attacks {
		t.Logf("%s: %d connections, %d refused by the kernel", a.name, opened[i].Load(), failed[i].Load())
	}
	wait.Until(t, "all are closed", func() bool { l.tcp.mu.Lock(); defer l.tcp.mu.Unlock(); return l.tcp.alive == 0 })
	if n := l.Stats().Conns; n != 0 {
		t.Errorf("%d connections are on the books, and none is left", n)
	}
	s := l.Stats()
	t.Logf("%+v, %d shed", s, o.Pool.Shed())
	if s.Abused == 0 || l.tcp.unsent.Load() != 0 {
		t.Errorf("%+v, %d bytes wait", s, l.tcp.unsent.Load())
	}
}

// An attack is what one hostile connection does before it is closed.
type attack struct {
	name string
	run  func(t *testing.T, c *net.TCPConn, m *mangler)
}

var attacks = [...]attack{
	{"silent", func(t *testing.T, c *net.TCPConn, _ *mangler) {
		if rand.IntN(16) == 0 { // the others leave: half open for the server until it sees that
			drain(c)
		}
		_ = c.SetLinger(0)
	}},
	{"slow", func(t *testing.T, c *net.TCPConn, m *mangler) {
		b := framed(m.good[2])
		for i := range min(len(b), 3+rand.IntN(6)) {
			if _, err := c.Write(b[i : i+1]); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		if rand.IntN(16) == 0 {
			drain(c)
		}
	}},
	{"oversized", func(t *testing.T, c *net.TCPConn, m *mangler) {
		b := make([]byte, 2+maxFrame)
		binary.BigEndian.PutUint16(b, maxFrame)
		_, _ = c.Write(b)
		drain(c)
	}},
	{"malformed", func(t *testing.T, c *net.TCPConn, m *mangler) {
		for range 10 {
			if _, err := c.Write(framed(m.next())); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
		drain(c)
	}},
	{"pipelined", func(t *testing.T, c *net.TCPConn, m *mangler) {
		// Thousands of queries with long answers and slow ones, of which nothing is read.
		big, slow := query(t, 1, "big.example.", 2000), query(t, 2, "slow.example.", dnswire.TypeA)
		var b []byte
		for range 100 {
			b = append(b, framed(big, slow)...)
		}
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = c.Write(b)
		_ = c.SetLinger(0)
	}},
	{"half closed", func(t *testing.T, c *net.TCPConn, m *mangler) {
		b := framed(query(t, 2, "slow.example.", dnswire.TypeA))
		_, _ = c.Write(b[:1+rand.IntN(len(b))])
		_ = c.CloseWrite()
		drain(c)
	}},
}

// drain reads until the server closes.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
