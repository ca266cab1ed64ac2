package proxier

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func endpoint(s string) *Endpoint {
	a := netip.MustParseAddrPort(s)
	return &Endpoint{Addr: a.Addr(), Port: a.Port(), Ready: true, Serving: true}
}

// frontendAt returns a sound frontend with a pool of its own.
func frontendAt(at string, kind Kind, endpoints ...string) *Frontend {
	a := netip.MustParseAddrPort(at)
	owner := ServicePortName{NamespacedName: NamespacedName{"shop", at}, Port: "http", Protocol: TCP}
	pool := &Pool{Owner: owner}
	for _, e := range endpoints {
		pool.Endpoints = append(pool.Endpoints, endpoint(e))
	}
	return &Frontend{FrontendKey: FrontendKey{a.Addr(), a.Port(), TCP}, Kind: kind, Owner: owner,
		From: [Origins]Route{{Pool: pool}, {Pool: pool}, {Pool: pool}}}
}

// TestDiff: for any two sorted lists, applying what Diff yields to the first gives the second,
// and nothing is yielded of what they share.
func TestDiff(t *testing.T) {
	var all []*Frontend
	for i := range 12 {
		all = append(all, frontendAt(fmt.Sprintf("10.96.0.%d:80", i), ClusterIP))
	}
	rapid.Check(t, func(t *rapid.T) {
		old, now := &Snapshot{}, &Snapshot{}
		want := map[FrontendKey]string{}
		for _, f := range all {
			switch rapid.IntRange(0, 4).Draw(t, "state") {
			case 1:
				old.Frontends, now.Frontends = append(old.Frontends, f), append(now.Frontends, f)
			case 2:
				old.Frontends = append(old.Frontends, f)
				want[f.FrontendKey] = "gone"
			case 3:
				now.Frontends = append(now.Frontends, f)
				want[f.FrontendKey] = "came"
			case 4:
				other := *f
				old.Frontends, now.Frontends = append(old.Frontends, f), append(now.Frontends, &other)
				want[f.FrontendKey] = "changed"
			}
		}
		if len(old.Frontends) == 0 && rapid.Bool().Draw(t, "nil") {
			old = nil
		}
		got := map[FrontendKey]string{}
		for a, b := range Diff(old, now) {
			switch {
			case a == nil:
				got[b.FrontendKey] = "came"
			case b == nil:
				got[a.FrontendKey] = "gone"
			case a.FrontendKey == b.FrontendKey && a != b:
				got[a.FrontendKey] = "changed"
			default:
				t.Fatalf("%v and %v", a, b)
			}
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b FrontendKey) bool { return a == b })); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestDiffStops: a reader may stop early.
func TestDiffStops(t *testing.T) {
	now := &Snapshot{Frontends: []*Frontend{frontendAt("10.96.0.1:80", ClusterIP), frontendAt("10.96.0.2:80", ClusterIP)}}
	n := 0
	for range Diff(nil, now) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d frontends", n)
	}
}

