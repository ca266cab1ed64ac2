package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is for what must happen, however slow the machine.
const patience = 30 * time.Second

// answering is a Fast: names that begin with "slow" or "wait" are not for it, "panic" panics, "big"
// has an answer of its type as a number of addresses, all others have one address.
type answering struct {
	done atomic.Int64 // calls of Done
}

func (a *answering) Done(time.Duration) { a.done.Add(1) }

func (a *answering) Answer(q *wire.Query, limit int, out []byte) (int, bool) {
	n := 1
	if q.Labels() > 0 {
		switch string(q.Label(0)) {
		case "slow", "wait":
			return 0, false
		case "panic":
			panic("asked to")
		case "big":
			n = int(q.Type)
		}
	}
	b := wire.Begin(q, limit, out)
	for i := range n {
		if !b.Record(wire.Answer, wire.Asked, wire.TypeA, 30, []byte{192, 0, byte(i >> 8), byte(i)}) {
			b.Truncate()
			break
		}
	}
	return b.Finish(wire.FlagAA, wire.Success), true
}

// slowly answers with the text "slow". What begins with "wait" waits for the gate, or the end.
func slowly(gate <-chan struct{}) Slow {
	return func(ctx context.Context, m *Message, w Writer) {
		var q wire.Query
		var out [512]byte
		if v := q.Parse(m.Msg); v != wire.OK && v != wire.Slow {
			panic(fmt.Sprintf("a query with verdict %d is in the pool", v))
		}
		first := ""
		if q.Labels() > 0 {
			first = string(q.Label(0))
		}
		switch first {
		case "wait":
			select {
			case <-gate:
			case <-ctx.Done():
				return
			}
		case "panic":
			panic("asked to")
		}
		b := wire.Begin(&q, 512, out[:])
		b.Record(wire.Answer, wire.Asked, wire.TypeTXT, 30, append([]byte{byte(len(m.Local.String()))}, m.Local.String()...))
		_ = w.Write(out[:b.Finish(0, wire.Success)])
	}
}

var loopback = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// serve starts a listener that is closed with the test.
func serve(t testing.TB, addr netip.AddrPort, o Options) *Listener {
	t.Helper()
	if o.Fast == nil {
		o.Fast = func(Proto, int) wire.Fast { return &answering{} }
	}
	if o.Slow == nil {
		o.Slow = slowly(nil)
	}
	if o.Workers == 0 { // two sockets, however few cores there are
		o.Workers = 4
	}
	for _, p := range []*time.Duration{&o.FirstTimeout, &o.IdleTimeout, &o.WriteTimeout} {
		if *p == 0 { // no test depends on the machine being quick
			*p = patience
		}
	}
	l, err := Listen(addr, o)
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() { shut(t, l) })
	return l
}

func shut(t testing.TB, l *Listener) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

