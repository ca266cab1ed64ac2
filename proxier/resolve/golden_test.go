package resolve

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// The golden matrix: what each source reaches, for each policy. Rows are source and destination;
// columns are the default policies, externalTrafficPolicy Local, internalTrafficPolicy Local.
// Each Service has one endpoint on this node and one on another. "both" and "local" are the
// endpoints, M is masqueraded, P keeps the client's address.
var goldenMatrix = []struct {
	from proxier.Origin
	to   proxier.Kind
	want [3]string
}{
	{proxier.FromPod, proxier.ClusterIP, [3]string{"both P", "both P", "local P"}},
	{proxier.FromPod, proxier.NodePort, [3]string{"both M", "both P", "both M"}},
	{proxier.FromPod, proxier.LoadBalancer, [3]string{"both M", "both P", "both M"}},
	{proxier.FromNode, proxier.ClusterIP, [3]string{"both M", "both M", "local M"}},
	{proxier.FromNode, proxier.NodePort, [3]string{"both M", "both M", "both M"}},
	{proxier.FromNode, proxier.LoadBalancer, [3]string{"both M", "both M", "both M"}},
	{proxier.FromOutside, proxier.ClusterIP, [3]string{"both M", "both M", "local M"}},
	{proxier.FromOutside, proxier.NodePort, [3]string{"both M", "local P", "both M"}},
	{proxier.FromOutside, proxier.LoadBalancer, [3]string{"both M", "local P", "both M"}},
}

// override is how a row of the matrix changes without a local detector, or with masqueradeAll.
func override(want string, from proxier.Origin, to proxier.Kind, column int, detector, masqueradeAll bool) string {
	switch {
	case to == proxier.ClusterIP && masqueradeAll:
		return strings.Replace(want, " P", " M", 1)
	case to == proxier.ClusterIP && !detector:
		return strings.Replace(want, " M", " P", 1)
	case to != proxier.ClusterIP && !detector && column == 1 && from == proxier.FromPod:
		return "local P"
	}
	return want
}

type policies struct {
	external corev1.ServiceExternalTrafficPolicy
	internal corev1.ServiceInternalTrafficPolicy
}

func TestGoldenMatrix(t *testing.T) {
	policies := [3]policies{{"Cluster", "Cluster"}, {"Local", "Cluster"}, {"Cluster", "Local"}}
	for _, v6 := range []bool{false, true} {
		for _, proto := range []corev1.Protocol{"TCP", "UDP", "SCTP"} {
			for _, detector := range []bool{true, false} {
				for _, all := range []bool{false, true} {
					for column, policy := range policies {
						name := fmt.Sprintf("v6=%t/%s/detector=%t/masqueradeAll=%t/%+v", v6, proto, detector, all, policy)
						t.Run(name, func(t *testing.T) { testGolden(t, v6, proto, detector, all, column, policy) })
					}
				}
			}
		}
	}
}

func testGolden(t *testing.T, v6 bool, proto corev1.Protocol, detector, all bool, column int, policy policies) {
	ips := []string{"10.96.0.10", "198.51.100.10", "203.0.113.10", "10.244.1.11", "10.244.2.21"}
	if v6 {
		ips = []string{"fd00:96::10", "2001:db8:100::10", "2001:db8:113::10", "fd00:244:1::11", "fd00:244:2::21"}
	}
	family := familyName(v6)
	in := mustInputs(t, nodeYAML, cidrsYAML, fmt.Sprintf(`
kind: Service
metadata: {namespace: ns, name: svc}
spec:
  type: LoadBalancer
  clusterIPs: ["%s"]
  ipFamilies: [%s]
  externalIPs: ["%s"]
  ports: [{name: p, port: 80, nodePort: 30080, protocol: %s}]
status: {loadBalancer: {ingress: [{ip: "%s"}]}}
---
kind: EndpointSlice
metadata: {namespace: ns, name: svc-1, labels: {kubernetes.io/service-name: svc}}
addressType: %s
ports: [{name: p, port: 8080, protocol: %s}]
endpoints:
- {addresses: ["%s"], nodeName: node-1}
- {addresses: ["%s"], nodeName: node-2}
`, ips[0], family, ips[2], proto, ips[1], family, proto, ips[3], ips[4]))
	spec := &in.Groups[0].Service.Spec
	spec.ExternalTrafficPolicy, spec.InternalTrafficPolicy = policy.external, &policy.internal
	o := defaults()
	o.MasqueradeAll = all
	if !detector {
		o.Detect.ClusterCIDRs = nil
	}
	s := mustResolve(t, o, in)
	if len(s.Problems) > 0 || len(s.Frontends) != 4 {
		t.Fatalf("got:\n%s", render(s))
	}
	for _, f := range s.Frontends {
		for _, row := range goldenMatrix {
			// An external IP behaves like a load balancer's address (S-20).
			if row.to != f.Kind && !(row.to == proxier.LoadBalancer && f.Kind == proxier.ExternalIP) {
				continue
			}
			want := override(row.want[column], row.from, row.to, column, detector, all)
			if got := goldenText(f.From[row.from]); got != want {
				t.Errorf("%s -> %s: want %s, got %s", row.from, f.Kind, want, got)
			}
		}
	}
}

func goldenText(r proxier.Route) string {
	reach := map[int]string{1: "local", 2: "both"}[len(r.Pool.Endpoints)]
	if len(r.Pool.Endpoints) == 1 && !r.Pool.Endpoints[0].Local {
		reach = "remote"
	}
	if r.Masquerade {
		return reach + " M"
	}
	return reach + " P"
}
