package serve

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	dnswire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// bench is a worker without its goroutine: batches are put into its buffers by hand. What it sends goes
// to a socket that nobody reads.
func bench(t testing.TB, o Options) *worker {
	t.Helper()
	o.setDefaults()
	if o.Pool == nil {
		o.Pool = NewPool(4, 4)
		t.Cleanup(o.Pool.Close)
	}
	s, err := bindUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	if err != nil {
		t.Fatal(err)
	}
	s.divide()
	t.Cleanup(s.release)
	sink, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	w := newWorker(s, &o, context.Background(), 0)
	to := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	for i := range w.peers {
		w.peers[i] = peer{Family: unix.AF_INET6, Addr: netip.AddrFrom16(to.Addr().As16()).As16()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&w.peers[i].Port))[:], to.Port())
		c := (*[controlLen]byte)(unsafe.Pointer(&w.controls[i]))
		*(*unix.Cmsghdr)(unsafe.Pointer(c)) = unix.Cmsghdr{Len: unix.SizeofCmsghdr + 20, Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}
		local := netip.AddrFrom16(loopback.Addr().As16()).As16()
		copy(c[unix.SizeofCmsghdr:], local[:])
	}
	return w
}

// put makes a message the i-th of the next batch.
func (w *worker) put(i int, msg []byte) {
	w.in[i].n = uint32(copy(w.queries[i][:], msg))
	w.in[i].hdr.Flags = 0
	if len(msg) > maxDatagram {
		w.in[i].hdr.Flags = unix.MSG_TRUNC
	}
}

// TestNoAllocations: a batch of queries is answered and sent without allocation.
func TestNoAllocations(t *testing.T) {
	f := &answering{}
	w := bench(t, Options{Fast: func(Proto, int) wire.Fast { return f }})
	msg := query(t, 1, "kubernetes.default.svc.cluster.local.", dnswire.TypeA)
	odd := slices.Clone(msg)
	odd[5] = 3
	for i := range batch {
		w.put(i, msg)
	}
	w.put(9, odd)
	if n := testing.AllocsPerRun(200, func() { w.serve(batch) }); n != 0 {
		t.Errorf("%v allocations for %d queries", n, batch)
	}
	s := Stats{}
	if w.stats.addTo(&s, UDP); s.Unsent != 0 || s.Queries[UDP][wire.OK] == 0 || f.done.Load() != 201 {
		t.Errorf("%+v, Done was called %d times", s, f.done.Load())
	}
}