// TestCheck breaks one promise at a time.
func TestCheck(t *testing.T) {
	sound := func() *Snapshot {
		return &Snapshot{
			Node:     &Node{Pods: PodMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}},
			Services: []*Service{{NamespacedName: NamespacedName{"a", "a"}}, {NamespacedName: NamespacedName{"a", "b"}}},
			Frontends: []*Frontend{
				frontendAt("0.0.0.0:30080", NodePort, "10.244.1.1:8080", "10.244.1.2:8080"),
				frontendAt("10.96.0.1:80", ClusterIP, "10.244.1.1:8080"),
				frontendAt("[fd00::1]:80", ClusterIP, "[fd00:244::1]:8080"),
			},
			HealthPorts: []uint16{1, 2},
		}
	}
	if err := sound().Check(); err != nil {
		t.Fatalf("a sound snapshot: %v", err)
	}
	tests := map[string]struct {
		spoil func(s *Snapshot)
		want  string // part of the error
	}{
		"no node":                  {func(s *Snapshot) { s.Node = nil }, "no node"},
		"services out of order":    {func(s *Snapshot) { s.Services[0], s.Services[1] = s.Services[1], s.Services[0] }, "service a/a is out of order"},
		"a service twice":          {func(s *Snapshot) { s.Services[1] = s.Services[0] }, "service a/a is out of order"},
		"health ports":             {func(s *Snapshot) { s.HealthPorts[0] = 3 }, "health ports"},
		"frontends out of order":   {func(s *Snapshot) { s.Frontends[0], s.Frontends[1] = s.Frontends[1], s.Frontends[0] }, "frontend 0.0.0.0:30080/TCP is out of order"},
		"port 0":                   {func(s *Snapshot) { s.Frontends[1].Port = 0 }, "not a canonical"},
		"mapped address":           {func(s *Snapshot) { s.Frontends[2].Addr = netip.MustParseAddr("::ffff:10.0.0.1") }, "not a canonical"},
		"zone":                     {func(s *Snapshot) { s.Frontends[2].Addr = netip.MustParseAddr("fe80::1%eth0") }, "not a canonical"},
		"kind":                     {func(s *Snapshot) { s.Frontends[1].Kind = NodePort }, "is of kind NodePort"},
		"source of another family": {func(s *Snapshot) { s.Frontends[1].Sources = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} }, "has source fd00::/8"},
		"source with host bits":    {func(s *Snapshot) { s.Frontends[1].Sources = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")} }, "has source 10.1.2.3/8"},
		"no pool":                  {func(s *Snapshot) { s.Frontends[1].From[FromNode].Pool = nil }, "no pool from node"},
		"pods apart, not told":     {func(s *Snapshot) { s.Node.Pods = PodMatch{}; s.Frontends[1].From[FromPod].Masquerade = true }, "treats pods apart"},
		"pool of another":          {func(s *Snapshot) { s.Frontends[1].From[FromPod].Pool.Owner.Name = "other" }, "uses a pool of"},
		"pool not shared": {func(s *Snapshot) {
			other := *s.Frontends[1].From[FromPod].Pool
			s.Frontends[1].From[FromPod].Pool = &other
		}, "does not share the pool"},
		"endpoint of another family": {func(s *Snapshot) {
			s.Frontends[1].From[FromPod].Pool.Endpoints[0] = endpoint("[fd00::2]:80")
		}, "has endpoint [fd00::2]:80"},
		"endpoint twice": {func(s *Snapshot) {
			p := s.Frontends[0].From[FromPod].Pool
			p.Endpoints[1] = p.Endpoints[0]
		}, "endpoint 10.244.1.1:8080 out of order"},
	}
	for name, tc := range tests {
		s := sound()
		tc.spoil(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestLookups(t *testing.T) {
	s := &Snapshot{}
	for i := range 9 {
		s.Services = append(s.Services, &Service{NamespacedName: NamespacedName{fmt.Sprintf("ns-%d", i/3), fmt.Sprintf("svc-%d", i%3)},
			Ports: []ServicePort{{Name: "a", Protocol: TCP}, {Name: "a", Protocol: UDP}}})
	}
	for _, svc := range s.Services {
		if got := s.Service(svc.NamespacedName); got != svc {
			t.Errorf("%s: found %v", svc.NamespacedName, got)
		}
	}
	for _, name := range []NamespacedName{{"", ""}, {"ns-0", "svc-9"}, {"ns-9", ""}} {
		if got := s.Service(name); got != nil {
			t.Errorf("%s: found %v", name, got)
		}
	}
	if p := s.Services[0].Port("a", UDP); p == nil || p.Protocol != UDP {
		t.Errorf("port a/UDP: %v", p)
	}
	if p := s.Services[0].Port("a", SCTP); p != nil {
		t.Errorf("port a/SCTP: %v", p)
	}
}

// TestNames pins the words that people and scripts read.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		TCP.String() + UDP.String() + SCTP.String():                          "TCPUDPSCTP",
		Protocol(1).String():                                                 "Protocol(1)",
		fmt.Sprint(ClusterIP, NodePort, ExternalIP, LoadBalancer, Kind(9)):   "ClusterIP NodePort ExternalIP LoadBalancer Kind(9)",
		fmt.Sprint(FromPod, FromNode, FromOutside, Origins):                  "pod node outside Origin(3)",
		fmt.Sprint(Reject, Drop, Everywhere, ThisNode):                       "reject drop everywhere this-node",
		fmt.Sprint(Random, RoundRobin, LeastConnections, Maglev, Weighted):   "random round-robin least-connections maglev weighted",
		FrontendKey{netip.MustParseAddr("fd00::1"), 80, SCTP}.String():       "[fd00::1]:80/SCTP",
		ServicePortName{NamespacedName{"a", "b"}, "c", TCP}.String():         "a/b:c",
		ServicePortName{NamespacedName{"a", "b"}, "", TCP}.String():          "a/b",
		Problem{"Service", NamespacedName{"a", "b"}, "Why", "what"}.String(): "Service a/b: Why: what",
		Changes{1, 2, 3, 4, true}.String():                                   "added=1 updated=2 removed=3 lines=4",
		(&OpError{"iptables-restore", "ip nat", fmt.Errorf("no")}).Error():   "iptables-restore ip nat: no",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
