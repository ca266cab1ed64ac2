package resolve

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
)

// texts are what churn writes into fields that hold an address: good ones that collide, and all
// kinds of bad ones.
var texts = []string{
	"10.96.0.1", "10.96.0.2", "10.96.0.041", "172.30.0.1", "203.0.113.1", "203.0.113.2", "198.51.100.1", "198.51.100.001",
	"10.244.1.11", "10.244.1.12", "10.244.2.21", "10.244.2.22", "192.168.10.1", "192.168.10.2", "192.168.10.9",
	"fd00:96::1", "FD00:96:0::2", "2001:db8:113::1", "fd00:244:1::11", "fd00:244:2::21", "fd00:10::1",
	"None", "", "example.org", "127.0.0.1", "0.0.0.0", "::", "::1", "169.254.169.254", "224.0.0.1", "ff02::1", "fe80::1%eth0",
	"::ffff:10.96.0.1", "255.255.255.255",
}

// A world is the state that churn changes. Groups are replaced, never changed.
type world struct {
	t      *rapid.T
	groups map[proxier.NamespacedName]*Group
	node   *corev1.Node
	cidrs  []*networkingv1.ServiceCIDR
	here   *StandIn
}

func (w *world) inputs() Inputs {
	groups := slices.SortedFunc(maps.Values(w.groups), func(a, b *Group) int { return a.Name.Compare(b.Name) })
	return Inputs{Node: w.node, ServiceCIDRs: w.cidrs, Groups: groups, StandIn: w.here}
}

func pick1[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// text draws an address: mostly one of texts, sometimes anything that looks like one.
func (w *world) text(label string) string {
	if rapid.IntRange(0, 19).Draw(w.t, label+" odd") == 0 {
		return rapid.StringMatching(`[0-9a-f:.%/]{0,20}`).Draw(w.t, label)
	}
	return pick1(w.t, label, texts...)
}

func (w *world) texts(label string, most int) []string {
	var out []string
	for range rapid.IntRange(0, most).Draw(w.t, label+" count") {
		out = append(out, w.text(label))
	}
	return out
}

func (w *world) drawName() proxier.NamespacedName {
	return pick1(w.t, "name", proxier.NamespacedName{Namespace: "ns", Name: "a"}, proxier.NamespacedName{Namespace: "ns", Name: "b"},
		proxier.NamespacedName{Namespace: "ns", Name: "c"}, proxier.NamespacedName{Namespace: "other", Name: "a"}, kubernetesService,
		proxier.NamespacedName{Namespace: "ns", Name: "bad\nname"})
}

// with returns the group of a name for a change: a copy, or a new one.
func (w *world) with(n proxier.NamespacedName) *Group {
	g := &Group{Name: n}
	if old := w.groups[n]; old != nil {
		g.Service, g.Slices = old.Service, slices.Clone(old.Slices)
	}
	w.groups[n] = g
	return g
}

func (w *world) dropIfEmpty(n proxier.NamespacedName) {
	if g := w.groups[n]; g.Service == nil && len(g.Slices) == 0 {
		delete(w.groups, n)
	}
}

func (w *world) service(n proxier.NamespacedName) *corev1.Service {
	t := w.t
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name}}
	if age := rapid.IntRange(0, 3).Draw(t, "age"); age > 0 {
		s.CreationTimestamp = metav1.Time{Time: time.Unix(int64(age), 0)}
	}
	s.Labels = pick1(t, "labels", nil, nil, nil, map[string]string{labelProxyName: "mesh"})
	s.Annotations = pick1(t, "annotations", nil, nil, map[string]string{annotationBalance: "maglev"}, map[string]string{annotationBalance: "x"})
	p := &s.Spec
	p.Type = pick1(t, "type", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer,
		corev1.ServiceTypeExternalName, "", "Teapot")
	p.ClusterIPs = append(w.texts("cluster IPs", 2), pick1(t, "cluster IP", texts[:4]...))
	p.ClusterIP = p.ClusterIPs[0]
	if rapid.Bool().Draw(t, "families") {
		p.IPFamilies = pick1(t, "families", []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv6"}, []corev1.IPFamily{"IPv4", "IPv6"}, []corev1.IPFamily{"IPv6", "IPv4"})
	}
	p.ExternalIPs = w.texts("external IPs", 2)
	p.ExternalTrafficPolicy = pick1(t, "external", corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal, "", "Mars")
	p.InternalTrafficPolicy = pick1(t, "internal", nil, new(corev1.ServiceInternalTrafficPolicy("Local")), new(corev1.ServiceInternalTrafficPolicy("Cluster")), new(corev1.ServiceInternalTrafficPolicy("Moon")))
	p.SessionAffinity = pick1(t, "affinity", corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	p.HealthCheckNodePort = pick1[int32](t, "health check", 0, 32000, 30080, 70000)
	for _, x := range w.texts("source ranges", 2) {
		p.LoadBalancerSourceRanges = append(p.LoadBalancerSourceRanges, x+pick1(t, "length", "", "/0", "/8", "/32", "/33"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		p.Ports = append(p.Ports, corev1.ServicePort{
			Name: pick1(t, "port name", "", "p", "q", "Bad name"), Protocol: pick1(t, "protocol", "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, "ICMP"),
			Port: pick1[int32](t, "port", 80, 80, 443, 6443, 10250, 0, 65536), NodePort: pick1[int32](t, "node port", 0, 30080, 30081, 32000, 70000),
		})
	}
	for _, x := range w.texts("ingress", 2) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: x,
			IPMode: pick1(t, "ipMode", nil, new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeProxy), new(corev1.LoadBalancerIPMode("x")))})
	}
	return s
}

