package resolve

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
)

func TestNode(t *testing.T) {
	all4, all6 := "0.0.0.0/0", "::/0"
	detect := func(mode, iface string) func(*Options) {
		return func(o *Options) { o.Detect.Mode, o.Detect.Interface = mode, iface }
	}
	addresses := func(texts ...string) func(*Options) {
		return func(o *Options) { o.NodePortAddresses = texts }
	}
	const fromNode = "[192.168.10.1 fd00:10::1 192.168.20.1]"
	tests := []struct {
		name     string
		opts     func(*Options)
		node     string // replaces of nodeYAML, "old => new"
		none     bool   // no Node is known
		pods     string
		ports    string
		eligible bool
		problems string
	}{
		{name: "S-47 ClusterCIDR", eligible: true},
		{name: "S-47 ClusterCIDR of the family that the node has", opts: func(o *Options) { o.IPv6 = true }, pods: "[fd00:244::/32]", ports: all6, eligible: true},
		{name: "S-47 no CIDR", opts: func(o *Options) { o.Detect.ClusterCIDRs = nil }, pods: "[]", eligible: true},
		{name: "S-47 NodeCIDR", opts: detect(DetectNodeCIDR, ""), pods: "[10.244.1.0/24 fd00:244:1::/64]", eligible: true},
		{name: "S-47 NodeCIDR of old nodes", opts: detect(DetectNodeCIDR, ""), node: `, podCIDRs: [10.244.1.0/24, "fd00:244:1::/64"] => `, pods: "[10.244.1.0/24]", eligible: true},
		{name: "S-47 NodeCIDR before the Node is known", opts: detect(DetectNodeCIDR, ""), none: true, pods: "[]", problems: "PodsUnknown"},
		{name: "S-47 BridgeInterface", opts: detect(DetectBridgeInterface, "cni0"), pods: "cni0", eligible: true},
		{name: "S-47 InterfaceNamePrefix", opts: detect(DetectInterfaceNamePrefix, "veth"), pods: "veth+", eligible: true},
		{name: "S-47 unknown mode", opts: detect("Guess", "veth"), pods: "[]", eligible: true, problems: "PodsUnknown"},
		{name: "S-59 one family given, the other stays open", opts: addresses("192.168.10.0/24"), ports: "192.168.10.0/24 " + all6, eligible: true, problems: "NodePortAddresses"},
		{name: "S-59 both families given", opts: addresses("fd00:10::/64", "192.168.20.7/24", "192.168.10.0/24"), ports: "192.168.10.0/24 192.168.20.0/24 fd00:10::/64", eligible: true},
		{name: "S-59 loopback is never among them", opts: addresses("127.0.0.0/8", "::1/128"), ports: "", eligible: true, problems: "NodePortAddresses"},
		{name: "S-59 unreadable: closed", opts: addresses("192.168.10.0/33"), ports: "", eligible: true, problems: "NodePortAddresses"},
		{name: "S-60 primary", opts: addresses("primary"), ports: "192.168.10.1/32 fd00:10::1/128", eligible: true},
		{name: "S-60 primary without a known address: closed", opts: addresses("primary"), none: true, ports: "", problems: "NodePortAddresses"},
		{name: "S-74 unknown Node", none: true},
		{name: "S-74 deleted", node: "name: node-1, => name: node-1, deletionTimestamp: 2026-01-01T00:00:00Z,"},
		{name: "S-74 autoscaler's taint", node: "spec: { => spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, value: x, effect: NoSchedule}], "},
		{name: "S-74 other taints and unschedulable", node: "spec: { => spec: {unschedulable: true, taints: [{key: node.kubernetes.io/not-ready, effect: NoExecute}], ", eligible: true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			o := defaults()
			if tc.opts != nil {
				tc.opts(&o)
			}
			text := nodeYAML
			if was, now, ok := strings.Cut(tc.node, " => "); ok {
				if text = strings.Replace(nodeYAML, was, now, 1); text == nodeYAML {
					t.Fatalf("%q is not in the Node", was)
				}
			}
			in := mustInputs(t, text, cidrsYAML)
			wantAddresses := fromNode
			if tc.none {
				in.Node, wantAddresses = nil, "[]"
			}
			s := mustResolve(t, o, in)
			n := s.Node
			if tc.pods == "" {
				tc.pods = "[10.244.0.0/16 fd00:244::/32]"
			}
			if tc.ports == "" && tc.problems != ReasonNodePortAddresses {
				tc.ports = all4 + " " + all6
			}
			pods := n.Pods.Interface
			if pods == "" {
				pods = fmt.Sprint(n.Pods.Prefixes)
			}
			want := []string{nodeName, wantAddresses, tc.pods, "[" + tc.ports + "]", fmt.Sprint(tc.eligible), "[10.96.0.0/16 fd00:96::/112]", tc.problems}
			got := []string{n.Name, fmt.Sprint(n.Addresses), pods, fmt.Sprint(n.NodePorts), fmt.Sprint(n.Eligible), fmt.Sprint(n.ServiceCIDRs), reasons(s, "Node")}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s\n%v", diff, s.Problems)
			}
		})
	}
}

