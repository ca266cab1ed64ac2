package conntrack

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
)

// cluster builds snapshots by hand: a name and what it has.
type service struct {
	name      string
	protocol  proxier.Protocol
	frontends []string // address:port; 0.0.0.0 or [::] for a NodePort
	serving   []string
	unready   []string // listed, and neither ready nor serving
}

func snapshot(nodePorts string, services ...service) *proxier.Snapshot {
	s := &proxier.Snapshot{Revision: 1, Node: &proxier.Node{Name: "node-1"}}
	if nodePorts != "" {
		s.Node.NodePorts = []netip.Prefix{netip.MustParsePrefix(nodePorts)}
	}
	for _, in := range services {
		if in.protocol == 0 {
			in.protocol = proxier.UDP
		}
		name := proxier.NamespacedName{Namespace: "default", Name: in.name}
		owner := proxier.ServicePortName{NamespacedName: name, Port: "p", Protocol: in.protocol}
		pool := &proxier.Pool{Owner: owner}
		port := proxier.ServicePort{Name: "p", Protocol: in.protocol}
		for _, a := range in.serving {
			ap := netip.MustParseAddrPort(a)
			e := &proxier.Endpoint{Addr: ap.Addr(), Port: ap.Port(), Serving: true}
			port.Endpoints = append(port.Endpoints, e)
			pool.Endpoints = append(pool.Endpoints, e)
		}
		for _, a := range in.unready {
			ap := netip.MustParseAddrPort(a)
			port.Endpoints = append(port.Endpoints, &proxier.Endpoint{Addr: ap.Addr(), Port: ap.Port()})
		}
		s.Services = append(s.Services, &proxier.Service{NamespacedName: name, Ports: []proxier.ServicePort{port}})
		for _, a := range in.frontends {
			ap := netip.MustParseAddrPort(a)
			f := &proxier.Frontend{
				FrontendKey: proxier.FrontendKey{Addr: ap.Addr(), Port: ap.Port(), Protocol: in.protocol},
				Owner:       owner,
			}
			if f.IsNodePort() {
				f.Kind = proxier.NodePort
			}
			for o := range f.From {
				f.From[o].Pool = pool
			}
			s.Frontends = append(s.Frontends, f)
		}
	}
	slices.SortFunc(s.Services, func(a, b *proxier.Service) int { return a.Compare(b.NamespacedName) })
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

const (
	vip  = "10.96.0.10:53"
	vip2 = "10.96.0.20:53"
	np   = "0.0.0.0:30053"
	a    = "10.244.1.11:5353"
	b    = "10.244.1.12:5353"
	node = "192.168.10.1"
	all  = "0.0.0.0/0" // every address serves NodePorts
)

func TestStale(t *testing.T) {
	dns := func(serving ...string) service {
		return service{name: "dns", frontends: []string{vip, np}, serving: serving}
	}
	tests := []struct {
		name      string
		prev, now *proxier.Snapshot
		to, from  string
		zone      uint16
		sctp      bool
		want      bool
	}{
		{name: "endpoint gone", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: vip, from: a, want: true},
		{name: "endpoint still there", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: vip, from: b},
		{name: "endpoint no longer serving", prev: snapshot(all, dns(a)),
			now: snapshot(all, service{name: "dns", frontends: []string{vip}, unready: []string{a}}), to: vip, from: a, want: true},
		{name: "last endpoint gone", prev: snapshot(all, dns(a)), now: snapshot(all, dns()), to: vip, from: a, want: true},
		{name: "endpoint added", prev: snapshot(all, dns(a)), now: snapshot(all, dns(a, b)), to: vip, from: "9.9.9.9:1"},
		{name: "other service", prev: snapshot(all, dns(a, b), service{name: "x", frontends: []string{vip2}, serving: []string{b}}),
			now: snapshot(all, dns(b), service{name: "x", frontends: []string{vip2}, serving: []string{b}}), to: "10.96.0.30:53", from: a},

		{name: "new address, flow not translated", prev: snapshot(all), now: snapshot(all, dns(a)), to: vip, from: vip, want: true},
		{name: "new address, flow of the new endpoint", prev: snapshot(all), now: snapshot(all, dns(a)), to: vip, from: a},
		{name: "new address without endpoints", prev: snapshot(all), now: snapshot(all, dns()), to: vip, from: vip, want: true},

		{name: "service deleted", prev: snapshot(all, dns(a)), now: snapshot(all), to: vip, from: a, want: true},
		{name: "service deleted, flow translated by someone else", prev: snapshot(all, dns(a)), now: snapshot(all), to: vip, from: "9.9.9.9:1"},
		{name: "service deleted, flow not translated", prev: snapshot(all, dns(a)), now: snapshot(all), to: vip, from: vip},
		{name: "node port deleted", prev: snapshot(all, dns(a)), now: snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{a}}),
			to: node + ":30053", from: a, want: true},
		{name: "node port deleted, cluster ip flow", prev: snapshot(all, dns(a)), now: snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{a}}),
			to: vip, from: a},
		{name: "node port changed, new port", prev: snapshot(all, dns(a)), now: snapshot(all, service{name: "dns", frontends: []string{vip, "0.0.0.0:30054"}, serving: []string{a}}),
			to: node + ":30054", from: node + ":30054", want: true},
		{name: "address handed to another service", prev: snapshot(all, service{name: "x", frontends: []string{vip}, serving: []string{a}}),
			now: snapshot(all, service{name: "y", frontends: []string{vip}, serving: []string{b}}), to: vip, from: a, want: true},

		{name: "node port, endpoint gone", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: node + ":30053", from: a, want: true},
		{name: "node port number at another host", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: "8.8.8.8:30053", from: "8.8.8.8:30053"},
		{name: "node port number at loopback", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: "127.0.0.1:30053", from: "127.0.0.1:30053"},
		{name: "host service on another port", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: node + ":30055", from: node + ":30055"},
		{name: "node port not served on this address", prev: snapshot("10.0.0.0/8", dns(a, b)), now: snapshot("10.0.0.0/8", dns(b)),
			to: node + ":30053", from: node + ":30053"},
		{name: "node port no longer served on this address", prev: snapshot(all, dns(a)), now: snapshot("10.0.0.0/8", dns(a)),
			to: node + ":30053", from: a, want: true},
		{name: "node port now served on this address", prev: snapshot("10.0.0.0/8", dns(a)), now: snapshot(all, dns(a)),
			to: node + ":30053", from: node + ":30053", want: true},
		{name: "address of its own shadows the node port",
			prev: snapshot(all, dns(a, b), service{name: "x", frontends: []string{node + ":30053"}, serving: []string{"10.244.1.13:1"}}),
			now:  snapshot(all, dns(b), service{name: "x", frontends: []string{node + ":30053"}, serving: []string{"10.244.1.13:1"}}),
			to:   node + ":30053", from: "10.244.1.13:1"},

		{name: "start, flow of a serving endpoint", now: snapshot(all, dns(a)), to: vip, from: a},
		{name: "start, flow of another endpoint", now: snapshot(all, dns(a)), to: vip, from: b, want: true},
		{name: "start, flow to nothing of ours", now: snapshot(all, dns(a)), to: vip2, from: b},

		{name: "zone of other software", prev: snapshot(all, dns(a, b)), now: snapshot(all, dns(b)), to: vip, from: a, zone: 7},

		{name: "sctp, endpoint not listed", sctp: true, to: vip, from: a, want: true,
			prev: snapshot(all, service{name: "s", protocol: proxier.SCTP, frontends: []string{vip}, serving: []string{a}}),
			now:  snapshot(all, service{name: "s", protocol: proxier.SCTP, frontends: []string{vip}, serving: []string{b}})},
		{name: "sctp, endpoint unready", sctp: true, to: vip, from: a,
			prev: snapshot(all, service{name: "s", protocol: proxier.SCTP, frontends: []string{vip}, serving: []string{a, b}}),
			now:  snapshot(all, service{name: "s", protocol: proxier.SCTP, frontends: []string{vip}, unready: []string{a}})},
		{name: "sctp, not translated", sctp: true, to: vip, from: vip, prev: snapshot(all),
			now: snapshot(all, service{name: "s", protocol: proxier.SCTP, frontends: []string{vip}, serving: []string{b}})},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tab := table{protocol: proxier.UDP}
			if tc.sctp {
				tab.protocol = proxier.SCTP
			}
			d := due{}
			d.note(tc.prev, tc.now)
			p := newPlan(d, tab, tc.now)
			p.local = map[netip.Addr]bool{netip.MustParseAddr(node): true}
			f := &flow{to: netip.MustParseAddrPort(tc.to), from: netip.MustParseAddrPort(tc.from), zone: tc.zone}
			if got := p.stale(f); got != tc.want {
				t.Errorf("stale(%s) = %t, want %t", f, got, tc.want)
			}
		})
	}
}