// query packs a question.
func query(t testing.TB, id uint16, name string, typ uint16) []byte {
	t.Helper()
	m := new(dnswire.Msg)
	m.SetQuestion(name, typ)
	m.Id = id
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dial connects to a listener over UDP or TCP; the connection is closed with the test.
func dial(t testing.TB, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(loopback.Addr(), to.Port())
	}
	c, err := net.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// framed puts the length before each message, for TCP.
func framed(msgs ...[]byte) (out []byte) {
	for _, m := range msgs {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	return out
}

// receive reads one reply.
func receive(c net.Conn) (*dnswire.Msg, error) {
	buf := make([]byte, maxFrame)
	n := 0
	var err error
	if _, stream := c.(*net.TCPConn); stream {
		if _, err = io.ReadFull(c, buf[:2]); err == nil {
			n, err = io.ReadFull(c, buf[:binary.BigEndian.Uint16(buf)])
		}
	} else {
		n, err = c.Read(buf)
	}
	if err != nil {
		return nil, err
	}
	m := new(dnswire.Msg)
	return m, m.Unpack(buf[:n])
}

// ask sends one query and returns its reply.
func ask(t testing.TB, c net.Conn, msg []byte) *dnswire.Msg {
	t.Helper()
	b := msg
	if _, stream := c.(*net.TCPConn); stream {
		b = framed(msg)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	m, err := receive(c)
	if err != nil {
		t.Fatal(err)
	}
	if m.Id != binary.BigEndian.Uint16(msg) {
		t.Fatalf("reply with id %d to query %x", m.Id, msg)
	}
	return m
}

func TestExchange(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var panics atomic.Int32
			l := serve(t, loopback, Options{Panic: func(any) { panics.Add(1) }})
			c := dial(t, network, l.Addr())
			if m := ask(t, c, query(t, 1, "WWW.example.", dnswire.TypeA)); len(m.Answer) != 1 || m.Answer[0].Header().Name != "WWW.example." || !m.Authoritative {
				t.Errorf("fast: %v", m)
			}
			if m := ask(t, c, query(t, 2, "slow.example.", dnswire.TypeA)); len(m.Answer) != 1 || m.Answer[0].(*dnswire.TXT).Txt[0] != l.Addr().String() {
				t.Errorf("slow: %v", m)
			}
			if m := ask(t, c, query(t, 3, "panic.example.", dnswire.TypeA)); m.Rcode != dnswire.RcodeServerFailure || len(m.Question) != 1 {
				t.Errorf("panic: %v", m)
			}
			bad := query(t, 4, "www.example.", dnswire.TypeA)
			bad[5] = 2 // questions
			if m := ask(t, c, bad); m.Rcode != dnswire.RcodeFormatError {
				t.Errorf("malformed: %v", m)
			}
			bad[2] = 5 << 3 // UPDATE
			if m := ask(t, c, bad); m.Rcode != dnswire.RcodeNotImplemented || m.Opcode != dnswire.OpcodeUpdate {
				t.Errorf("update: %v", m)
			}
			if m := ask(t, c, query(t, 5, "big.example.", 5000)); network == "tcp" && (len(m.Answer) < 4000 || !m.Truncated) ||
				network == "udp" && (len(m.Answer) != 30 || !m.Truncated) {
				t.Errorf("big: %d answers, truncated %v", len(m.Answer), m.Truncated)
			}
			// The same with all slow, and a panic there.
			odd := query(t, 6, "panic.example.", dnswire.TypeA)
			odd[7] = 1 // an answer, which is missing: for the slow path to see
			if m := ask(t, c, odd); m.Rcode != dnswire.RcodeServerFailure {
				t.Errorf("slow panic: %v", m)
			}
			if panics.Load() != 2 {
				t.Errorf("%d panics were told", panics.Load())
			}
			p := UDP
			if network == "tcp" {
				p = TCP
			}
			shut(t, l)
			s := l.Stats()
			if want := [wire.NumVerdicts]uint64{wire.OK: 4, wire.Slow: 1, wire.BadForm: 1, wire.BadOpcode: 1}; s.Queries[p] != want || s.Slow[p] != 2 || s.Panics != 1 {
				t.Errorf("stats %+v, want %v", s, want)
			}
		})
	}
}

// TestReplySource: a reply comes from the address that was asked, and the slow path is told both
// addresses as they are, IPv4 never mapped.
func TestReplySource(t *testing.T) {
	type seen struct{ client, local netip.AddrPort }
	last := make(chan seen, 1)
	slow := func(ctx context.Context, m *Message, w Writer) {
		last <- seen{m.Client, m.Local}
		slowly(nil)(ctx, m, w)
	}
	anywhere := map[string]netip.AddrPort{"both families": {}, "IPv4": netip.AddrPortFrom(netip.IPv4Unspecified(), 0), "IPv6": netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}
	for name, addr := range anywhere {
		t.Run(name, func(t *testing.T) {
			l := serve(t, addr, Options{Slow: slow})
			asked := []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}
			if name != "IPv4" {
				asked = append(asked, "::1")
			}
			for _, a := range asked {
				to := netip.AddrPortFrom(netip.MustParseAddr(a), l.Addr().Port())
				// Not connected: a reply from elsewhere would not reach a connected socket, which
				// is no way to see where it came from.
				c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr(), 0)))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				for _, q := range []string{"www.example.", "slow.example."} {
					if _, err := c.WriteToUDPAddrPort(query(t, 7, q, dnswire.TypeA), to); err != nil {
						t.Fatal(err)
					}
					buf := make([]byte, 512)
					n, from, err := c.ReadFromUDPAddrPort(buf)
					if from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); err != nil || from != to {
						t.Fatalf("%s asked of %v was answered from %v, %v", q, to, from, err)
					}
					if new(dnswire.Msg).Unpack(buf[:n]) != nil {
						t.Errorf("malformed reply %x", buf[:n])
					}
				}
				mine := c.LocalAddr().(*net.UDPAddr).AddrPort()
				if got := <-last; got.local != to || got.client != netip.AddrPortFrom(mine.Addr().Unmap(), mine.Port()) {
					t.Errorf("the slow path was told %v, want client %v, local %v", got, mine, to)
				}
			}
		})
	}
}

