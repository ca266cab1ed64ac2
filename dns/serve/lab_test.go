package serve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// TestAddresses: on a machine with several links and addresses of both families, replies of a
// wildcard socket come from the address that was asked, that of a link among them. The asking
// sockets are not connected: they would not see a reply from elsewhere. The slow path is told the
// link of a client that has no other address.
func TestAddresses(t *testing.T) {
	netlab.Require(t)
	lab := netlab.New(t, netlab.Options{})
	var l *Listener
	var zones sync.Map // of the clients with a link-local address
	slow := func(ctx context.Context, m *Message, w Writer) {
		if a := m.Client.Addr(); a.IsLinkLocalUnicast() {
			zones.Store(a.Zone(), true)
		}
		slowly(nil)(ctx, m, w)
	}
	if err := lab.In("node-1", func() error { l = serve(t, netip.AddrPort{}, Options{Slow: slow}); return nil }); err != nil {
		t.Fatal(err)
	}
	// A link has its own address some time after it is up.
	asked := map[string][]netip.Addr{}
	for _, place := range []string{"node-1", netlab.Outside} {
		wait.Until(t, "a link-local address in "+place, func() bool {
			err := lab.In(place, func() (err error) { asked[place], err = near(netlab.Addr(netlab.Outside)); return err })
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(asked[place], netip.Addr.IsLinkLocalUnicast)
		})
	}
	// By number: net remembers for a minute which number a name has, and not in which namespace.
	var zone string
	err := lab.In(netlab.Outside, func() error {
		link, err := net.InterfaceByName(asked[netlab.Outside][0].Zone())
		if err == nil {
			zone = strconv.Itoa(link.Index)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := append(asked["node-1"], netlab.Node1Addr, netlab.V6(netlab.Node1Addr))
	err = lab.In(netlab.Outside, func() error {
		for _, a := range all {
			if a = a.WithZone("").Unmap(); a.IsLinkLocalUnicast() {
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
	got := map[any]bool{}
	zones.Range(func(zone, _ any) bool { got[zone] = true; return true })
	if diff := cmp.Diff(map[any]bool{asked["node-1"][0].Zone(): true}, got); diff != "" {
		t.Errorf("zones of clients (-want +got):\n%s", diff)
	}
}

// near returns the addresses of the link that has one in the network of a, each with the link's
// name as zone.
func near(a netip.Addr) ([]netip.Addr, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		all, err := link.Addrs()
		if err != nil {
			return nil, err
		}
		var out []netip.Addr
		found := false
		for _, n := range all {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				found = found || p.Contains(a)
				out = append(out, netip.AddrFrom16(p.Addr().As16()).WithZone(link.Name))
			}
		}
		if found {
			return out, nil
		}
	}
	return nil, nil
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
			source = netip.AddrPortFrom(source.Addr().Unmap().WithZone(to.Addr().Zone()), source.Port())
			if source != to {
				return fmt.Errorf("answered from %v", source)
			}
			return nil
		}
	}
	return err
}
