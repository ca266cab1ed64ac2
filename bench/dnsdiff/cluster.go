package dnsdiff

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// A Cluster is a random set of objects: what a real API server could serve, and as odd as that
// allows. The same random numbers give the same Cluster.
type Cluster struct {
	Namespaces []*corev1.Namespace
	Services   []*corev1.Service
	Slices     []*discoveryv1.EndpointSlice
	Pods       []*corev1.Pod
}

// Objects are all objects of the cluster.
func (c *Cluster) Objects() []runtime.Object {
	var out []runtime.Object
	for _, o := range c.Namespaces {
		out = append(out, o)
	}
	for _, o := range c.Services {
		out = append(out, o)
	}
	for _, o := range c.Slices {
		out = append(out, o)
	}
	for _, o := range c.Pods {
		out = append(out, o)
	}
	return out
}

// Names that are something else elsewhere in a zone, that are as long as a label can be, or that
// look like an address.
var (
	namespaceNames = []string{"default", "kube-system", "prod", "dev", "svc", "1-team", "10-0-0-1"}
	serviceNames   = []string{"web", "db", "cache", "a", "svc", "pod", "dns-version", "kube-dns", "e-10-244-1-1", strings.Repeat("long-", 12) + "abc", "x", "mail", "ns", "api", "queue"}
	portNames      = []string{"http", "https", "dns", "dns-tcp", "metrics", "p0", "a-b-c", "x1"}
	hostNames      = []string{"web-0", "web-1", "db-0", "a", "10-244-1-1", "fd00-10--1", "primary", strings.Repeat("h", 63)}
	podNames       = []string{"web-7d4b-x1", "web-7d4b-x2", "db-0", "job-abc", strings.Repeat("pod-name-", 7) + "end"}
	targets        = []string{"www.example.com", "alias.example.com", "chain.example.com", "dangling.example.com", "nobody.example.com",
		"x.servfail.example.com", "x.refused.example.com", "v6only.example.com", "www.example.com.", "big.example.com", "WWW.Example.COM",
		"web.default.svc.cluster.local", "db.prod.svc.cluster.local", "nothing.prod.svc.cluster.local", "svc.cluster.local",
		"1.2.3.4", "away.example.com", "x.prod.svc.cluster.local", "mail.default.svc.cluster.local"}
	protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// chance is true once in n.
func chance(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// NewCluster makes a cluster of up to about 30 Services.
func NewCluster(r *rand.Rand) *Cluster {
	c := &Cluster{}
	for _, name := range namespaceNames {
		if name == "default" || !chance(r, 3) {
			c.Namespaces = append(c.Namespaces, namespace(r, name))
		}
	}
	for range 8 + r.IntN(24) {
		c.AddService(r)
	}
	for range r.IntN(12) {
		c.Pods = append(c.Pods, c.pod(r, len(c.Pods)))
	}
	if chance(r, 2) {
		// Slices that no Service has. One without the name of a Service is not among them: CoreDNS
		// never answers for its addresses (docs/dns-differences.md, slice-without-service).
		c.Slices = append(c.Slices, c.slice(r, "default", "nobody", nil, len(c.Slices)))
	}
	return c
}

func namespace(r *rand.Rand, name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"tier": pick(r, []string{"one", "two"})}}}
}

// AddService adds a Service of a name that there is none of, with its slices. It returns nil if
// it found no such name.
func (c *Cluster) AddService(r *rand.Rand) *corev1.Service {
	ns, name := pick(r, c.Namespaces).Name, pick(r, serviceNames)
	if slices.ContainsFunc(c.Services, func(s *corev1.Service) bool { return s.Namespace == ns && s.Name == name }) {
		return nil
	}
	s := Service(r, ns, name, c.freeAddress)
	c.Services = append(c.Services, s)
	if s.Spec.Type != corev1.ServiceTypeExternalName || chance(r, 4) {
		for range r.IntN(4) {
			c.Slices = append(c.Slices, c.slice(r, ns, name, s, len(c.Slices)))
		}
	}
	return s
}

// freeAddress returns a ClusterIP that no Service has.
func (c *Cluster) freeAddress(r *rand.Rand, f corev1.IPFamily) string {
	for {
		a := serviceAddress(r, f)
		if !slices.ContainsFunc(c.Services, func(s *corev1.Service) bool { return slices.Contains(s.Spec.ClusterIPs, a) }) {
			return a
		}
	}
}

func serviceAddress(r *rand.Rand, f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return netip.AddrFrom16([16]byte{0: 0xfd, 2: 0, 3: 0x10, 5: 0x96, 14: byte(r.IntN(2)), 15: byte(r.IntN(255))}).String()
	}
	return fmt.Sprintf("10.96.%d.%d", r.IntN(2), 1+r.IntN(250))
}