func (w *world) slice(n proxier.NamespacedName, suffix string) *discoveryv1.EndpointSlice {
	t := w.t
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name + suffix}}
	s.Labels = pick1(t, "labels", nil, nil, nil, map[string]string{corev1.IsHeadlessService: ""})
	s.AddressType = pick1(t, "address type", discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	for range rapid.IntRange(0, 3).Draw(t, "slice ports") {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{
			Name:     pick1(t, "port name", nil, new(""), new("p"), new("q")),
			Protocol: pick1(t, "protocol", nil, nil, new(corev1.ProtocolUDP), new(corev1.Protocol("ICMP"))),
			Port:     pick1(t, "port", nil, new(int32(8080)), new(int32(8080)), new(int32(6443)), new(int32(0)), new(int32(-1))),
		})
	}
	condition := func(label string) *bool { return pick1(t, label, nil, new(true), new(false)) }
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := discoveryv1.Endpoint{
			Addresses:  []string{w.text("endpoint")},
			Conditions: discoveryv1.EndpointConditions{Ready: condition("ready"), Serving: condition("serving"), Terminating: condition("terminating")},
			NodeName:   pick1(t, "node", nil, new("node-1"), new("node-2"), new("")),
			Hostname:   pick1(t, "host name", nil, new("db-0")),
			Hints: pick1(t, "hints", nil, &discoveryv1.EndpointHints{}, &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-a"}}},
				&discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-b"}}, ForNodes: []discoveryv1.ForNode{{Name: "node-1"}}},
				&discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: ""}}, ForNodes: []discoveryv1.ForNode{{Name: "node-2"}}}),
		}
		if rapid.IntRange(0, 9).Draw(t, "no address") == 0 {
			e.Addresses = nil
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// tweakService returns old with one field taken from another Service.
func (w *world) tweakService(old *corev1.Service) *corev1.Service {
	s, x := old.DeepCopy(), w.service(proxier.NamespacedName{})
	switch pick1(w.t, "field", "age", "sources", "external", "policies", "affinity", "balance", "type", "health", "ingress", "node port", "label") {
	case "age":
		s.CreationTimestamp = x.CreationTimestamp
	case "sources":
		s.Spec.LoadBalancerSourceRanges = x.Spec.LoadBalancerSourceRanges
	case "external":
		s.Spec.ExternalIPs = x.Spec.ExternalIPs
	case "policies":
		s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = x.Spec.ExternalTrafficPolicy, x.Spec.InternalTrafficPolicy
	case "affinity":
		s.Spec.SessionAffinity = x.Spec.SessionAffinity
	case "balance":
		s.Annotations = x.Annotations
	case "type":
		s.Spec.Type = x.Spec.Type
	case "health":
		s.Spec.HealthCheckNodePort = x.Spec.HealthCheckNodePort
	case "ingress":
		s.Status = x.Status
	case "node port":
		for i := range min(len(s.Spec.Ports), len(x.Spec.Ports)) {
			s.Spec.Ports[i].NodePort = x.Spec.Ports[i].NodePort
		}
	case "label":
		s.Labels = x.Labels
	}
	return s
}

// tweakSlice returns old with one endpoint replaced, or with other conditions.
func (w *world) tweakSlice(old *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s, x := old.DeepCopy(), w.slice(proxier.NamespacedName{}, "")
	if len(s.Endpoints) > 0 && len(x.Endpoints) > 0 {
		if rapid.Bool().Draw(w.t, "conditions only") {
			x.Endpoints[0].Addresses = s.Endpoints[0].Addresses
		}
		s.Endpoints[0] = x.Endpoints[0]
	}
	return s
}

func (w *world) nodeOf() *corev1.Node {
	t := w.t
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: pick1(t, "zone", "", "zone-a", "zone-b")}}}
	n.Spec.PodCIDRs = pick1(t, "pod CIDRs", nil, []string{"10.244.1.0/24"}, []string{"10.244.1.0/24", "fd00:244:1::/64"}, []string{"x", "203.0.113.0/24"})
	for _, x := range w.texts("node addresses", 2) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: pick1(t, "kind", corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName), Address: x})
	}
	if rapid.IntRange(0, 9).Draw(t, "taint") == 0 {
		n.Spec.Taints = []corev1.Taint{{Key: taintToBeDeleted}}
	}
	return n
}

