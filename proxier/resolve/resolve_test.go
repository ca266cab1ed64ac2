package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier"
)

// The cluster of these tests, in the addresses of proxier/netlab.
const (
	nodeName = "node-1"
	nodeYAML = `
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-a}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:244:1::/64"]}
status:
  addresses:
  - {type: Hostname, address: node-1}
  - {type: ExternalIP, address: 192.168.20.1}
  - {type: InternalIP, address: 192.168.10.1}
  - {type: InternalIP, address: "fd00:10::1"}
  daemonEndpoints: {kubeletEndpoint: {Port: 10250}}`
	cidrsYAML = `
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, "fd00:96::/112"]}`
)

var clusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}

func defaults() Options {
	return Options{NodeName: nodeName, Detect: Detect{ClusterCIDRs: clusterCIDRs}}
}

// mustInputs reads YAML documents, each one Service, EndpointSlice, Node or ServiceCIDR.
func mustInputs(t testing.TB, docs ...string) Inputs {
	t.Helper()
	var in Inputs
	groups := map[proxier.NamespacedName]*Group{}
	group := func(namespace, name string) *Group {
		n := proxier.NamespacedName{Namespace: namespace, Name: name}
		if groups[n] == nil {
			groups[n] = &Group{Name: n}
		}
		return groups[n]
	}
	for _, doc := range strings.Split(strings.Join(docs, "\n---\n"), "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var kind struct{ Kind string }
		mustYAML(t, doc, &kind)
		switch kind.Kind {
		case "Service":
			s := &corev1.Service{}
			mustYAML(t, doc, s)
			group(s.Namespace, s.Name).Service = s
		case "EndpointSlice":
			s := &discoveryv1.EndpointSlice{}
			mustYAML(t, doc, s)
			g := group(s.Namespace, s.Labels[discoveryv1.LabelServiceName])
			g.Slices = append(g.Slices, s)
		case "Node":
			in.Node = &corev1.Node{}
			mustYAML(t, doc, in.Node)
		case "ServiceCIDR":
			c := &networkingv1.ServiceCIDR{}
			mustYAML(t, doc, c)
			in.ServiceCIDRs = append(in.ServiceCIDRs, c)
		default:
			t.Fatalf("unknown kind %q in:\n%s", kind.Kind, doc)
		}
	}
	for _, g := range groups {
		slices.SortFunc(g.Slices, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
		in.Groups = append(in.Groups, g)
	}
	slices.SortFunc(in.Groups, func(a, b *Group) int { return a.Name.Compare(b.Name) })
	return in
}

func mustYAML(t testing.TB, doc string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
		if _, lenient := into.(*struct{ Kind string }); lenient {
			if yaml.Unmarshal([]byte(doc), into) == nil {
				return
			}
		}
		t.Fatalf("%v in:\n%s", err, doc)
	}
}

func mustResolve(t testing.TB, o Options, in Inputs) *proxier.Snapshot {
	t.Helper()
	s := New(o).Resolve(in)
	if err := s.Check(); err != nil {
		t.Fatalf("snapshot breaks its promises: %v", err)
	}
	return s
}

// render writes a snapshot for comparison with a wanted text: frontends with a column for each
// origin, one line each, then problems as "object reason".
func render(s *proxier.Snapshot) string {
	var b strings.Builder
	for _, f := range s.Frontends {
		fmt.Fprintln(&b, renderFrontend(f))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "! %s %s %s\n", p.Kind, p.Object, p.Reason)
	}
	return b.String()
}

func renderFrontend(f *proxier.Frontend) string {
	routes := make([]string, 0, proxier.Origins)
	for _, r := range f.From {
		routes = append(routes, renderRoute(r))
	}
	if routes[0] == routes[1] && routes[1] == routes[2] {
		routes = routes[:1]
	}
	out := fmt.Sprintf("%s %s %s: %s", f.FrontendKey, f.Kind, f.Owner, strings.Join(routes, " | "))
	if f.Sources != nil {
		out += fmt.Sprint(" from ", f.Sources)
	}
	if f.Affinity != 0 {
		out += fmt.Sprint(" sticky ", f.Affinity)
	}
	if f.Balance != proxier.Random {
		out += fmt.Sprint(" by ", f.Balance)
	}
	return out
}

func renderRoute(r proxier.Route) string {
	var eps []string
	for _, e := range r.Pool.Endpoints {
		eps = append(eps, e.String())
	}
	out := strings.Join(eps, ",")
	if out == "" {
		out = r.Pool.Empty.String()
	}
	if r.Masquerade {
		out += " M"
	}
	return out
}
