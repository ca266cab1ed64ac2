package scale

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The addresses of Services and of their endpoints. The endpoints' range is routed to one pod.
var (
	serviceRange  = netlab.ServiceCIDRs[0]
	endpointRange = netip.MustParsePrefix("10.248.0.0/13")
	clusterRange  = netip.MustParsePrefix("10.240.0.0/12") // the lab's pods and endpointRange
)

const (
	servicePort  = 80
	endpointPort = 8080
)

// nth returns an address of p, counted from its first.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(n))
	return netip.AddrFrom4(a)
}

// maxServices is how many fit into serviceRange.
const maxServices = 65_000

// serviceAddr is the ClusterIP of a Service.
func serviceAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(nth(serviceRange, 100+i), servicePort)
}

// A cluster makes the objects of a measurement: services Services, each with endpoints endpoints
// but the last, which has one, so that every connection to it tells whether a change of that
// endpoint has arrived.
type cluster struct{ services, endpoints int }

func (c cluster) last() int { return c.services - 1 }

// objects are those of the beginning.
func (c cluster) objects() []runtime.Object {
	out := []runtime.Object{node(), &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{serviceRange.String()}},
	}}
	for i := range c.services {
		out = append(out, service(i), c.slice(i, 0))
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

func service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(i, "")}
	policy, single := corev1.ServiceInternalTrafficPolicyCluster, corev1.IPFamilyPolicySingleStack
	s.Spec = corev1.ServiceSpec{
		Type:                  corev1.ServiceTypeClusterIP,
		ClusterIP:             serviceAddr(i).Addr().String(),
		ClusterIPs:            []string{serviceAddr(i).Addr().String()},
		IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
		IPFamilyPolicy:        &single,
		InternalTrafficPolicy: &policy,
		SessionAffinity:       corev1.ServiceAffinityNone,
		Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort}},
	}
	s.Spec.Ports[0].TargetPort.IntVal = endpointPort
	return s
}

// endpointAddr is the address of endpoint e of Service i. A version other than 0 gives addresses
// that no other endpoint has.
func (c cluster) endpointAddr(i, e, version int) netip.Addr {
	if version > 0 {
		return nth(endpointRange, c.services*c.endpoints+version)
	}
	return nth(endpointRange, i*c.endpoints+e)
}

func (c cluster) slice(i, version int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(i, "-abcde"), AddressType: discoveryv1.AddressTypeIPv4}
	s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("svc-%05d", i)
	s.Labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	name, port, tcp := "http", int32(endpointPort), corev1.ProtocolTCP
	s.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	n := c.endpoints
	if i == c.last() {
		n = 1
	}
	yes, no := true, false
	for e := range n {
		host := []string{netlab.Node1, netlab.Node2}[e%2]
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{c.endpointAddr(i, e, version).String()},
			NodeName:   &host,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: fmt.Sprintf("svc-%05d-%d", i, e)},
		})
	}
	return s
}