// change makes one random change.
func (w *world) change() {
	n := w.drawName()
	switch pick1(w.t, "change", "service", "slice", "tweak service", "tweak service", "tweak service", "tweak slice", "tweak slice", "delete service", "delete slice", "delete all", "node", "no node", "cidrs", "copy", "stand-in", "no stand-in") {
	case "service":
		w.with(n).Service = w.service(n)
	case "slice":
		suffix := pick1(w.t, "suffix", "-1", "-2")
		g := w.with(n)
		g.Slices = slices.DeleteFunc(g.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == n.Name+suffix })
		g.Slices = append(g.Slices, w.slice(n, suffix))
		slices.SortFunc(g.Slices, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	case "tweak service":
		if g := w.groups[n]; g != nil && g.Service != nil {
			w.with(n).Service = w.tweakService(g.Service)
		}
	case "tweak slice":
		if g := w.groups[n]; g != nil && len(g.Slices) > 0 {
			i := rapid.IntRange(0, len(g.Slices)-1).Draw(w.t, "slice")
			w.with(n).Slices[i] = w.tweakSlice(g.Slices[i])
		}
	case "delete service":
		w.with(n).Service = nil
		w.dropIfEmpty(n)
	case "delete slice":
		if g := w.with(n); len(g.Slices) > 0 {
			g.Slices = g.Slices[1:]
		}
		w.dropIfEmpty(n)
	case "delete all":
		delete(w.groups, n)
	case "node":
		w.node = w.nodeOf()
	case "no node":
		w.node = nil
	case "cidrs":
		c := &networkingv1.ServiceCIDR{}
		c.Spec.CIDRs = pick1(w.t, "cidrs", nil, []string{"10.96.0.0/16"}, []string{"10.96.0.0/16", "fd00:96::/112"}, []string{"203.0.113.0/31", "x"})
		w.cidrs = []*networkingv1.ServiceCIDR{c}
	case "stand-in":
		w.here = &StandIn{Service: n, Port: pick1[uint16](w.t, "stand-in port", 80, 443), Leaving: rapid.Bool().Draw(w.t, "leaving"),
			Addrs: []netip.AddrPort{netip.MustParseAddrPort(pick1(w.t, "stand-in v4", "192.168.10.1:53", "10.244.1.11:8080", "10.96.0.1:53")), netip.MustParseAddrPort("[fd00:10::1]:53")}}
	case "no stand-in":
		w.here = nil
	case "copy": // objects that came again with the same content
		for name, g := range w.groups {
			c := &Group{Name: name, Service: g.Service.DeepCopy()}
			for _, s := range g.Slices {
				c.Slices = append(c.Slices, s.DeepCopy())
			}
			w.groups[name] = c
		}
		w.node = w.node.DeepCopy()
	}
}

func drawOptions(t *rapid.T) Options {
	o := defaults()
	o.MasqueradeAll = rapid.Bool().Draw(t, "masqueradeAll")
	o.Detect = pick1(t, "detect", o.Detect, Detect{}, Detect{Mode: DetectNodeCIDR}, Detect{Mode: DetectBridgeInterface, Interface: "cni0"})
	o.IPv4, o.IPv6 = rapid.Bool().Draw(t, "IPv4"), rapid.Bool().Draw(t, "IPv6")
	o.NodePortAddresses = pick1(t, "node ports", nil, []string{"primary"}, []string{"192.168.10.0/24"}, []string{"127.0.0.0/8", "x"})
	o.DenyExternalIPs = rapid.IntRange(0, 9).Draw(t, "deny") == 0
	return o
}

