package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait. It is long because the machine may be busy.
const patience = 30 * time.Second

// listen serves on an address, over UDP and TCP; port 0 is any.
func listen(t *testing.T, at string) (addr netip.AddrPort, end func()) {
	t.Helper()
	handler := dnswire.HandlerFunc(func(w dnswire.ResponseWriter, r *dnswire.Msg) {
		_ = w.WriteMsg(new(dnswire.Msg).SetRcode(r, dnswire.RcodeRefused)) // the test notices
	})
	for range 100 { // until a port is free for both
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			continue
		}
		servers := []*dnswire.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler}}
		for _, s := range servers {
			started, ended := make(chan struct{}), make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go func() { defer close(ended); _ = s.ActivateAndServe() }()
			<-started
			t.Cleanup(func() { _ = s.Shutdown(); <-ended }) // it may have ended already
		}
		return netip.MustParseAddrPort(l.Addr().String()), func() {
			for _, s := range servers {
				if err := s.Shutdown(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Fatal("no free port")
	return addr, nil
}

// TestWatch: a resolver answers when it is ready and can be asked at all addresses, and ceases to when
// one of them is gone.
func TestWatch(t *testing.T) {
	one, _ := listen(t, "127.0.0.1:0")
	two, end := listen(t, "127.0.0.2:0")
	var ready atomic.Bool
	var asked atomic.Int64
	told := make(chan bool, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch{Addrs: []netip.AddrPort{one, two}, Zone: "cluster.local", Interval: 8 * time.Millisecond, Timeout: patience, Misses: 2,
			Ready:   func() bool { asked.Add(1); return ready.Load() },
			Changed: func(answers bool) { told <- answers }, Log: slog.New(slog.DiscardHandler)}.Run(ctx)
	}()
	expect := func(want bool) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Fatalf("it answers: %v, want %v", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("not told that it answers: %v", want)
		}
	}
	for asked.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-told:
		t.Fatal("one that is not ready is said to answer")
	default:
	}
	ready.Store(true)
	expect(true)
	end()
	expect(false)
	again, _ := listen(t, two.String())
	if again != two {
		t.Fatalf("listening at %s, want %s", again, two)
	}
	expect(true)
	ready.Store(false)
	expect(false)
	cancel()
	<-done
}
