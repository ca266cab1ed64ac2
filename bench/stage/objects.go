package stage

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The addresses of Services and of their endpoints. The endpoints' range is routed to one pod.
// IPv6 has the corresponding ones, see netlab.V6.
var (
	serviceRange  = netip.MustParsePrefix("10.96.0.0/12")
	endpointRange = netip.MustParsePrefix("10.248.0.0/13")
	clusterRange  = netip.MustParsePrefix("10.240.0.0/12") // the lab's pods and endpointRange
)

const (
	servicePort  = 80
	endpointPort = 8080
	nodePort     = 30000
)

// nth returns an address of p or of its IPv6 counterpart, counted from its first.
func (c Cluster) nth(p netip.Prefix, n int) netip.Addr {
	b := netlab.V6(p.Masked().Addr()).As16() // ends with the IPv4 address
	if !c.V6 {
		b = p.Masked().Addr().As16()
	}
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+uint32(n))
	return netip.AddrFrom16(b).Unmap()
}

// MaxEndpoints is how many endpoints a cluster may have in all.
const MaxEndpoints = 520_000

// A Cluster is a number of Services in one IP family, each with Endpoints endpoints but the last,
// which has one, so that every connection to it tells whether a change of that endpoint has
// arrived. The first and the last but one are those that traffic is measured with: they have a
// node port as well, and a UDP port besides the TCP port that each has.
type Cluster struct {
	Services  int  `json:"services"`
	Endpoints int  `json:"endpoints"`
	V6        bool `json:"v6,omitempty"`
}

// Validate returns an error for a Cluster that cannot be.
func (c Cluster) Validate() error {
	if c.Services < 3 || c.Endpoints < 1 || c.Services*c.Endpoints > MaxEndpoints {
		return fmt.Errorf("%d services of %d endpoints are not possible here", c.Services, c.Endpoints)
	}
	return nil
}

// Last is the index of the Service whose endpoint changes.
func (c Cluster) Last() int { return c.Services - 1 }

// Ends are the indexes of the two Services that traffic is measured with.
func (c Cluster) Ends() (first, last int) { return 0, c.Services - 2 }

func (c Cluster) rich(i int) bool {
	first, last := c.Ends()
	return i == first || i == last
}

// Service is the ClusterIP and port of a Service.
func (c Cluster) Service(i int) netip.AddrPort {
	return netip.AddrPortFrom(c.nth(serviceRange, 100+i), servicePort)
}

// NodePort is the address of node-1 and the node port of the first or the last but one Service.
func (c Cluster) NodePort(i int) netip.AddrPort {
	port := uint16(nodePort)
	if i > 0 {
		port++
	}
	return netip.AddrPortFrom(c.nth(netip.PrefixFrom(netlab.Node1Addr, 32), 0), port)
}

// Direct is the address and port of an endpoint.
func (c Cluster) Direct(i, e int) netip.AddrPort {
	return netip.AddrPortFrom(c.Endpoint(i, e, 0), endpointPort)
}

// Endpoint is the address of endpoint e of Service i. A version other than 0 gives addresses that
// no other endpoint has.
func (c Cluster) Endpoint(i, e, version int) netip.Addr {
	if version > 0 {
		return c.nth(endpointRange, c.Services*c.Endpoints+version)
	}
	return c.nth(endpointRange, i*c.Endpoints+e)
}

// Objects are those of the beginning.
func (c Cluster) Objects() []runtime.Object {
	out := []runtime.Object{node(), &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{serviceRange.String(), netlab.V6Prefix(serviceRange).String()}},
	}}
	for i := range c.Services {
		out = append(out, c.service(i), c.Slice(i, 0))
	}
	return out
}

func node() *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: netlab.Node1}}
	n.Spec.PodCIDR = "10.244.1.0/24"
	n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: netlab.Node1Addr.String()},
		{Type: corev1.NodeInternalIP, Address: netlab.V6(netlab.Node1Addr).String()},
	}
	return n
}

func meta(i int, suffix string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: fmt.Sprintf("team-%d", i%10),
		Name:      fmt.Sprintf("svc-%05d%s", i, suffix),
		Labels:    map[string]string{"app": fmt.Sprintf("svc-%05d", i)},
	}
}

func (c Cluster) service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(i, "")}
	policy, single := corev1.ServiceInternalTrafficPolicyCluster, corev1.IPFamilyPolicySingleStack
	family := corev1.IPv4Protocol
	if c.V6 {
		family = corev1.IPv6Protocol
	}
	ip := c.Service(i).Addr().String()
	s.Spec = corev1.ServiceSpec{
		Type:                  corev1.ServiceTypeClusterIP,
		ClusterIP:             ip,
		ClusterIPs:            []string{ip},
		IPFamilies:            []corev1.IPFamily{family},
		IPFamilyPolicy:        &single,
		InternalTrafficPolicy: &policy,
		SessionAffinity:       corev1.ServiceAffinityNone,
		Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort}},
	}
	if c.rich(i) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "udp", Protocol: corev1.ProtocolUDP, Port: servicePort})
		for j := range s.Spec.Ports {
			s.Spec.Ports[j].NodePort = int32(c.NodePort(i).Port())
		}
	}
	for j := range s.Spec.Ports {
		s.Spec.Ports[j].TargetPort = intstr.FromInt32(endpointPort)
	}
	return s
}

// Slice is the EndpointSlice of Service i. Versions other than 0 have other addresses.
func (c Cluster) Slice(i, version int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(i, "-abcde"), AddressType: discoveryv1.AddressTypeIPv4}
	if c.V6 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("svc-%05d", i)
	s.Labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	port := func(name string, protocol *corev1.Protocol) {
		number := int32(endpointPort)
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: protocol})
	}
	port("http", &tcp)
	if c.rich(i) {
		port("udp", &udp)
	}
	n := c.Endpoints
	if i == c.Last() {
		n = 1
	}
	yes, no := true, false
	for e := range n {
		host := []string{netlab.Node1, netlab.Node2}[e%2]
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{c.Endpoint(i, e, version).String()},
			NodeName:   &host,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: fmt.Sprintf("svc-%05d-%d", i, e)},
		})
	}
	return s
}