// BenchmarkBatch is a batch without receiving it: parsing, answering, sending.
func BenchmarkBatch(b *testing.B) {
	w := bench(b, Options{Fast: func(Proto, int) wire.Fast { return &answering{} }})
	for i := range batch {
		w.put(i, query(b, uint16(i), "kubernetes.default.svc.cluster.local.", dnswire.TypeA))
	}
	b.ReportAllocs()
	for b.Loop() {
		w.serve(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/query")
}

// clients ask in lockstep over UDP until stop: each waits for its reply before it asks again. It
// returns how many asked, and the first error.
func clients(n int, to netip.AddrPort, stop <-chan struct{}, names ...string) func() (uint64, error) {
	var (
		wg    sync.WaitGroup
		asked atomic.Uint64
		fault atomic.Pointer[error]
	)
	fail := func(err error) { fault.CompareAndSwap(nil, &err) }
	for i := range n {
		wg.Go(func() {
			for id := uint16(0); ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				if id%50 == 0 { // another port: another socket may be chosen
					if err := exchange(to, id, names[i%len(names)]); err != nil {
						fail(err)
						return
					}
				}
				asked.Add(1)
				if err := exchange(to, id, names[int(id)%len(names)]); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	return func() (uint64, error) {
		wg.Wait()
		if e := fault.Load(); e != nil {
			return asked.Load(), *e
		}
		return asked.Load(), nil
	}
}

// exchange asks one question from a port of its own.
func exchange(to netip.AddrPort, id uint16, name string) error {
	m := new(dnswire.Msg)
	m.SetQuestion(name, dnswire.TypeA)
	m.Id = id
	c := dnswire.Client{Timeout: patience}
	got, _, err := c.Exchange(m, to.String())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if got.Rcode != dnswire.RcodeSuccess || len(got.Answer) != 1 {
		return fmt.Errorf("%s: %v", name, got)
	}
	return nil
}

// TestReplace closes listeners under load while another serves the same port: no query is lost,
// neither those that waited in a socket that is closed, nor those in work.
func TestReplace(t *testing.T) {
	for name, addr := range map[string]netip.AddrPort{"one address": loopback, "wildcard": {}} {
		t.Run(name, func(t *testing.T) {
			l := serve(t, addr, Options{})
			to := netip.AddrPortFrom(loopback.Addr(), l.Addr().Port())
			stop := make(chan struct{})
			ended := clients(8, to, stop, "www.example.", "slow.example.")
			for range 20 {
				next := serve(t, l.Addr(), Options{})
				before := next.Stats().Queries[UDP][wire.OK]
				shut(t, l)
				wait.Until(t, "the new listener is asked", func() bool { return next.Stats().Queries[UDP][wire.OK] > before+20 })
				l = next
			}
			close(stop)
			if n, err := ended(); err != nil || n < 300 {
				t.Errorf("after %d queries: %v", n, err)
			}
		})
	}
}

// TestCloseAnswers: what the kernel has accepted is answered before the socket is closed, and so
// is what is in work.
func TestCloseAnswers(t *testing.T) {
	gate := make(chan struct{})
	hold := make(chan struct{})
	entered := make(chan struct{}, 1)
	l, err := Listen(loopback, Options{Workers: 1, Slow: slowly(gate), Fast: func(Proto, int) wire.Fast {
		return fastFunc(func(q *wire.Query, limit int, out []byte) (int, bool) {
			if string(q.Label(0)) == "hold" {
				entered <- struct{}{}
				<-hold
			}
			return (&answering{}).Answer(q, limit, out)
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	c := dial(t, "udp", l.Addr())
	send := func(id uint16, name string) {
		if _, err := c.Write(query(t, id, name, dnswire.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	send(0, "wait.example.")
	wait.Until(t, "a slow query is in work", func() bool { r, _ := l.o.Pool.Load(); return r == 1 })
	send(1, "hold.example.") // the worker stands still, and what follows is queued
	<-entered
	const queued = 100
	for id := range uint16(queued) {
		send(2+id, "www.example.")
	}
	done := make(chan struct{})
	go func() { shut(t, l); close(done) }()
	wait.Until(t, "the listener closes", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.state == closed })
	close(hold)
	got := map[uint16]bool{}
	for range queued + 1 {
		m, err := receive(c)
		if err != nil {
			t.Fatalf("after %d replies: %v", len(got), err)
		}
		got[m.Id] = true
	}
	select {
	case <-done:
		t.Error("closed with a query in work")
	default:
	}
	close(gate)
	if m, err := receive(c); err != nil || m.Id != 0 || len(got) != queued+1 {
		t.Errorf("the slow one: %v, %v; %d others", m, err, len(got))
	}
	<-done
}

// TestLost: what the kernel drops is counted, before and after Close.
func TestLost(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan struct{}, 1)
	l := serve(t, loopback, Options{Workers: 1, Fast: func(Proto, int) wire.Fast {
		return fastFunc(func(q *wire.Query, limit int, out []byte) (int, bool) {
			if string(q.Label(0)) == "hold" {
				entered <- struct{}{}
				<-hold
			}
			return wire.Refuse(q, wire.Refused, out), true
		})
	}})
	c := dial(t, "udp", l.Addr())
	_, _ = c.Write(query(t, 0, "hold.example.", dnswire.TypeA))
	<-entered
	sent, msg := uint64(1), query(t, 1, "www.example.", dnswire.TypeA)
	for l.Stats().Lost < 10 {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	close(hold)
	all := func() uint64 { s := l.Stats(); return s.Queries[UDP][wire.OK] + s.Lost }
	wait.Until(t, "all are answered or lost", func() bool { return all() == sent })
	shut(t, l)
	if got := all(); got != sent {
		t.Errorf("%d of %d are known after Close", got, sent)
	}
}

// TestCloseGivesUp: a slow query that does not end is told to, and Close says so.
func TestCloseGivesUp(t *testing.T) {
	l := serve(t, loopback, Options{Slow: slowly(nil)})
	udp, tcp := dial(t, "udp", l.Addr()), dial(t, "tcp", l.Addr())
	msg := query(t, 1, "wait.example.", dnswire.TypeA)
	_, _ = udp.Write(msg)
	_, _ = tcp.Write(framed(msg))
	wait.Until(t, "slow queries are in work", func() bool { r, _ := l.o.Pool.Load(); return r == 2 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Close(ctx); err == nil {
		t.Error("closed in time")
	}
	wait.Until(t, "slow queries have ended", func() bool { r, _ := l.o.Pool.Load(); return r == 0 })
}

// TestShed: with the pool full the oldest that wait are dropped, the newest answered first, and
// fast queries go on.
func TestShed(t *testing.T) {
	gate := make(chan struct{})
	pool := NewPool(2, 4)
	defer pool.Close()
	l := serve(t, loopback, Options{Workers: 1, Pool: pool, Slow: slowly(gate)})
	c := dial(t, "udp", l.Addr())
	const asked = 20
	for id := range uint16(asked) {
		if _, err := c.Write(query(t, id, "wait.example.", dnswire.TypeA)); err != nil {
			t.Fatal(err)
		}
		if id < 2 { // these run
			wait.Until(t, "it runs", func() bool { r, w := pool.Load(); return r == int(id)+1 && w == 0 })
		}
	}
	wait.Until(t, "the others are shed", func() bool { return pool.Shed() == asked-6 })
	if m := ask(t, c, query(t, 99, "www.example.", dnswire.TypeA)); len(m.Answer) != 1 {
		t.Error("no fast answer under load")
	}
	close(gate)
	var got []uint16
	for range 6 {
		m, err := receive(c)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Id)
	}
	slices.Sort(got)
	if want := []uint16{0, 1, 16, 17, 18, 19}; !slices.Equal(got, want) {
		t.Errorf("answered %v, want %v", got, want)
	}
	if r, w := pool.Load(); w != 0 {
		t.Errorf("%d run, %d wait", r, w)
	}
}

// TestPoolKeepsFew: goroutines of a burst end, but for some.
func TestPoolKeepsFew(t *testing.T) {
	p := NewPool(1000, 1000)
	defer p.Close()
	var ran sync.WaitGroup
	gate := make(chan struct{})
	for range 500 {
		ran.Add(1)
		p.submit(task{run_: func() { <-gate }, done: ran.Done})
	}
	wait.Until(t, "all run", func() bool { r, _ := p.Load(); return r == 500 })
	close(gate)
	ran.Wait()
	wait.Until(t, "goroutines end", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.active == keepIdle && p.idle == keepIdle })
	if p.Shed() != 0 {
		t.Error("shed", p.Shed())
	}
	p.Close()
	ran.Add(1)
	p.submit(task{done: ran.Done}) // too late: dropped
	if ran.Wait(); p.Shed() != 1 {
		t.Error("shed", p.Shed())
	}
}

type task struct{ run_, done func() }

func (t task) run()  { defer t.done(); t.run_() }
func (t task) drop() { t.done() }

// TestNewestFirst: the pool takes what came last.
func TestNewestFirst(t *testing.T) {
	p := NewPool(1, 3)
	defer p.Close()
	gate, started := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var got []string
	note := func(s string) { mu.Lock(); defer mu.Unlock(); got = append(got, s) }
	p.submit(task{run_: func() { close(started); <-gate }, done: func() {}})
	<-started
	var left sync.WaitGroup
	for i := range 5 {
		left.Add(1)
		p.submit(task{run_: func() { note(fmt.Sprint(i)) }, done: left.Done})
	}
	close(gate)
	left.Wait()
	if want := []string{"4", "3", "2"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
}
