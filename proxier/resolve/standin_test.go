package resolve

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
)

// dnsObjects are a Service like kube-dns, with an endpoint on another node and one that listens where
// a resolver of this node might.
func dnsObjects(spec string) string {
	ports := `[{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}, {name: metrics, port: 9153, protocol: TCP}]`
	return service("dns", `{clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, "fd00:96::10"], `+spec+` ports: `+ports+`}`) +
		slice("dns", "1", on("10.244.2.21"), ports) + slice("dns", "2", on("fd00:244:2::21"), ports)
}

// TestStandIn: the server of this node takes the connections of its family and port while it is there,
// and always if nobody else could; one that leaves gets them only if nobody else is there.
func TestStandIn(t *testing.T) {
	here := StandIn{Service: proxier.NamespacedName{Namespace: "ns", Name: "dns"}, Port: 53, Addrs: []netip.AddrPort{netip.MustParseAddrPort("169.254.20.10:5353")}}
	leaving, own, other := here, here, here
	leaving.Leaving = true
	own.Addrs = []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}
	other.Service.Name = "other"
	both := func(to string) string { return to + " | " + to + " M | " + to + " M" }
	const held = " unless bound 169.254.20.10:5353"
	alone := func(out string) string { // without others for IPv4
		return strings.ReplaceAll(out, both("10.244.2.21:9153"), "reject | reject M | reject M")
	}
	nobody := strings.ReplaceAll(dnsObjects(""), "10.244.2.21\"]", "10.244.2.21\"], conditions: {ready: false, serving: false, terminating: false}")
	text := func(v4 string) string {
		return strings.Join([]string{
			"10.96.0.10:53/TCP ClusterIP dns:dns-tcp: " + v4, "10.96.0.10:53/UDP ClusterIP dns:dns: " + v4,
			"10.96.0.10:9153/TCP ClusterIP dns:metrics: " + both("10.244.2.21:9153"),
			"[fd00:96::10]:53/TCP ClusterIP dns:dns-tcp: " + both("[fd00:244:2::21]:53"), "[fd00:96::10]:53/UDP ClusterIP dns:dns: " + both("[fd00:244:2::21]:53"),
			"[fd00:96::10]:9153/TCP ClusterIP dns:metrics: " + both("[fd00:244:2::21]:9153"), "",
		}, "\n")
	}
	tests := []struct {
		name    string
		here    *StandIn
		objects string
		want    string
	}{
		{"none", nil, dnsObjects(""), text(both("10.244.2.21:53"))},
		{"there", &here, dnsObjects(""), text(both("10.244.2.21:53") + held)},
		{"there, and nobody else", &here, nobody, alone(text(both("169.254.20.10:5353")))},
		{"leaving", &leaving, dnsObjects(""), text(both("10.244.2.21:53"))},
		{"for another Service", &other, dnsObjects(""), text(both("10.244.2.21:53"))},
		{"at the cluster IP itself", &own, dnsObjects(""), text(both("10.244.2.21:53"))},
		{"leaving, and nobody else", &leaving, nobody, alone(text(both("169.254.20.10:5353")))},
	}
	r := New(defaults()) // one for all: each state follows another
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := mustInputs(t, nodeYAML, cidrsYAML, tc.objects)
			in.StandIn = tc.here
			if diff := cmp.Diff(tc.want, render(mustResolve(t, defaults(), in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, render(r.Resolve(in))); diff != "" {
				t.Errorf("after other states (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStandInLocalPolicy: to stay on the node is no loss when the server is there.
func TestStandInLocalPolicy(t *testing.T) {
	in := mustInputs(t, nodeYAML, cidrsYAML, dnsObjects("internalTrafficPolicy: Local,"))
	in.StandIn = &StandIn{Service: proxier.NamespacedName{Namespace: "ns", Name: "dns"}, Port: 53, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.168.10.1:53")}}
	s := mustResolve(t, defaults(), in)
	if got := renderFrontend(s.Frontends[1]); got != "10.96.0.10:53/UDP ClusterIP dns:dns: 192.168.10.1:53 | 192.168.10.1:53 M | 192.168.10.1:53 M" {
		t.Error(got)
	}
	if got := s.Services[0].LocalReady; got != 1 {
		t.Errorf("%d endpoints of this node are ready, want the stand-in", got)
	}
}

// TestStandInIsForClusterIPs: who comes by another address goes where the cluster says.
func TestStandInIsForClusterIPs(t *testing.T) {
	in := mustInputs(t, nodeYAML, cidrsYAML, service("dns", `{type: NodePort, clusterIP: 10.96.0.10, externalIPs: [203.0.113.10], ports: [{name: dns, port: 53, nodePort: 30053, protocol: UDP}]}`),
		slice("dns", "1", on("10.244.2.21"), `[{name: dns, port: 53, protocol: UDP}]`))
	in.StandIn = &StandIn{Service: proxier.NamespacedName{Namespace: "ns", Name: "dns"}, Port: 53, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.168.10.1:53")}}
	want := `0.0.0.0:30053/UDP NodePort dns:dns: 10.244.2.21:53 M
10.96.0.10:53/UDP ClusterIP dns:dns: 10.244.2.21:53 | 10.244.2.21:53 M | 10.244.2.21:53 M unless bound 192.168.10.1:53
203.0.113.10:53/UDP ExternalIP dns:dns: 10.244.2.21:53 M
`
	if diff := cmp.Diff(want, render(mustResolve(t, defaults(), in))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestStandInCostsOneService: when it comes or goes, nothing else is resolved again.
func TestStandInCostsOneService(t *testing.T) {
	in := largeCluster(t, 100, 2)
	r := New(defaults())
	before := r.Resolve(in)
	in.StandIn = &StandIn{Service: in.Groups[7].Name, Port: uint16(in.Groups[7].Service.Spec.Ports[0].Port), Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.168.10.1:53")}}
	after := r.Resolve(in)
	for i := range before.Services {
		if same := before.Services[i] == after.Services[i]; same != (before.Services[i].NamespacedName != in.StandIn.Service) {
			t.Errorf("Service %s is the same: %v", before.Services[i].NamespacedName, same)
		}
	}
	in.StandIn = nil
	if diff := cmp.Diff(render(before), render(r.Resolve(in))); diff != "" {
		t.Errorf("without it again (-want +got):\n%s", diff)
	}
}
