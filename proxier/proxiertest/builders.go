package proxiertest

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A web is a Service and its EndpointSlice while a scenario describes them.
type web struct {
	svc   corev1.Service
	slice discoveryv1.EndpointSlice
}

// An option is one fact about a Service or its endpoints.
type option func(*web)

// service is a Service and its EndpointSlice as YAML. Without a port it has TCP 80, which pods
// serve on 8080; without endpoints its slice is empty.
func service(name string, opts ...option) string {
	w := build(name, append(opts, func(w *web) {
		if w.svc.Spec.Ports == nil {
			port(80)(w)
		}
	}))
	return toYAML(&w.svc) + "---\n" + toYAML(&w.slice)
}

// onlyService is a Service without an EndpointSlice.
func onlyService(name string, opts ...option) string {
	objects := service(name, opts...)
	return objects[:strings.Index(objects, "---\n")]
}

// onlySlice is an EndpointSlice of the named Service. Options for the Service have no effect.
func onlySlice(svc, name string, opts ...option) string {
	w := build(svc, opts)
	w.slice.Name = name
	return toYAML(&w.slice)
}

func build(name string, opts []option) *web {
	w := &web{}
	w.svc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	w.svc.Name, w.svc.Namespace = name, metav1.NamespaceDefault
	w.svc.Spec.Type = corev1.ServiceTypeClusterIP
	w.slice.TypeMeta = metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
	w.slice.Name, w.slice.Namespace = name+"-1", metav1.NamespaceDefault
	w.slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	w.slice.AddressType = discoveryv1.AddressTypeIPv4
	for _, o := range opts {
		o(w)
	}
	return w
}

// all joins objects into one document stream.
func all(objects ...string) string { return strings.Join(objects, "---\n") }

func toYAML(object any) string {
	text, err := yaml.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("proxiertest: %T does not marshal: %v", object, err))
	}
	return string(text)
}

// Addresses.

func clusterIP(addrs ...string) option {
	return func(w *web) {
		w.svc.Spec.ClusterIP, w.svc.Spec.ClusterIPs = addrs[0], addrs
		w.svc.Spec.IPFamilies = nil
		for _, a := range addrs {
			family := corev1.IPv4Protocol
			if strings.Contains(a, ":") {
				family = corev1.IPv6Protocol
			}
			w.svc.Spec.IPFamilies = append(w.svc.Spec.IPFamilies, family)
		}
	}
}

func externalIPs(addrs ...string) option {
	return func(w *web) { w.svc.Spec.ExternalIPs = addrs }
}

// loadBalancer makes the type LoadBalancer and its addresses those of the status.
func loadBalancer(addrs ...string) option {
	return func(w *web) {
		w.svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, a := range addrs {
			w.svc.Status.LoadBalancer.Ingress = append(w.svc.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: a})
		}
	}
}

// ipMode sets the mode of the load balancer's addresses so far.
func ipMode(mode corev1.LoadBalancerIPMode) option {
	return func(w *web) {
		for i := range w.svc.Status.LoadBalancer.Ingress {
			w.svc.Status.LoadBalancer.Ingress[i].IPMode = &mode
		}
	}
}

func sourceRanges(cidrs ...string) option {
	return func(w *web) { w.svc.Spec.LoadBalancerSourceRanges = cidrs }
}

// Ports.

// port adds a TCP port, which pods serve 8000 above it, on 8080 for 80.
func port(n int32) option { return portTo(corev1.ProtocolTCP, "", n, 8000+n) }

func udp(n int32) option { return portTo(corev1.ProtocolUDP, "", n, 8000+n) }

func sctp(n int32) option { return portTo(corev1.ProtocolSCTP, "", n, 8000+n) }

// portTo adds a port that endpoints serve on the number target.
func portTo(protocol corev1.Protocol, name string, n, target int32) option {
	return func(w *web) {
		w.svc.Spec.Ports = append(w.svc.Spec.Ports, corev1.ServicePort{
			Name: name, Protocol: protocol, Port: n, TargetPort: intstr.FromInt32(target),
		})
		w.slice.Ports = append(w.slice.Ports, discoveryv1.EndpointPort{
			Name: &name, Protocol: &protocol, Port: &target,
		})
	}
}

// nodePort makes the type NodePort, unless it is LoadBalancer, and gives the last port a number
// on the node.
func nodePort(n int32) option {
	return func(w *web) {
		if len(w.svc.Spec.Ports) == 0 {
			port(80)(w)
		}
		if w.svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			w.svc.Spec.Type = corev1.ServiceTypeNodePort
		}
		w.svc.Spec.Ports[len(w.svc.Spec.Ports)-1].NodePort = n
	}
}

// Policies.

func internalLocal(w *web) {
	policy := corev1.ServiceInternalTrafficPolicyLocal
	w.svc.Spec.InternalTrafficPolicy = &policy
}