// checkChurn is the property that everything else rests on: whatever came before, a snapshot is
// what a fresh Resolver makes of the same objects; values that did not change are the same
// pointers; and no object makes it unsafe.
func checkChurn(t *rapid.T) {
	o := drawOptions(t)
	w := &world{t: t, groups: map[proxier.NamespacedName]*Group{}, node: &corev1.Node{}}
	r := New(o)
	var prev *proxier.Snapshot
	for range rapid.IntRange(1, 20).Draw(t, "steps") {
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			w.change()
		}
		in := w.inputs()
		got, fresh := r.Resolve(in), New(o).Resolve(in)
		if err := got.Check(); err != nil {
			t.Fatalf("snapshot breaks its promises: %v", err)
		}
		mustBeSafe(t, got)
		if diff := differs(fresh, got); diff != "" {
			t.Fatalf("not what a fresh resolver makes (-fresh +incremental)\n%s", diff)
		}
		if prev != nil {
			checkReuse(t, prev, got)
		}
		prev = got
	}
}

// equalSnapshots reports whether two snapshots are equal in everything but the revision.
func equalSnapshots(a, b *proxier.Snapshot) bool {
	x, y := *a, *b
	x.Revision, y.Revision = 0, 0
	return reflect.DeepEqual(x, y)
}

// differs shows how two snapshots differ; "" if they do not.
func differs(a, b *proxier.Snapshot) string {
	if equalSnapshots(a, b) {
		return ""
	}
	return cmp.Diff(a, b, cmpAddr) + cmp.Diff(render(a), render(b))
}

// checkReuse fails if a value of now equals the one of prev but is another pointer.
func checkReuse(t *rapid.T, prev, now *proxier.Snapshot) {
	if equalSnapshots(prev, now) != (prev == now) {
		t.Fatalf("snapshots %d and %d are equal but not the same", prev.Revision, now.Revision)
	}
	if prev != now && now.Revision != prev.Revision+1 {
		t.Fatalf("revision %d follows %d", now.Revision, prev.Revision)
	}
	was, is := parts(prev), parts(now)
	for name, v := range is {
		old, ok := was[name]
		if ok && old != v && reflect.DeepEqual(old, v) {
			t.Fatalf("%s is equal but not the same pointer", name)
		}
	}
}

// parts returns every value of a snapshot that is shared by pointer, under a name of its own.
func parts(s *proxier.Snapshot) map[string]any {
	out := map[string]any{"node": s.Node}
	for _, svc := range s.Services {
		out["service "+svc.String()] = svc
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				out[fmt.Sprintf("endpoint %s %s/%s %s", svc, p.Name, p.Protocol, e)] = e
			}
		}
	}
	for _, f := range s.Frontends {
		out["frontend "+f.String()] = f
		for _, r := range f.From {
			out[fmt.Sprintf("pool %v %t %s", f.Owner, f.Addr.Is6(), r.Pool.Scope)] = r.Pool
		}
		if p := f.StandIn; p != nil {
			out[fmt.Sprintf("pool %v %t %s", f.Owner, f.Addr.Is6(), p.Scope)] = p
		}
	}
	return out
}

func TestIncrementalEqualsFresh(t *testing.T) { rapid.Check(t, checkChurn) }

// TestAnyOrder gives the objects of a cluster to a Resolver one by one, in any order: the last
// snapshot is always the same.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		w := &world{t: t, groups: map[proxier.NamespacedName]*Group{}, node: &corev1.Node{}}
		for range 20 {
			w.change()
		}
		want := w.inputs()
		groups := rapid.Permutation(want.Groups).Draw(t, "order")
		r := New(o)
		var in Inputs
		var got *proxier.Snapshot
		for i, g := range groups {
			in.Groups = append(slices.Clone(in.Groups), g)
			sortGroups(in.Groups)
			if i == len(groups)/2 {
				in.Node, in.ServiceCIDRs, in.StandIn = want.Node, want.ServiceCIDRs, want.StandIn
			}
			got = r.Resolve(in)
		}
		if got == nil {
			return
		}
		if diff := differs(New(o).Resolve(want), got); diff != "" {
			t.Fatalf("(-at once +one by one)\n%s", diff)
		}
	})
}
