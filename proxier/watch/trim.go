package watch

import (
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trimming serves two ends: the objects are most of a node proxy's memory, and a change of
// something that nobody reads (a heartbeat in Node.status, a controller's annotation) must not
// make a new snapshot. Trimming is idempotent.

// annotationPrefix is that of the annotations that Fairway itself reads.
const annotationPrefix = "fairway.dev/"

// keptLabels are the labels that decide which objects count, and the zone of the node.
var keptLabels = []string{
	discoveryv1.LabelServiceName,
	corev1.IsHeadlessService,
	labelProxyName,
	corev1.LabelTopologyZone,
}

// labelProxyName hands a Service to another proxy (row S-01 of the kube-proxy inventory).
const labelProxyName = "service.kubernetes.io/service-proxy-name"

func trimMeta(m *metav1.ObjectMeta) {
	*m = metav1.ObjectMeta{
		Name:              m.Name,
		Namespace:         shared.intern(m.Namespace),
		UID:               m.UID,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            keep(m.Labels, func(k string) bool { return slices.Contains(keptLabels, k) }),
		Annotations:       keep(m.Annotations, func(k string) bool { return strings.HasPrefix(k, annotationPrefix) }),
	}
}

// keep returns the entries of m whose key is wanted, nil if there are none.
func keep(m map[string]string, wanted func(string) bool) map[string]string {
	var out map[string]string
	for k, v := range m {
		if wanted(k) {
			if out == nil {
				out = map[string]string{}
			}
			out[shared.intern(k)] = v
		}
	}
	return out
}

func trimService(s *corev1.Service) {
	trimMeta(&s.ObjectMeta)
	s.TypeMeta = metav1.TypeMeta{}
	p := &s.Spec
	*p = corev1.ServiceSpec{
		Ports:                    slices.Clip(p.Ports),
		ClusterIP:                p.ClusterIP,
		ClusterIPs:               slices.Clip(p.ClusterIPs),
		Type:                     corev1.ServiceType(shared.intern(string(p.Type))),
		ExternalIPs:              p.ExternalIPs,
		SessionAffinity:          corev1.ServiceAffinity(shared.intern(string(p.SessionAffinity))),
		LoadBalancerSourceRanges: p.LoadBalancerSourceRanges,
		ExternalName:             p.ExternalName,
		ExternalTrafficPolicy:    corev1.ServiceExternalTrafficPolicy(shared.intern(string(p.ExternalTrafficPolicy))),
		HealthCheckNodePort:      p.HealthCheckNodePort,
		PublishNotReadyAddresses: p.PublishNotReadyAddresses,
		SessionAffinityConfig:    p.SessionAffinityConfig,
		IPFamilies:               p.IPFamilies,
		InternalTrafficPolicy:    internAs(p.InternalTrafficPolicy),
	}
	if len(p.ClusterIPs) > 0 && p.ClusterIPs[0] == p.ClusterIP {
		p.ClusterIP = p.ClusterIPs[0] // one string for both
	}
	for i := range p.Ports {
		old := p.Ports[i]
		p.Ports[i] = corev1.ServicePort{
			Name:     shared.intern(old.Name),
			Protocol: corev1.Protocol(shared.intern(string(old.Protocol))),
			Port:     old.Port,
			NodePort: old.NodePort,
		}
	}
	for i := range p.IPFamilies {
		p.IPFamilies[i] = corev1.IPFamily(shared.intern(string(p.IPFamilies[i])))
	}
	var ingress []corev1.LoadBalancerIngress
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			ingress = append(ingress, corev1.LoadBalancerIngress{IP: in.IP, IPMode: internAs(in.IPMode)})
		}
	}
	s.Status = corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress}}
}

func trimSlice(s *discoveryv1.EndpointSlice) {
	trimMeta(&s.ObjectMeta)
	s.TypeMeta, s.UID = metav1.TypeMeta{}, ""
	s.CreationTimestamp, s.DeletionTimestamp = metav1.Time{}, nil
	s.AddressType = discoveryv1.AddressType(shared.intern(string(s.AddressType)))
	s.Endpoints = exact(s.Endpoints)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		*e = discoveryv1.Endpoint{
			Addresses: exact(e.Addresses),
			Conditions: discoveryv1.EndpointConditions{
				Ready:       sharedBool(e.Conditions.Ready),
				Serving:     sharedBool(e.Conditions.Serving),
				Terminating: sharedBool(e.Conditions.Terminating),
			},
			Hostname:  e.Hostname,
			TargetRef: e.TargetRef,
			NodeName:  internAs(e.NodeName),
			Zone:      internAs(e.Zone),
			Hints:     e.Hints,
		}
		if r := e.TargetRef; r != nil {
			e.TargetRef = &corev1.ObjectReference{
				Kind: shared.intern(r.Kind), Namespace: shared.intern(r.Namespace), Name: r.Name,
			}
		}
		if h := e.Hints; h != nil {
			for j := range h.ForZones {
				h.ForZones[j].Name = shared.intern(h.ForZones[j].Name)
			}
			for j := range h.ForNodes {
				h.ForNodes[j].Name = shared.intern(h.ForNodes[j].Name)
			}
		}
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		*p = discoveryv1.EndpointPort{Name: internAs(p.Name), Protocol: internAs(p.Protocol), Port: p.Port}
	}
}

func trimNode(n *corev1.Node) {
	trimMeta(&n.ObjectMeta)
	n.TypeMeta = metav1.TypeMeta{}
	taints := n.Spec.Taints
	for i := range taints {
		taints[i] = corev1.Taint{Key: taints[i].Key, Value: taints[i].Value, Effect: taints[i].Effect}
	}
	n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs, Taints: taints}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, DaemonEndpoints: n.Status.DaemonEndpoints}
}

func trimCIDR(c *networkingv1.ServiceCIDR) {
	trimMeta(&c.ObjectMeta)
	c.TypeMeta = metav1.TypeMeta{}
	c.Status = networkingv1.ServiceCIDRStatus{}
}

// exact returns s without spare capacity: decoders grow slices by doubling.
func exact[T any](s []T) []T {
	if cap(s) == len(s) {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

var yes, no = true, false

// sharedBool returns a pointer to the same value that all callers share.
func sharedBool(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

// shared holds the strings that most objects repeat: nodes, zones, namespaces, port names.
var shared interner

// An interner keeps one copy of equal strings. The zero interner is ready.
type interner struct {
	mu  sync.Mutex
	set map[string]*string
}

// internLimit bounds what an interner holds of strings that are long gone.
const internLimit = 1 << 15

func (in *interner) pointer(s string) *string {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p := in.set[s]; p != nil {
		return p
	}
	if in.set == nil || len(in.set) >= internLimit {
		in.set = map[string]*string{}
	}
	s = strings.Clone(s)
	in.set[s] = &s
	return &s
}

func (in *interner) intern(s string) string {
	if s == "" {
		return ""
	}
	return *in.pointer(s)
}

// internAs returns a pointer to the same text with a shared backing.
func internAs[S ~string](s *S) *S {
	switch p := any(s).(type) {
	case *string:
		if p == nil {
			return nil
		}
		return any(shared.pointer(*p)).(*S)
	default:
		if s == nil {
			return nil
		}
		v := S(shared.intern(string(*s)))
		return &v
	}
}
