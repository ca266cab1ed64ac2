package forward

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An ask is one query that a fake upstream got.
type ask struct {
	*dnswire.Msg
	proto string
	from  netip.AddrPort
	conn  int // number of the TCP connection, from 1
}

// A fake is an upstream on loopback that does as it is told: what answer returns is sent, message
// by message.
type fake struct {
	addr   netip.AddrPort
	answer func(ask) [][]byte
	secure *tls.Config // speaks TLS instead of UDP and TCP

	mu   sync.Mutex
	seen []ask
}

func (f *fake) asked() []ask {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]ask(nil), f.seen...)
}

func (f *fake) take(raw []byte, proto string, from net.Addr, conn int) [][]byte {
	m := new(dnswire.Msg)
	if m.Unpack(raw) != nil {
		return nil
	}
	ap, _ := netip.ParseAddrPort(from.String())
	a := ask{m, proto, ap, conn}
	f.mu.Lock()
	f.seen = append(f.seen, a)
	f.mu.Unlock()
	return f.answer(a)
}

// start makes the fake listen, on UDP and TCP with the same port, until the test ends.
func (f *fake) start(t testing.TB) *fake {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	for range 50 {
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		tcp.Close()
	}
	if udp == nil {
		t.Fatal("no port that is free for UDP and TCP")
	}
	f.addr = netip.MustParseAddrPort(tcp.Addr().String())
	var all sync.WaitGroup
	all.Go(func() { f.datagrams(udp, &all) })
	all.Go(func() { f.streams(tcp, &all) })
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		all.Wait()
	})
	return f
}

func (f *fake) datagrams(udp net.PacketConn, all *sync.WaitGroup) {
	for {
		buf := make([]byte, 65535)
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			return
		}
		all.Go(func() {
			for _, b := range f.take(buf[:n], "udp", from, 0) {
				udp.WriteTo(b, from)
			}
		})
	}
}

func (f *fake) streams(tcp net.Listener, all *sync.WaitGroup) {
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			c.Close()
		}
	}()
	for n := 1; ; n++ {
		c, err := tcp.Accept()
		if err != nil {
			return
		}
		if f.secure != nil {
			c = tls.Server(c, f.secure)
		}
		mu.Lock()
		open[c] = true
		mu.Unlock()
		all.Go(func() {
			defer c.Close()
			f.stream(c, n)
		})
	}
}

// stream serves one connection. A nil message among the answers closes it.
func (f *fake) stream(c net.Conn, number int) {
	for {
		var l [2]byte
		if _, err := io.ReadFull(c, l[:]); err != nil {
			return
		}
		raw := make([]byte, binary.BigEndian.Uint16(l[:]))
		if _, err := io.ReadFull(c, raw); err != nil {
			return
		}
		for _, b := range f.take(raw, "tcp", c.RemoteAddr(), number) {
			if b == nil {
				return
			}
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
		}
	}
}

// packed is a message as an upstream sends it.
func packed(m *dnswire.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// records parses records, one an argument.
func records(lines ...string) (out []dnswire.RR) {
	for _, l := range lines {
		rr, err := dnswire.NewRR(l)
		if err != nil {
			panic(err)
		}
		out = append(out, rr)
	}
	return out
}

// says makes a reply to a query.
func (a ask) says(rcode int, answer ...string) *dnswire.Msg {
	m := new(dnswire.Msg)
	m.SetRcode(a.Msg, rcode)
	m.RecursionAvailable = true
	m.Answer = records(answer...)
	if a.IsEdns0() != nil {
		m.SetEdns0(1232, false)
	}
	return m
}

// always answers every A query with one address.
func always(addr string) func(ask) [][]byte {
	return func(a ask) [][]byte {
		return [][]byte{packed(a.says(0, a.Question[0].Name+" 60 IN A "+addr))}
	}
}

func silent(ask) [][]byte { return nil }

// quick is a directive with the defaults of a Corefile, but for waits that no test comes to the end
// of, and health checks one after the other.
func quick(to ...*fake) *corefile.Forward {
	d := &corefile.Forward{From: ".", Expire: 10 * time.Second, ReadTimeout: time.Minute, MaxFails: 2,
		MaxConnectAttempts: -1, Policy: "sequential", HealthCheck: 5 * time.Millisecond, HealthDomain: "."}
	for _, f := range to {
		d.To = append(d.To, corefile.Upstream{Scheme: "dns", Addr: f.addr})
	}
	return d
}

// made makes a Forward that is closed with the test.
func made(t testing.TB, d *corefile.Forward) *Forward {
	t.Helper()
	f, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.limit = time.Minute // a slow machine shall not decide a test
	t.Cleanup(func() { f.Close() })
	return f
}

// request makes a request as a server does, of what [dnstest.Parse] reads.
func request(s string) *plugin.Request {
	m, proto, err := dnstest.Parse(s)
	if err != nil {
		panic(err)
	}
	m.Id = 4711
	return &plugin.Request{Msg: m, Proto: proto, Zone: "."}
}

// serve asks a Forward with nothing behind it.
func serve(f *Forward, s string) plugin.Reply {
	return f.Wrap(plugin.End).Serve(context.Background(), request(s))
}

// waiting is how many clients wait for flights under way.
func waiting(f *Forward) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fl := range f.flights {
		n += fl.clients
	}
	return n
}

// got puts a reply in words: the code and the answer, without TTLs.
func got(p plugin.Reply) string {
	out := dnswire.RcodeToString[p.Code()]
	if p.Msg != nil {
		if p.Msg.Truncated {
			out += " tc"
		}
		for _, rr := range p.Msg.Answer {
			h := rr.Header()
			out += " " + h.Name + " " + strings.TrimPrefix(rr.String(), h.String())
		}
	}
	return out
}