// TestWorkers: there are half as many UDP sockets as workers over TCP, at least one, and each worker
// has a number of its own, from 0.
func TestWorkers(t *testing.T) {
	for workers, want := range map[int][2]int{1: {1, 1}, 2: {1, 2}, 3: {2, 3}, 4: {2, 4}} {
		var got [2][]int
		l, err := Listen(loopback, Options{Workers: workers, Slow: slowly(nil), Fast: func(p Proto, n int) wire.Fast {
			if n == 0 { // another port is tried
				got[p] = nil
			}
			got[p] = append(got[p], n)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		shut(t, l)
		for p, n := range want {
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			if diff := cmp.Diff(all, got[p]); diff != "" {
				t.Errorf("%d workers, %v (-want +got):\n%s", workers, Proto(p), diff)
			}
		}
	}
}

// TestFamily: V6 and TCP of a query are those of the client.
func TestFamily(t *testing.T) {
	type how struct{ v6, tcp bool }
	last := make(chan how, 1)
	l := serve(t, netip.AddrPort{}, Options{Fast: func(Proto, int) wire.Fast {
		return fastFunc(func(q *wire.Query, limit int, out []byte) (int, bool) {
			last <- how{q.V6, q.TCP}
			return wire.Refuse(q, wire.Refused, out), true
		})
	}})
	for _, network := range []string{"udp", "tcp"} {
		for _, a := range []string{"127.0.0.1", "::1"} {
			ask(t, dial(t, network, netip.AddrPortFrom(netip.MustParseAddr(a), l.Addr().Port())), query(t, 1, "a.", dnswire.TypeA))
			if got, want := <-last, (how{a == "::1", network == "tcp"}); got != want {
				t.Errorf("%s %s: %+v", network, a, got)
			}
		}
	}
}

type fastFunc func(q *wire.Query, limit int, out []byte) (int, bool)

func (f fastFunc) Answer(q *wire.Query, limit int, out []byte) (int, bool) { return f(q, limit, out) }

// TestLongQuery: more than 512 bytes arrive whole, more than maxDatagram are malformed.
func TestLongQuery(t *testing.T) {
	l := serve(t, loopback, Options{})
	m := new(dnswire.Msg)
	m.SetQuestion("www.example.", dnswire.TypeA)
	for _, size := range []int{1000, maxDatagram - 100, maxDatagram + 100} {
		m.Extra = nil
		m.SetEdns0(4096, false)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dnswire.EDNS0_PADDING{Padding: make([]byte, size)})
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		want := dnswire.RcodeSuccess
		if size > maxDatagram {
			want = dnswire.RcodeFormatError
		}
		if got := ask(t, dial(t, "udp", l.Addr()), b); got.Rcode != want {
			t.Errorf("%d bytes: %v", len(b), got)
		}
	}
}

func TestListenErrors(t *testing.T) {
	if _, err := Listen(loopback, Options{}); err == nil {
		t.Error("a listener without a slow path")
	}
	if _, err := Listen(netip.MustParseAddrPort("192.0.2.1:0"), Options{Slow: slowly(nil)}); err == nil {
		t.Error("listening on an address that is not here")
	}
	if _, err := Listen(netip.MustParseAddrPort("[fe80::1%nowhere]:0"), Options{Slow: slowly(nil)}); err == nil {
		t.Error("listening on a link that is not here")
	}
	// Taken for TCP by somebody who does not share.
	c, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Listen(netip.MustParseAddrPort(c.Addr().String()), Options{Slow: slowly(nil)}); err == nil {
		t.Error("listening on a port that is taken")
	}
}

// TestNotStarted: a listener that never served can be closed, and its port taken again.
func TestNotStarted(t *testing.T) {
	l, err := Listen(loopback, Options{Slow: slowly(nil)})
	if err != nil {
		t.Fatal(err)
	}
	shut(t, l)
	shut(t, l)
	l.Start() // too late: nothing
	c, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestBeforeStart: what arrives before Start is answered after.
func TestBeforeStart(t *testing.T) {
	l, err := Listen(loopback, Options{Slow: slowly(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, l)
	udp, tcp := dial(t, "udp", l.Addr()), dial(t, "tcp", l.Addr())
	msg := query(t, 9, "slow.example.", dnswire.TypeA)
	for c, b := range map[net.Conn][]byte{udp: msg, tcp: framed(msg)} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	l.Start()
	for _, c := range []net.Conn{udp, tcp} {
		if m, err := receive(c); err != nil || m.Id != 9 {
			t.Errorf("%v, %v", m, err)
		}
	}
}

// TestGarbageIsSilent: replies and fragments get no answer, and harm nobody.
func TestGarbageIsSilent(t *testing.T) {
	l := serve(t, loopback, Options{Workers: 1})
	c := dial(t, "udp", l.Addr())
	reply := query(t, 1, "www.example.", dnswire.TypeA)
	reply[2] |= 0x80
	for _, b := range [][]byte{{}, {1}, bytes.Repeat([]byte{0xff}, 2000), reply} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if m := ask(t, c, query(t, 2, "www.example.", dnswire.TypeA)); m.Id != 2 { // the first and only
		t.Error(m)
	}
}
