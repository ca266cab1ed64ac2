package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	for doc := range strings.SplitSeq(strings.Join(docs, "\n---\n"), "\n---\n") {
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
	sortGroups(in.Groups)
	return in
}

func sortGroups(list []*Group) {
	slices.SortFunc(list, func(a, b *Group) int { return a.Name.Compare(b.Name) })
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
	out := fmt.Sprintf("%s %s %s: %s", f.FrontendKey, f.Kind, f.Owner.Name+":"+f.Owner.Port, strings.Join(routes, " | "))
	if f.StandIn != nil {
		out += " unless bound " + renderRoute(proxier.Route{Pool: f.StandIn})
	}
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

// service writes a Service in namespace ns. Spec and status are YAML in flow style.
func service(name, spec string, status ...string) string {
	out := fmt.Sprintf("\n---\nkind: Service\nmetadata: {namespace: ns, name: %s}\nspec: %s", name, spec)
	for _, s := range status {
		out += "\nstatus: " + s
	}
	return out
}

// slice writes the EndpointSlice name-suffix of a Service, with one unnamed port 8080 unless
// ports are given.
func slice(service, suffix, endpoints string, ports ...string) string {
	family := "IPv4"
	if strings.Contains(endpoints, ":1") || strings.Contains(endpoints, ":2") {
		family = "IPv6"
	}
	if len(ports) == 0 {
		ports = []string{`[{name: "", port: 8080}]`}
	}
	return fmt.Sprintf(`
---
kind: EndpointSlice
metadata: {namespace: ns, name: %s-%s, labels: {kubernetes.io/service-name: %s}}
addressType: %s
ports: %s
endpoints: %s`, service, suffix, service, family, ports[0], endpoints)
}

// on writes endpoints: "10.244.1.11" alone is on this node if it is one of its pods' addresses,
// else on node-2; more fields may follow after a comma.
func on(endpoints ...string) string {
	var out []string
	for _, e := range endpoints {
		addr, more, _ := strings.Cut(e, ",")
		node := "node-2"
		if strings.HasPrefix(addr, "10.244.1.") || strings.HasPrefix(addr, "fd00:244:1:") {
			node = nodeName
		}
		text := fmt.Sprintf("addresses: [%q], nodeName: %s", addr, node)
		if more != "" {
			text += ", " + more
		}
		out = append(out, "{"+text+"}")
	}
	return "[" + strings.Join(out, ", ") + "]"
}

const (
	unready     = "conditions: {ready: false, serving: false}"
	leaving     = "conditions: {ready: false, serving: true, terminating: true}"
	gone        = "conditions: {ready: false, serving: false, terminating: true}"
	webSpec     = "{clusterIP: 10.96.0.1, ports: [{port: 80}]}"
	webEndpoint = "10.96.0.1:80/TCP ClusterIP web:: 10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M\n"
)

// A row is a case of a table test: a cluster and the frontends and problems it comes to.
type row struct {
	name    string
	opts    func(*Options)
	objects string
	want    string
}

func testRows(t *testing.T, rows []row) {
	t.Helper()
	for _, tc := range rows {
		t.Run(tc.name, func(t *testing.T) {
			o := defaults()
			if tc.opts != nil {
				tc.opts(&o)
			}
			got := render(mustResolve(t, o, mustInputs(t, nodeYAML, cidrsYAML, tc.objects)))
			if diff := cmp.Diff(lines(tc.want), lines(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// lines returns the lines of s that are not blank, without indentation.
func lines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// cmpAddr lets cmp compare addresses and prefixes.
var cmpAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, addr(s))
	}
	return out
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
