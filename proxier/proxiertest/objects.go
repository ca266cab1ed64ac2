package proxiertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// Objects is the state of a cluster. It is immutable: a step makes a new one, in which objects
// that did not change keep their pointers.
type Objects struct {
	Node         *corev1.Node
	ServiceCIDRs []*networkingv1.ServiceCIDR
	Services     []*corev1.Service            // sorted by namespace and name
	Slices       []*discoveryv1.EndpointSlice // sorted by namespace and name
}

// initial is the cluster before the first step: the own node and the range of ClusterIPs.
func initial(v4, v6 bool) *Objects {
	node := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: netlab.Node1, Labels: map[string]string{
			corev1.LabelHostname: netlab.Node1, corev1.LabelTopologyZone: "zone-a",
		}},
	}
	ranges := &networkingv1.ServiceCIDR{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
	}
	add := func(node4, pods, services string, text func(string) string) {
		node.Status.Addresses = append(node.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: text(node4)})
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, text(pods))
		ranges.Spec.CIDRs = append(ranges.Spec.CIDRs, text(services))
	}
	if v4 {
		add("192.168.10.1", "10.244.1.0/24", "10.96.0.0/16", func(s string) string { return s })
	}
	if v6 {
		add("192.168.10.1", "10.244.1.0/24", "10.96.0.0/16", netlab.V6Text)
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	return &Objects{Node: node, ServiceCIDRs: []*networkingv1.ServiceCIDR{ranges}}
}

// apply returns o with the objects of a YAML stream, every string of which has gone through text.
func (o *Objects) apply(stream string, text func(string) string) (*Objects, error) {
	out := *o
	for doc := range strings.SplitSeq("\n"+stream, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var tree map[string]any
		if err := yaml.Unmarshal([]byte(doc), &tree); err != nil {
			return nil, fmt.Errorf("objects: %w in:\n%s", err, doc)
		}
		if err := out.put(mapStrings(tree, text).(map[string]any)); err != nil {
			return nil, fmt.Errorf("objects: %w in:\n%s", err, doc)
		}
	}
	return &out, nil
}

// mapStrings returns a copy of a JSON tree with f applied to every string that is no key.
func mapStrings(tree any, f func(string) string) any {
	switch t := tree.(type) {
	case string:
		return f(t)
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = mapStrings(t[i], f)
		}
		return out
	case map[string]any:
		out := maps.Clone(t)
		for k := range out {
			out[k] = mapStrings(out[k], f)
		}
		return out
	}
	return tree
}

// toIPv6 is the text function of scenarios that run for IPv6.
func toIPv6(s string) string {
	if s == "IPv4" {
		return "IPv6"
	}
	return netlab.V6Text(s)
}

func (o *Objects) put(tree map[string]any) error {
	decode := func(into metav1.Object) error {
		text, err := json.Marshal(tree)
		if err != nil {
			return err
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			return err
		}
		if into.GetNamespace() == "" {
			into.SetNamespace(metav1.NamespaceDefault)
		}
		return nil
	}
	switch kind := tree["kind"]; kind {
	case "List":
		items, _ := tree["items"].([]any)
		for _, item := range items {
			if err := o.put(item.(map[string]any)); err != nil {
				return err
			}
		}
	case "Node":
		n := &corev1.Node{}
		if err := decode(n); err != nil {
			return err
		}
		n.Namespace, o.Node = "", n
	case "ServiceCIDR":
		c := &networkingv1.ServiceCIDR{}
		if err := decode(c); err != nil {
			return err
		}
		c.Namespace = ""
		o.ServiceCIDRs = with(o.ServiceCIDRs, c)
	case "Service":
		s := &corev1.Service{}
		if err := decode(s); err != nil {
			return err
		}
		o.Services = with(o.Services, s)
	case "EndpointSlice":
		s := &discoveryv1.EndpointSlice{}
		if err := decode(s); err != nil {
			return err
		}
		o.Slices = with(o.Slices, s)
	default:
		return fmt.Errorf("kind %v", kind)
	}
	return nil
}

func byObjectName[T metav1.Object](a, b T) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// with returns a copy of the sorted list with x in place of the object of its name.
func with[T metav1.Object](list []T, x T) []T {
	i, found := slices.BinarySearchFunc(list, x, byObjectName[T])
	out := slices.Clone(list)
	if found {
		out[i] = x
		return out
	}
	return slices.Insert(out, i, x)
}

// without returns a copy of the list without the object of that name.
func without[T metav1.Object](list []T, name proxier.NamespacedName) ([]T, bool) {
	out := slices.DeleteFunc(slices.Clone(list), func(x T) bool {
		return x.GetNamespace() == name.Namespace && x.GetName() == name.Name
	})
	return out, len(out) < len(list)
}

// remove returns o without the objects that the lines "Kind namespace/name" name. A name may be
// quoted as in Go.
func (o *Objects) remove(lines string) (*Objects, error) {
	out := *o
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		kind, text, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("delete %q: want kind and name", line)
		}
		if unquoted, err := strconv.Unquote(text); err == nil {
			text = unquoted
		}
		name := proxier.NamespacedName{Namespace: metav1.NamespaceDefault, Name: text}
		if ns, n, ok := strings.Cut(text, "/"); ok {
			name = proxier.NamespacedName{Namespace: ns, Name: n}
		}
		var found bool
		switch kind {
		case "Service":
			out.Services, found = without(out.Services, name)
		case "EndpointSlice":
			out.Slices, found = without(out.Slices, name)
		case "ServiceCIDR":
			name.Namespace = ""
			out.ServiceCIDRs, found = without(out.ServiceCIDRs, name)
		case "Node":
			found = out.Node != nil && out.Node.Name == name.Name
			out.Node = nil
		}
		if !found {
			return nil, fmt.Errorf("delete %q: there is none", line)
		}
	}
	return &out, nil
}

// Inputs returns o as resolve wants it. Groups that are as they were in prev keep their pointers.
func (o *Objects) Inputs(prev resolve.Inputs) resolve.Inputs {
	groups := map[proxier.NamespacedName]*resolve.Group{}
	group := func(ns, name string) *resolve.Group {
		n := proxier.NamespacedName{Namespace: ns, Name: name}
		if groups[n] == nil {
			groups[n] = &resolve.Group{Name: n}
		}
		return groups[n]
	}
	for _, s := range o.Services {
		group(s.Namespace, s.Name).Service = s
	}
	for _, s := range o.Slices {
		if owner := s.Labels[discoveryv1.LabelServiceName]; owner != "" {
			g := group(s.Namespace, owner)
			g.Slices = append(g.Slices, s)
		}
	}
	for _, old := range prev.Groups {
		now := groups[old.Name]
		if now != nil && now.Service == old.Service && slices.Equal(now.Slices, old.Slices) {
			groups[old.Name] = old
		}
	}
	in := resolve.Inputs{Node: o.Node, ServiceCIDRs: o.ServiceCIDRs, Groups: slices.Collect(maps.Values(groups))}
	slices.SortFunc(in.Groups, func(a, b *resolve.Group) int { return a.Name.Compare(b.Name) })
	return in
}