// TestDue tells when the kernel is asked at all.
func TestDue(t *testing.T) {
	tcp := service{name: "tcp", protocol: proxier.TCP, frontends: []string{vip}, serving: []string{a}}
	udp := service{name: "udp", frontends: []string{vip2, np}, serving: []string{a}}
	more := service{name: "udp", frontends: []string{vip2, np}, serving: []string{a, b}}
	v6 := service{name: "six", frontends: []string{"[fd00:96::10]:53"}, serving: []string{"[fd00:244::1]:53"}}
	base := snapshot(all, tcp, udp)
	tests := []struct {
		name      string
		prev, now *proxier.Snapshot
		want      []string
	}{
		{name: "same snapshot", prev: base, now: base},
		{name: "equal snapshot", prev: base, now: snapshot(all, tcp, udp)},
		{name: "tcp service gone", prev: base, now: snapshot(all, udp)},
		{name: "endpoint added", prev: base, now: snapshot(all, tcp, more)},
		{name: "endpoint removed", prev: snapshot(all, tcp, more), now: base, want: []string{"0.0.0.0:30053/UDP", "10.96.0.20:53/UDP"}},
		{name: "service added", prev: base, now: snapshot(all, tcp, udp, v6), want: []string{"[fd00:96::10]:53/UDP"}},
		{name: "service removed", prev: snapshot(all, tcp, udp, v6), now: base, want: []string{"[fd00:96::10]:53/UDP"}},
		{name: "node port addresses", prev: base, now: snapshot("10.0.0.0/8", tcp, udp), want: []string{"0.0.0.0:30053/UDP"}},
		{name: "start", now: base, want: []string{"0.0.0.0:30053/UDP", "10.96.0.20:53/UDP"}},
		{name: "start with tcp only", now: snapshot(all, tcp)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			d := due{}
			d.note(tc.prev, tc.now)
			keys := slices.SortedFunc(maps.Keys(d), proxier.FrontendKey.Compare)
			var got []string
			for _, k := range keys {
				got = append(got, k.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDueIsKept shows that what a failed run left undone outlives further changes.
func TestDueIsKept(t *testing.T) {
	with := snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{a}})
	without := snapshot(all)
	other := snapshot(all, service{name: "new", frontends: []string{vip2}, serving: []string{b}})
	d := due{}
	d.note(with, without)
	d.note(without, other)
	p := newPlan(d, table{protocol: proxier.UDP}, other)
	for to, from := range map[string]string{vip: a, vip2: vip2} {
		if f := (&flow{to: netip.MustParseAddrPort(to), from: netip.MustParseAddrPort(from)}); !p.stale(f) {
			t.Errorf("%s is not stale", f)
		}
	}
	d.done(table{v6: true, protocol: proxier.UDP})
	if len(d) != 2 {
		t.Errorf("%d due after another table was done, want 2", len(d))
	}
	d.done(table{protocol: proxier.UDP})
	if len(d) != 0 {
		t.Errorf("%d due after all was done, want none", len(d))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 4, 0, 1, 0, 8, 0, 2, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, msg []byte) {
		var fl flow
		if parse(msg, table{protocol: proxier.UDP}, &fl) && (!fl.to.Addr().Is4() || !fl.from.IsValid()) {
			t.Errorf("parse accepted %v", fl)
		}
	})
}
