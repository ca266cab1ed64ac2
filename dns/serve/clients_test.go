package serve

import (
	"net"
	"net/netip"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/proxier/wait"
)

// TestClients: who may not ask gets nothing, is not parsed, and is counted; others do not notice.
func TestClients(t *testing.T) {
	stranger := netip.MustParseAddr("127.0.0.2")
	l := serve(t, loopback, Options{Workers: 1, Clients: func(a netip.Addr) bool { return a != stranger }})
	exchange := func(network, from string, patience time.Duration) error {
		ip := net.ParseIP(from)
		d := &net.Dialer{LocalAddr: &net.UDPAddr{IP: ip}}
		if network == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: ip}
		}
		c := dnswire.Client{Net: network, Dialer: d, Timeout: patience}
		_, _, err := c.Exchange(new(dnswire.Msg).SetQuestion("example.org.", dnswire.TypeA), l.Addr().String())
		return err
	}
	for _, network := range []string{"udp", "tcp"} {
		if err := exchange(network, stranger.String(), 200*time.Millisecond); err == nil {
			t.Errorf("a stranger is answered over %s", network)
		}
		if err := exchange(network, "127.0.0.1", patience); err != nil {
			t.Errorf("over %s: %v", network, err)
		}
	}
	wait.For(t, "strangers", 2, func() uint64 { return l.Stats().Strange })
}
