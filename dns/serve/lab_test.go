package serve

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// TestAddresses: on a machine with several links and addresses of both families, replies of a
// wildcard socket come from the address that was asked, that of a link among them. The asking
// sockets are not connected: they would not see a reply from elsewhere.
func TestAddresses(t *testing.T) {
	netlab.Require(t)
	lab := netlab.New(t, netlab.Options{})
	var l *Listener
	asked := []netip.Addr{netlab.Node1Addr, netlab.V6(netlab.Node1Addr)}
	err := lab.In("node-1", func() error {
		l = serve(t, netip.AddrPort{}, Options{})
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, link := range links {
			all, err := link.Addrs()
			if err != nil {
				return err
			}
			if near := linkTo(all, netlab.Addr(netlab.Outside)); near != nil {
				asked = append(asked, near...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(asked, netip.Addr.IsLinkLocalUnicast) || len(asked) < 5 {
		t.Fatalf("only %v on node-1", asked)
	}
	err = lab.In(netlab.Outside, func() error {
		zone := ""
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, link := range links {
			if all, _ := link.Addrs(); linkTo(all, netlab.Addr(netlab.Outside)) != nil {
				zone = link.Name
			}
		}
		for _, a := range asked {
			if a.IsLinkLocalUnicast() {
				a = a.WithZone(zone)
			}
			for _, name := range []string{"www.example.", "slow.example."} {
				if err := askFrom(t, netip.AddrPortFrom(a, l.Addr().Port()), name); err != nil {
					t.Errorf("%s of %v: %v", name, a, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// linkTo returns the addresses of a link if one of them is in the network of a.
func linkTo(all []net.Addr, a netip.Addr) (out []netip.Addr) {
	near := false
	for _, n := range all {
		p, err := netip.ParsePrefix(n.String())
		if err != nil {
			continue
		}
		near = near || p.Contains(a)
		out = append(out, p.Addr())
	}
	if !near {
		return nil
	}
	return out
}

func askFrom(t *testing.T, to netip.AddrPort, name string) error {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	// A datagram may be lost while a link comes up.
	for range 20 {
		if _, err = c.WriteToUDPAddrPort(query(t, 3, name, dnswire.TypeA), to); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		var source netip.AddrPort
		if _, source, err = c.ReadFromUDPAddrPort(make([]byte, 512)); err == nil {
			if source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port()); source != to {
				return fmt.Errorf("answered from %v", source)
			}
			return nil
		}
	}
	return err
}
