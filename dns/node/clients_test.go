package node

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/proxier"
)

// TestClients: pods, the node and those who are named may ask; nobody else, where it is known who pods
// are.
func TestClients(t *testing.T) {
	var log bytes.Buffer
	listen := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("[fd00::1]:53")}
	c := NewClients(listen, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}, slog.New(slog.NewTextHandler(&log, nil)))
	expect := func(when, text string, want bool) {
		t.Helper()
		if got := c.Allowed(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %s may ask: %v, want %v", when, text, got, want)
		}
	}
	var own string
	for a := range localAddrs() {
		own = a.String() // loopback at least
	}
	for text, want := range map[string]bool{"10.244.1.1": false, "198.51.100.1": false, "192.0.2.7": true, own: true, "127.0.0.1": true, "2001:db8::1": false, "fe80::2%eth0": true} {
		expect("at first", text, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	c.Learn(&proxier.Snapshot{Node: &proxier.Node{Pods: proxier.PodMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}}})
	for text, want := range map[string]bool{"10.244.1.1": true, "198.51.100.1": false, "192.0.2.7": true, own: true, "2001:db8::1": true} {
		expect("pods of IPv4 are known", text, want)
	}
	cancel()
	<-done
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "family=IPv6") {
		t.Errorf("log, want a line for IPv6:\n%s", got)
	}
	if n := testing.AllocsPerRun(100, func() { c.Allowed(netip.AddrFrom4([4]byte{198, 51, 100, 1})) }); n != 0 {
		t.Errorf("%v allocations for a question", n)
	}
}