func externalLocal(w *web) {
	w.svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func healthCheckPort(n int32) option {
	return func(w *web) { w.svc.Spec.HealthCheckNodePort = n }
}

// affinity keeps clients at their endpoint for so many seconds.
func affinity(seconds int32) option {
	return func(w *web) {
		w.svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		w.svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
			ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds},
		}
	}
}

// Other facts.

func externalName(name string) option {
	return func(w *web) { w.svc.Spec.Type, w.svc.Spec.ExternalName = corev1.ServiceTypeExternalName, name }
}

func namespace(ns string) option {
	return func(w *web) { w.svc.Namespace, w.slice.Namespace = ns, ns }
}

// label labels the Service, sliceLabel its slice.
func label(key, value string) option {
	return func(w *web) { w.svc.Labels = map[string]string{key: value} }
}

func sliceLabel(key, value string) option {
	return func(w *web) { w.slice.Labels[key] = value }
}

func annotation(key, value string) option {
	return func(w *web) { w.svc.Annotations = map[string]string{key: value} }
}

// created sets when the Service came to be, as RFC 3339.
func created(at string) option {
	return func(w *web) {
		if err := w.svc.CreationTimestamp.UnmarshalQueryParameter(at); err != nil {
			panic(err)
		}
	}
}

// edit does what no other option does.
func edit(f func(*corev1.Service, *discoveryv1.EndpointSlice)) option {
	return func(w *web) { f(&w.svc, &w.slice) }
}

// Endpoints.

// on adds ready endpoints: pods, "node-1" and "node-2" for pods in the host network, and
// "outside".
func on(places ...string) option { return endpoints(places, discoveryv1.EndpointConditions{}) }

// unready adds endpoints that do not serve, or no longer.
func unready(places ...string) option {
	no := false
	return endpoints(places, discoveryv1.EndpointConditions{Ready: &no, Serving: &no})
}

// terminating adds endpoints that are shutting down and still serve.
func terminating(places ...string) option {
	no, yes := false, true
	return endpoints(places, discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes})
}

// stopped adds endpoints that are shutting down and do not serve any more.
func stopped(places ...string) option {
	no, yes := false, true
	return endpoints(places, discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes})
}

// published adds endpoints that are shutting down and count as ready, since their Service
// publishes addresses that are not.
func published(places ...string) option {
	yes := true
	return endpoints(places, discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &yes})
}

func endpoints(places []string, c discoveryv1.EndpointConditions) option {
	return func(w *web) {
		for _, p := range places {
			node, addr := placed(p)
			ep := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: c}
			if node != "" {
				ep.NodeName = &node
			}
			w.slice.Endpoints = append(w.slice.Endpoints, ep)
		}
	}
}

// at adds a ready endpoint by address, of no node.
func at(addrs ...string) option {
	return func(w *web) {
		for _, a := range addrs {
			w.slice.Endpoints = append(w.slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
		}
	}
}

// forZones and forNodes hint at the endpoints so far that have no such hint yet.
func forZones(zones ...string) option {
	return hint(func(h *discoveryv1.EndpointHints) {
		for _, z := range zones {
			h.ForZones = append(h.ForZones, discoveryv1.ForZone{Name: z})
		}
	}, func(h *discoveryv1.EndpointHints) bool { return h.ForZones == nil })
}

func forNodes(nodes ...string) option {
	return hint(func(h *discoveryv1.EndpointHints) {
		for _, n := range nodes {
			h.ForNodes = append(h.ForNodes, discoveryv1.ForNode{Name: n})
		}
	}, func(h *discoveryv1.EndpointHints) bool { return h.ForNodes == nil })
}

func hint(set func(*discoveryv1.EndpointHints), unset func(*discoveryv1.EndpointHints) bool) option {
	return func(w *web) {
		for i := range w.slice.Endpoints {
			ep := &w.slice.Endpoints[i]
			if ep.Hints == nil {
				ep.Hints = &discoveryv1.EndpointHints{}
			}
			if unset(ep.Hints) {
				set(ep.Hints)
			}
		}
	}
}

// placed says on which node a place of the lab is, "" for none, and what its IPv4 address is.
func placed(name string) (node, addr string) {
	node = netlab.PodNode(name)
	if name == netlab.Node1 || name == netlab.Node2 {
		node = name
	}
	a := netlab.Addr(name)
	if !a.IsValid() {
		panic("proxiertest: no such place: " + name)
	}
	return node, a.String()
}

// node1 is the Node object of the node under test, in a zone.
func node1(zone string) string {
	return toYAML(&corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{
			corev1.LabelHostname: "node-1", corev1.LabelTopologyZone: zone,
		}},
		Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "192.168.10.1"},
		}},
	})
}
