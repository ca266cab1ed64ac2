package stage

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every address of a cluster must be of its range and belong to one object only.
func TestObjects(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		c := Cluster{Services: 70_000, Endpoints: 2, V6: v6}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		services, endpoints := serviceRange, endpointRange
		if v6 {
			services, endpoints = netlab.V6Prefix(services), netlab.V6Prefix(endpoints)
		}
		seen := map[netip.Addr]bool{}
		add := func(a netip.Addr, r netip.Prefix) {
			t.Helper()
			if seen[a] || !r.Contains(a) {
				t.Fatalf("address %s is used twice or not of %s", a, r)
			}
			seen[a] = true
		}
		for i := range c.Services {
			add(c.Service(i).Addr(), services)
			for e := range c.Endpoints {
				add(c.Endpoint(i, e, 0), endpoints)
			}
		}
		for change := 1; change <= 100; change++ {
			add(c.Endpoint(c.Last(), 0, change), endpoints)
		}
		c.Services = 20
		if n := len(c.Objects()); n != 2+2*c.Services {
			t.Errorf("%d objects", n)
		}
		if n := len(c.Slice(c.Last(), 1).Endpoints); n != 1 {
			t.Errorf("the Service that changes has %d endpoints", n)
		}
	}
}

// The server answers on every endpoint's address, from that address, in both families.
func TestServer(t *testing.T) {
	netlab.Require(t)
	stop := netlab.CloseOnSignal()
	defer stop()
	s, err := Build(Options{Cluster: Cluster{Services: 3, Endpoints: 2}, Subject: Direct})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, v6 := range []bool{false, true} {
		c := s.Cluster
		c.V6 = v6
		for _, at := range []netip.AddrPort{c.Direct(0, 0), c.Direct(2, 0)} {
			var got netip.Addr
			err := s.Lab.In(Client, func() (err error) {
				got, err = Dial(at, 20*time.Second)
				return err
			})
			if err != nil || got != at.Addr() {
				t.Errorf("%s: answer from %s, %v", at, got, err)
			}
		}
	}
	if names := Named("direct", "kube-proxy nftables"); len(names) != 2 || !slices.ContainsFunc(names, func(s Subject) bool { return s.start == nil }) {
		t.Errorf("got %v", names)
	}
}
