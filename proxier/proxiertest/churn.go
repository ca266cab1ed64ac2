package proxiertest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The universe that random clusters are drawn from is small, so that Services meet: on names,
// addresses and ports, and with values that are nearly right.
var (
	churnNames      = []string{"alpha", "beta", "gamma"}
	churnNamespaces = []string{"default", "default", "other"}
	churnClusterIPs = []string{"10.96.0.10", "10.96.0.11", "10.96.0.12", "10.96.0.13"}
	churnVIPs       = []string{"203.0.113.10", "203.0.113.11", "198.51.100.10", "198.51.100.11"}
	churnWrongVIPs  = []string{"", "none", "192.168.10.1", "10.96.0.10", "10.96.0.77", "10.244.1.11", "127.0.0.1",
		"169.254.169.254", "224.0.0.9", "0.0.0.0", "203.000.113.010", "::ffff:203.0.113.10", "203.0.113.10/32", "203.0.113.256"}
	churnPorts     = []int32{80, 443, 8080}
	churnNodePorts = []int32{30080, 30081}
	churnSources   = []string{"192.168.20.9/32", "192.168.20.8/29", "10.244.0.0/16", "192.168.10.0/24", " 192.168.20.10/32",
		"0.0.0.0/0", "2001:db8:77::/48", "192.168.020.009/32"}
	churnWrongEndpoints = []string{"127.0.0.1", "169.254.0.7", "0.0.0.0", "224.0.0.1", "203.0.113.10", "::ffff:10.244.1.11", "10.244.001.012", "x"}
)

// RandomCluster is a cluster that changes at random, for tests that compare what several
// descriptions of it say.
type RandomCluster struct {
	Objects *Objects
	v6      bool
	born    int // Services made so far, the age of the next
}

// NewRandomCluster returns a cluster without Services. If v6 is set, it is dual stack.
func NewRandomCluster(v6 bool) *RandomCluster {
	return &RandomCluster{Objects: initial(true, v6), v6: v6}
}

// RandomConfig draws how the node is configured.
func RandomConfig(t *rapid.T) Config {
	c := Config{
		MasqueradeAll: rapid.Bool().Draw(t, "masqueradeAll"),
		NoDetector:    rapid.IntRange(0, 3).Draw(t, "noDetector") == 0,
		DetectMode:    rapid.SampledFrom([]string{"", "", "NodeCIDR", "InterfaceNamePrefix"}).Draw(t, "detectMode"),
		NodePortAddresses: rapid.SampledFrom([][]string{
			nil, nil, {"192.168.10.0/24", "fd00:10::/64"}, {"192.168.20.1/32", "fd00:20::1/128"}, {"primary"},
		}).Draw(t, "nodePortAddresses"),
		DenyExternalIPs: rapid.IntRange(0, 5).Draw(t, "denyExternalIPs") == 0,
	}
	if rapid.IntRange(0, 9).Draw(t, "proxyName") == 0 {
		c.ServiceProxyName = "mesh"
	}
	return c
}

// Change makes one random change and says what it was.
func (c *RandomCluster) Change(t *rapid.T) string {
	o := *c.Objects
	defer func() { c.Objects = &o }()
	ns, name := rapid.SampledFrom(churnNamespaces).Draw(t, "namespace"), rapid.SampledFrom(churnNames).Draw(t, "name")
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	case 0:
		before := len(o.Services)
		o.Services, _ = without(o.Services, proxier.NamespacedName{Namespace: ns, Name: name})
		return fmt.Sprintf("delete %d Services %s/%s", before-len(o.Services), ns, name)
	case 1:
		slice := fmt.Sprintf("%s-%d", name, rapid.IntRange(1, 3).Draw(t, "slice"))
		o.Slices, _ = without(o.Slices, proxier.NamespacedName{Namespace: ns, Name: slice})
		return "delete slice " + ns + "/" + slice
	case 2:
		n := o.Node.DeepCopy()
		n.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"zone-a", "zone-b", ""}).Draw(t, "zone")
		o.Node = n
		return "node in " + n.Labels[corev1.LabelTopologyZone]
	case 3, 4, 5:
		s := c.service(t, ns, name)
		o.Services = with(o.Services, s)
		return fmt.Sprintf("Service %s/%s: %+v status %+v labels %v", ns, name, s.Spec, s.Status.LoadBalancer, s.Labels)
	default:
		s := c.slice(t, ns, name)
		o.Slices = with(o.Slices, s)
		return fmt.Sprintf("slice %s/%s of %v: %+v ports %+v", ns, s.Name, s.Labels, s.Endpoints, s.Ports)
	}
}