// Service makes a random Service; address chooses its ClusterIPs.
func Service(r *rand.Rand, ns, name string, address func(*rand.Rand, corev1.IPFamily) string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": pick(r, []string{"one", "two"})}}}
	s.Spec.Type = pick(r, []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName})
	s.Spec.Ports = servicePorts(r)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		s.Spec.ExternalName = pick(r, targets)
		if !chance(r, 3) {
			s.Spec.Ports = nil
		}
		return s
	}
	s.Spec.IPFamilies = pick(r, [][]corev1.IPFamily{{corev1.IPv4Protocol}, {corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}})
	if s.Spec.Type == corev1.ServiceTypeClusterIP && chance(r, 2) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		s.Spec.PublishNotReadyAddresses = chance(r, 4)
		if chance(r, 3) {
			s.Spec.Ports = nil
		}
		return s
	}
	for _, f := range s.Spec.IPFamilies {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, address(r, f))
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	if chance(r, 4) {
		s.Spec.ExternalIPs = []string{fmt.Sprintf("203.0.113.%d", r.IntN(250))}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("198.51.100.%d", r.IntN(250))}}
	}
	return s
}

func servicePorts(r *rand.Rand) []corev1.ServicePort {
	if chance(r, 4) { // one without a name
		return []corev1.ServicePort{{Protocol: pick(r, protocols), Port: int32(1 + r.IntN(65535))}}
	}
	var out []corev1.ServicePort
	for i, at := range r.Perm(len(portNames))[:1+r.IntN(3)] {
		out = append(out, corev1.ServicePort{Name: portNames[at], Protocol: pick(r, protocols), Port: int32(80 + 1000*i + r.IntN(1000))})
	}
	return out
}

// endpointAddress returns one of few addresses, so that Services share some.
func endpointAddress(r *rand.Rand, v6 bool) string {
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x10, 5: byte(r.IntN(2)), 11: byte(r.IntN(3)), 15: byte(r.IntN(12))}).String()
	}
	return fmt.Sprintf("10.244.%d.%d", 1+r.IntN(2), 1+r.IntN(30))
}

func (c *Cluster) slice(r *rand.Rand, ns, service string, s *corev1.Service, n int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: ns, Name: fmt.Sprintf("%.40s-%d", service, n),
		Labels: map[string]string{discoveryv1.LabelServiceName: service, "app": "one"},
	}}
	if s != nil {
		out.Labels["app"] = s.Labels["app"]
		if s.Spec.ClusterIP == corev1.ClusterIPNone && !chance(r, 4) { // the controller sets it; others may not
			out.Labels[corev1.IsHeadlessService] = ""
		}
	}
	out.AddressType = pick(r, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6})
	count := r.IntN(5)
	if chance(r, 12) {
		count = 40 + r.IntN(60) // does not fit into a datagram
	}
	for range count {
		out.Endpoints = append(out.Endpoints, endpoint(r, out.AddressType == discoveryv1.AddressTypeIPv6))
	}
	out.Ports = slicePorts(r, s)
	return out
}

func slicePorts(r *rand.Rand, s *corev1.Service) (out []discoveryv1.EndpointPort) {
	if s == nil {
		return nil
	}
	for _, p := range s.Spec.Ports {
		if chance(r, 8) {
			continue
		}
		port := discoveryv1.EndpointPort{Name: ptr.To(p.Name), Protocol: ptr.To(p.Protocol), Port: ptr.To(p.Port + 1)}
		if chance(r, 12) {
			port.Port = nil
		}
		out = append(out, port)
	}
	return out
}

func endpoint(r *rand.Rand, v6 bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{endpointAddress(r, v6)}}
	if chance(r, 5) {
		e.Hostname = ptr.To(pick(r, hostNames))
	}
	if chance(r, 2) {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pick(r, podNames)}
	}
	e.Conditions.Ready = pick(r, []*bool{ptr.To(true), ptr.To(true), ptr.To(true), nil, ptr.To(false)})
	if e.Conditions.Ready != nil && !*e.Conditions.Ready {
		e.Conditions.Serving = pick(r, []*bool{nil, ptr.To(true), ptr.To(false)})
		e.Conditions.Terminating = pick(r, []*bool{nil, ptr.To(true), ptr.To(false)})
	}
	return e
}

func (c *Cluster) pod(r *rand.Rand, n int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pick(r, c.Namespaces).Name, Name: fmt.Sprintf("pod-%d", n),
		Labels: map[string]string{"app": pick(r, []string{"one", "two"})},
	}}
	p.Status.Phase = pick(r, []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed})
	p.Status.PodIP = endpointAddress(r, chance(r, 4))
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}, {IP: endpointAddress(r, true)}}
	return p
}

// podAddrs are the IPv4 addresses of the pods, each once.
func (c *Cluster) podAddrs() (out []netip.Addr) {
	for _, p := range c.Pods {
		if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && a.Is4() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
