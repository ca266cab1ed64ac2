package watch

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// rich are objects that use every field that a decision can depend on. It goes with
// testdata/kubectl-list.yaml.
const rich = `
apiVersion: v1
kind: Service
metadata: {name: all, namespace: shop, annotations: {fairway.dev/balance: maglev, fairway.dev/other: x}, creationTimestamp: "2026-08-02T00:00:00Z"}
spec:
  type: LoadBalancer
  clusterIP: 10.96.20.1
  clusterIPs: [10.96.20.1, "fd00:96::2001"]
  ipFamilies: [IPv4, IPv6]
  externalIPs: [192.168.10.1, 203.0.113.9]
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  healthCheckNodePort: 30999
  loadBalancerSourceRanges: [198.18.0.0/16]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{name: a, port: 10260, nodePort: 30260}, {name: b, port: 53, protocol: UDP}, {name: c, port: 9, protocol: SCTP}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.9}, {ip: 192.168.20.1}, {ip: 198.51.100.10, ipMode: Proxy}, {hostname: lb.example}]}}
---
apiVersion: v1
kind: Service
metadata: {name: older, namespace: shop, creationTimestamp: "2026-08-01T00:00:00Z"}
spec: {clusterIP: 10.96.20.2, externalIPs: [203.0.113.9], ports: [{name: b, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop, labels: {service.kubernetes.io/service-proxy-name: x}}
spec: {clusterIP: 10.96.20.3, ports: [{port: 1}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, publishNotReadyAddresses: true, ports: [{name: a, port: 1}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: all-1, namespace: shop, labels: {kubernetes.io/service-name: all}}
addressType: IPv4
ports: [{name: a, port: 8080}, {name: b, port: 5353, protocol: UDP}, {name: c, port: 99, protocol: SCTP}]
endpoints:
- {addresses: [10.244.1.11], nodeName: node-1, zone: zone-a, hostname: a, conditions: {ready: true}, hints: {forZones: [{name: zone-a}], forNodes: [{name: node-1}]}, targetRef: {kind: Pod, name: a, namespace: shop}}
- {addresses: [10.244.2.21], nodeName: node-2, zone: zone-b, conditions: {ready: true, serving: true, terminating: false}, hints: {forZones: [{name: zone-b}], forNodes: [{name: node-2}]}}
- {addresses: [10.244.2.22], nodeName: node-2, conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: all-hidden, namespace: shop, labels: {kubernetes.io/service-name: all, service.kubernetes.io/headless: ""}}
addressType: IPv4
ports: [{name: a, port: 8080}]
endpoints: [{addresses: [10.244.2.23]}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-a}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:244:1::/64"], taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}
status: {addresses: [{type: InternalIP, address: 192.168.10.1}, {type: ExternalIP, address: 192.168.20.1}], daemonEndpoints: {kubeletEndpoint: {Port: 10260}}}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, "fd00:96::/112"]}
`

// What the Store strips, resolve does not read: it decides the same on the whole objects.
func TestTrimmingChangesNoDecision(t *testing.T) {
	list, err := os.ReadFile("testdata/kubectl-list.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decode := func() Objects {
		var o Objects
		for _, text := range [][]byte{list, []byte(rich)} {
			objects, _, errs := readManifest("f.yaml", text, false)
			if errs != nil {
				t.Fatal(errs)
			}
			for _, m := range objects {
				switch x := m.object.(type) {
				case *corev1.Service:
					o.Services = append(o.Services, x)
				case *discoveryv1.EndpointSlice:
					o.EndpointSlices = append(o.EndpointSlices, x)
				case *corev1.Node:
					o.Node = x // the last one counts
				case *networkingv1.ServiceCIDR:
					o.ServiceCIDRs = append(o.ServiceCIDRs, x)
				}
			}
		}
		return o
	}
	s := NewStore()
	s.handedOver = true
	s.Replace(decode())

	whole := decode()
	in := resolve.Inputs{Node: whole.Node, ServiceCIDRs: whole.ServiceCIDRs}
	groups := map[proxier.NamespacedName]*resolve.Group{}
	for _, svc := range whole.Services {
		groups[nameOf(svc)] = &resolve.Group{Name: nameOf(svc), Service: svc}
		in.Groups = append(in.Groups, groups[nameOf(svc)])
	}
	for _, sl := range whole.EndpointSlices {
		g := groups[proxier.NamespacedName{Namespace: sl.Namespace, Name: sl.Labels[discoveryv1.LabelServiceName]}]
		g.Slices = append(g.Slices, sl)
	}
	slices.SortFunc(in.Groups, func(a, b *resolve.Group) int { return a.Name.Compare(b.Name) })

	for _, mode := range []string{resolve.DetectClusterCIDR, resolve.DetectNodeCIDR} {
		for _, proxy := range []string{"", "x"} {
			o := resolve.Options{NodeName: "node-1", Detect: resolve.Detect{Mode: mode}, NodePortAddresses: []string{"primary"}, ServiceProxyName: proxy}
			want, got := resolve.New(o).Resolve(in), resolve.New(o).Resolve(s.Inputs())
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Errorf("%s %q (-whole +trimmed):\n%s", mode, proxy, diff)
			}
			if proxy == "" && (len(got.Frontends) < 10 || len(got.Problems) == 0) {
				t.Errorf("the objects are not rich: %d frontends, %d problems", len(got.Frontends), len(got.Problems))
			}
		}
	}
}
