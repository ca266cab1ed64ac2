package cache_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/cache"
	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/forward"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/file"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
)

const recordings = "../testdata/coredns"

// authority serves the zone that CoreDNS's forwarders asked while it was recorded.
func authority(t *testing.T) netip.AddrPort {
	t.Helper()
	f, err := file.New(&corefile.File{Zones: []corefile.FileZone{{Zone: "example.com.", Path: recordings + "/db.example.com"}}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	chain := plugin.Chain(f)
	handler := dnswire.HandlerFunc(func(w dnswire.ResponseWriter, q *dnswire.Msg) {
		r := &plugin.Request{Msg: q, Proto: w.LocalAddr().Network(), Zone: "."}
		m := chain.Serve(context.Background(), r).Own(r).Msg
		for _, rr := range m.Ns { // the recorded authority did not follow RFC 2308, 5
			if soa, ok := rr.(*dnswire.SOA); ok {
				soa.Hdr.Ttl = 3600
			}
		}
		limit := dnswire.MaxMsgSize
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(opt.UDPSize(), opt.Do())
		}
		if r.Proto == "udp" {
			if limit = dnswire.MinMsgSize; q.IsEdns0() != nil {
				limit = int(q.IsEdns0().UDPSize())
			}
		}
		m.Truncate(limit)
		w.WriteMsg(m)
	})
	tcp, udp := listen(t)
	var up sync.WaitGroup
	for _, s := range []*dnswire.Server{{Listener: tcp, Handler: handler}, {PacketConn: udp, Handler: handler}} {
		up.Add(1)
		s.NotifyStartedFunc = up.Done
		ended := make(chan struct{})
		go func() {
			s.ActivateAndServe()
			close(ended)
		}()
		t.Cleanup(func() {
			s.Shutdown()
			<-ended
		})
	}
	t.Cleanup(func() { f.Close() })
	up.Wait()
	return netip.MustParseAddrPort(tcp.Addr().String())
}

// listen finds a port that is free for TCP and UDP.
func listen(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 50 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for TCP and UDP")
	return nil, nil
}

// TestRecorded compares answers for names outside of the cluster with those that CoreDNS gave: with
// forward alone, and with forward behind kubeadm's cache, where each is asked three times: of the
// upstream, of the slow path and of the fast path.
func TestRecorded(t *testing.T) {
	f, err := forward.New(&corefile.Forward{From: ".", To: []corefile.Upstream{{Scheme: "dns", Addr: authority(t)}},
		Expire: 10 * time.Second, ReadTimeout: time.Minute, MaxFails: 2, MaxConnectAttempts: -1, HealthDomain: "."}, forward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := cache.New(&corefile.Cache{Zones: []string{"."}, SuccessCap: 9984, SuccessTTL: 30 * time.Second, SuccessMinTTL: 5 * time.Second,
		DenialCap: 9984, DenialTTL: 30 * time.Second, DenialMinTTL: 5 * time.Second, ServfailTTL: 5 * time.Second}, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	compared := 0
	for name, chain := range map[string]plugin.Handler{"plain": plugin.Chain(f), "kubeadm": plugin.Chain(c, f)} {
		answers, err := dnstest.Load(recordings, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range answers {
			if q, _, _ := strings.Cut(want.Q, " "); !strings.HasSuffix(q, "example.com") {
				continue
			}
			compared++
			q, proto, err := dnstest.Parse(want.Q)
			if err != nil {
				t.Fatal(err)
			}
			aged := dnstest.Options{Aging: func(string) bool { return name == "kubeadm" }}
			for range 2 {
				r := &plugin.Request{Msg: q, Proto: proto, Zone: "."}
				m := chain.Serve(context.Background(), r).Own(r).Msg
				if proto == "udp" {
					m.Truncate(dnswire.MinMsgSize)
				}
				for _, wrong := range dnstest.Compare(want, dnstest.Of(want.Q, m), aged) {
					t.Errorf("%s, %s: %s", name, want.Q, wrong)
				}
			}
			if name == "kubeadm" {
				m := fast(t, c, q, proto)
				for _, wrong := range dnstest.Compare(want, dnstest.Of(want.Q, m), aged) {
					t.Errorf("%s, %s, fast: %s", name, want.Q, wrong)
				}
			}
		}
	}
	if compared < 14 {
		t.Errorf("only %d answers were compared", compared)
	}
}

func fast(t *testing.T, c *cache.Cache, m *dnswire.Msg, proto string) *dnswire.Msg {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if v := q.Parse(raw); v != wire.OK {
		t.Fatal("verdict", v)
	}
	out := make([]byte, 65535)
	limit := len(out)
	if proto == "udp" {
		limit = q.Limit(1232)
	}
	n, ok := c.Answer(&q, limit, out)
	if !ok {
		t.Fatalf("%v is no hit", m.Question)
	}
	got := new(dnswire.Msg)
	if err := got.Unpack(out[:n]); err != nil {
		t.Fatal(err)
	}
	return got
}