// churnProtocol draws the protocol of the ith port: most often the one by which Services and
// slices meet.
func churnProtocol(t *rapid.T, i int) corev1.Protocol {
	all := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	return rapid.SampledFrom([]corev1.Protocol{all[i], all[i], all[i], all[(i+1)%3]}).Draw(t, "protocol")
}

// address draws one of the addresses, sometimes its IPv6 counterpart.
func (c *RandomCluster) address(t *rapid.T, from []string, label string) string {
	a := rapid.SampledFrom(from).Draw(t, label)
	if c.v6 && rapid.Bool().Draw(t, label+" is IPv6") {
		return netlab.V6Text(a)
	}
	return a
}

func (c *RandomCluster) service(t *rapid.T, ns, name string) *corev1.Service {
	c.born++
	s := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name,
			CreationTimestamp: metav1.NewTime(time.Unix(1_800_000_000+int64(c.born/2), 0).UTC())},
	}
	rare := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 0 }
	s.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName,
	}).Draw(t, "type")
	c.clusterIPs(t, s)
	for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
		p := corev1.ServicePort{
			Name:     fmt.Sprintf("p%d", i),
			Protocol: churnProtocol(t, i),
			Port:     rapid.SampledFrom(churnPorts).Draw(t, "port"),
		}
		if (s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer) && !rare("no node port") {
			p.NodePort = rapid.SampledFrom(churnNodePorts).Draw(t, "nodePort")
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	for range rapid.IntRange(-2, 2).Draw(t, "externalIPs") {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, c.vip(t, "externalIP"))
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer || rare("stale status") {
		for range rapid.IntRange(0, 2).Draw(t, "ingress") {
			in := corev1.LoadBalancerIngress{IP: c.vip(t, "ingress")}
			if mode := rapid.SampledFrom([]corev1.LoadBalancerIPMode{"", "", "VIP", "Proxy"}).Draw(t, "ipMode"); mode != "" {
				in.IPMode = &mode
			}
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
		}
		for range rapid.IntRange(-2, 2).Draw(t, "sourceRanges") {
			s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, c.address(t, churnSources, "sourceRange"))
		}
	}
	if rapid.Bool().Draw(t, "internalLocal") {
		policy := corev1.ServiceInternalTrafficPolicyLocal
		s.Spec.InternalTrafficPolicy = &policy
	}
	if rapid.Bool().Draw(t, "externalLocal") {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if rapid.IntRange(0, 3).Draw(t, "affinity") == 0 {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if rare("labelled") {
		s.Labels = map[string]string{proxyName: rapid.SampledFrom([]string{"", "mesh", "other"}).Draw(t, "proxyName")}
	}
	return s
}

func (c *RandomCluster) clusterIPs(t *rapid.T, s *corev1.Service) {
	first := rapid.SampledFrom(churnClusterIPs).Draw(t, "clusterIP")
	second := rapid.SampledFrom(churnClusterIPs).Draw(t, "second clusterIP")
	choice := rapid.IntRange(0, 11).Draw(t, "clusterIP kind")
	switch {
	case choice == 0:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
	case choice == 1 && s.Spec.Type == corev1.ServiceTypeExternalName:
	case choice == 2: // as it is stored since leading zeros were allowed
		first = strings.Replace(first, ".0.", ".000.", 1)
		s.Spec.ClusterIP, s.Spec.ClusterIPs = first, []string{first}
	case c.v6 && choice < 6:
		first = netlab.V6Text(first)
		s.Spec.ClusterIP, s.Spec.ClusterIPs = first, []string{first}
	case c.v6 && choice < 9:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = first, []string{first, netlab.V6Text(second)}
	default:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = first, []string{first}
	}
	for _, a := range s.Spec.ClusterIPs {
		family := corev1.IPv4Protocol
		if strings.Contains(a, ":") {
			family = corev1.IPv6Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
}

func (c *RandomCluster) vip(t *rapid.T, label string) string {
	if rapid.IntRange(0, 4).Draw(t, label+" is wrong") == 0 {
		return rapid.SampledFrom(churnWrongVIPs).Draw(t, label)
	}
	return c.address(t, churnVIPs, label)
}

func (c *RandomCluster) slice(t *rapid.T, ns, name string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns,
			Name:   fmt.Sprintf("%s-%d", name, rapid.IntRange(1, 3).Draw(t, "slice")),
			Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	six := c.v6 && rapid.Bool().Draw(t, "IPv6 slice")
	if six {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	if rapid.IntRange(0, 14).Draw(t, "headless") == 0 {
		s.Labels[headless] = ""
	}
	for i := range rapid.SampledFrom([]int{0, 1, 2, 3, 3, 3}).Draw(t, "ports") {
		portName := fmt.Sprintf("p%d", i)
		number := rapid.SampledFrom([]int32{8080, 8081, 8080, 8081, 8080, 0}).Draw(t, "target")
		protocol := churnProtocol(t, i)
		p := discoveryv1.EndpointPort{Name: &portName, Port: &number, Protocol: &protocol}
		if protocol == corev1.ProtocolTCP && rapid.Bool().Draw(t, "protocol is left out") {
			p.Protocol = nil
		}
		s.Ports = append(s.Ports, p)
	}
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		s.Endpoints = append(s.Endpoints, c.endpoint(t, six))
	}
	return s
}

func (c *RandomCluster) endpoint(t *rapid.T, six bool) discoveryv1.Endpoint {
	pod := rapid.SampledFrom([]string{"a", "b", "c", "f", "g", "h", "node-1", "node-2"}).Draw(t, "pod")
	node, addr := placed(pod)
	if rapid.IntRange(0, 9).Draw(t, "wrong address") == 0 {
		addr = rapid.SampledFrom(churnWrongEndpoints).Draw(t, "address")
	}
	if six && rapid.IntRange(0, 14).Draw(t, "wrong family") != 0 {
		addr = netlab.V6Text(addr)
	}
	ep := discoveryv1.Endpoint{Addresses: []string{addr}}
	if rapid.IntRange(0, 9).Draw(t, "no node") != 0 {
		ep.NodeName = &node
	}
	condition := func(label string) *bool {
		return rapid.SampledFrom([]*bool{nil, nil, ptr(true), ptr(false)}).Draw(t, label)
	}
	ep.Conditions = discoveryv1.EndpointConditions{
		Ready: condition("ready"), Serving: condition("serving"), Terminating: condition("terminating"),
	}
	if rapid.Bool().Draw(t, "hints") {
		ep.Hints = &discoveryv1.EndpointHints{}
		if rapid.Bool().Draw(t, "zone hint") {
			ep.Hints.ForZones = []discoveryv1.ForZone{{Name: rapid.SampledFrom([]string{"zone-a", "zone-b"}).Draw(t, "zone")}}
		}
		if rapid.Bool().Draw(t, "node hint") {
			ep.Hints.ForNodes = []discoveryv1.ForNode{{Name: rapid.SampledFrom([]string{"node-1", "node-2"}).Draw(t, "node")}}
		}
	}
	return ep
}

func ptr[T any](v T) *T { return &v }

// Packets are packets that could concern the cluster: to every address and port of the universe
// and to those beside, from every kind of client.
func (c *RandomCluster) Packets() []Packet {
	clients := []struct{ addr, in string }{
		{"10.244.1.15", "pod-e"}, {"10.244.2.25", "node-2"}, {"192.168.10.2", "node-2"},
		{"192.168.20.9", "outside"}, {"192.168.20.10", "outside"}, {"203.0.113.10", "outside"}, {"198.51.100.10", "outside"},
		{"192.168.10.1", ""}, {"192.168.20.1", ""},
	}
	servers := slices.Concat(churnClusterIPs, churnVIPs, []string{
		"192.168.10.1", "192.168.20.1", "10.244.1.1", "192.168.10.2", "10.96.0.77", "203.0.113.12", "10.244.1.11"})
	var out []Packet
	for _, six := range []bool{false, true}[:1+btoi(c.v6)] {
		for _, to := range servers {
			for _, from := range clients {
				src, dst := netip.MustParseAddr(from.addr), netip.MustParseAddr(to)
				if six {
					src, dst = netlab.V6(src), netlab.V6(dst)
				}
				for _, port := range []uint16{80, 443, 8080, 30080, 30081, 81} {
					for _, protocol := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
						out = append(out, Packet{Src: src, In: from.in, Dst: netip.AddrPortFrom(dst, port), Protocol: protocol})
					}
				}
			}
		}
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
