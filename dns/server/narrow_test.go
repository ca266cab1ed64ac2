package server

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/serve"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// In a pod, queries to its only address come to a socket of that address, and all others to the
// wildcard. A block that is bound to the address has it for itself, from the reload on that brings
// it to the one that takes it away, and nobody who asks meanwhile is left without an answer.
func TestNarrow(t *testing.T) {
	netlab.Require(t)
	lab := netlab.New(t, netlab.Options{Pods: []string{"a"}})
	const port = 5300
	pod, home := netip.AddrPortFrom(netlab.Addr("a"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	block := func(zone, bind, data string) string {
		return fmt.Sprintf("%s:%d {\n%s\ntemplate IN A {\nanswer \"{{ .Name }} 60 IN A %s\"\n}\n}\n", zone, port, bind, data)
	}
	alone := block(".", "", "192.0.2.1")
	beside := alone + block("example.", "bind "+pod.Addr().String(), "192.0.2.2")
	f := newFixture(t, alone, newCluster())
	f.in = func(run func() error) error { return lab.In("a", run) }
	f.run()
	ask := func(at netip.AddrPort) (got string) {
		t.Helper()
		if err := lab.In("a", func() error {
			c := &dnswire.Client{Timeout: patience}
			m, _, err := c.Exchange(question("www.example.", dnswire.TypeA), at.String())
			if err == nil {
				got = answer(m)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	queries := func(addr netip.Addr) uint64 {
		f.Server.mu.Lock()
		defer f.Server.mu.Unlock()
		return f.listeners[netip.AddrPortFrom(addr, port)].Stats().Queries[serve.UDP][wire.OK]
	}
	for range 3 {
		for at, want := range map[netip.AddrPort]string{pod: "NOERROR 192.0.2.1", home: "NOERROR 192.0.2.1"} {
			if got := ask(at); got != want {
				t.Errorf("%v: %s, want %s", at, got, want)
			}
		}
	}
	// A query is counted after it was answered.
	wait.For(t, "queries of the socket of the address and of the wildcard", [2]uint64{3, 3}, func() [2]uint64 {
		return [2]uint64{queries(pod.Addr()), queries(netip.Addr{})}
	})
	l := &load{stop: make(chan struct{})}
	for _, proto := range []string{"udp", "tcp"} {
		l.running.Go(func() {
			if err := lab.In("a", func() error {
				l.ask(t, proto, pod.String(), "www.example.", func(m *dnswire.Msg) bool { return len(m.Answer) == 1 })
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 {
		for i, text := range []string{beside, alone} {
			want := []string{"NOERROR 192.0.2.2", "NOERROR 192.0.2.1"}[i]
			f.write(text)
			if err := lab.In("a", func() error { return f.Reload(t.Context()) }); err != nil {
				t.Fatal(err)
			}
			if got := ask(pod); got != want {
				t.Errorf("%s, want %s of\n%s", got, want, text)
			}
			if got, want := ask(home), "NOERROR 192.0.2.1"; got != want {
				t.Errorf("loopback: %s, want %s", got, want)
			}
		}
	}
	if l.end(); l.lost.Load() > 0 || l.wrong.Load() > 0 || l.asked.Load() == 0 {
		t.Errorf("of %d queries %d were lost, %d wrong", l.asked.Load(), l.lost.Load(), l.wrong.Load())
	}
}

func TestOnlyAddrs(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for name, tt := range map[string]struct{ have, want []netip.Addr }{
		"pod":       {addrs("10.0.0.1"), addrs("10.0.0.1")},
		"dual":      {addrs("10.0.0.1", "fd00::1"), addrs("10.0.0.1", "fd00::1")},
		"node":      {addrs("10.0.0.1", "169.254.20.10", "fd00::1"), addrs("fd00::1")},
		"two nodes": {addrs("10.0.0.1", "10.0.0.2"), nil},
	} {
		if got := onlyAddrs(tt.have); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