// reasons returns the reasons of the problems of a kind, distinct, in order.
func reasons(s *proxier.Snapshot, kind string) string {
	var out []string
	for _, p := range s.Problems {
		if p.Kind == kind && (len(out) == 0 || out[len(out)-1] != p.Reason) {
			out = append(out, p.Reason)
		}
	}
	return strings.Join(out, " ")
}

func TestNodeAddressesOption(t *testing.T) {
	o := defaults()
	o.NodePortAddresses = []string{"primary"}
	o.NodeAddresses = []netip.Addr{addr("0.0.0.0"), addr("192.0.2.1"), addr("::ffff:192.0.2.2")}
	n := mustResolve(t, o, mustInputs(t, nodeYAML)).Node
	if want := addrs("192.0.2.1", "192.0.2.2", "192.168.10.1", "fd00:10::1", "192.168.20.1"); !cmp.Equal(want, n.Addresses, cmpAddr) {
		t.Errorf("want %v, got %v", want, n.Addresses)
	}
	if want := prefixes("192.0.2.1/32", "fd00:10::1/128"); !cmp.Equal(want, n.NodePorts, cmpAddr) {
		t.Errorf("want %v, got %v", want, n.NodePorts)
	}
}

func TestHealthFacts(t *testing.T) {
	eps := slice("web", "1", on("10.244.1.11", "10.244.1.12", "10.244.1.13,"+leaving, "10.244.2.21"), "[{name: a, port: 1}, {name: b, port: 2}]")
	lb := func(more string) string {
		return service("web", "{type: LoadBalancer, clusterIP: 10.96.0.1, "+more+", ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81}]}")
	}
	tests := []struct {
		name    string
		objects string
		port    uint16
		ready   int
		reasons string
	}{
		{"S-69 load balancer with external Local", lb("healthCheckNodePort: 32000, externalTrafficPolicy: Local") + eps, 32000, 2, ""},
		{"S-69 external Cluster", lb("healthCheckNodePort: 32000, externalTrafficPolicy: Cluster") + eps, 0, 2, ""},
		{"S-69 no port", lb("externalTrafficPolicy: Local") + eps, 0, 2, ""},
		{"S-69 other type", strings.Replace(lb("healthCheckNodePort: 32000, externalTrafficPolicy: Local"), "LoadBalancer", "NodePort", 1) + eps, 0, 2, ""},
		{"S-69 no endpoints", lb("healthCheckNodePort: 32000, externalTrafficPolicy: Local"), 32000, 0, ""},
		{"S-69 the Service's own node port", lb("healthCheckNodePort: 30080, externalTrafficPolicy: Local") + eps, 0, 2, ReasonPortConflict},
		{"S-71 a dual-stack pod counts once", lb("healthCheckNodePort: 32000, externalTrafficPolicy: Local") + eps +
			slice("web", "2", on("fd00:244:1::11"), "[{name: a, port: 1}]"), 32000, 2, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := mustResolve(t, defaults(), mustInputs(t, nodeYAML, tc.objects))
			svc := s.Services[0]
			var ports []uint16
			if tc.port != 0 {
				ports = []uint16{tc.port}
			}
			if svc.HealthCheckPort != tc.port || svc.LocalReady != tc.ready || !cmp.Equal(s.HealthPorts, ports) || reasons(s, "Service") != tc.reasons {
				t.Errorf("got port %d, ready %d, ports %v, problems %v", svc.HealthCheckPort, svc.LocalReady, s.HealthPorts, s.Problems)
			}
		})
	}
}
