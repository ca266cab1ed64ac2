package names

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// Labels of the Multi-Cluster Services API on EndpointSlices.
const (
	LabelImport  = "multicluster.kubernetes.io/service-name"
	LabelCluster = "multicluster.kubernetes.io/source-cluster"
)

// Keep says what of an EndpointSlice is wanted beside addresses and hostnames.
type Keep struct {
	Pods  bool // names of pods, for the option endpoint_pod_names
	Zones bool // zones, for the option zonal
}

// OfService converts a Service. Slices are left for the caller.
func OfService(s *corev1.Service) *Service {
	out := &Service{
		NamespacedName: proxier.NamespacedName{Namespace: intern(strings.ToLower(s.Namespace)), Name: strings.ToLower(s.Name)},
		Kind:           ClusterIP,
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		out.Kind, out.External = ExternalName, s.Spec.ExternalName
		return out
	case len(ips) > 0 && ips[0] == corev1.ClusterIPNone:
		out.Kind = Headless
	default:
		out.IPs = addresses(ips)
	}
	out.Ports = ports(s.Spec.Ports)
	return out
}

// OfImport converts a ServiceImport of the Multi-Cluster Services API, of type ClusterSetIP or
// Headless. Slices are left for the caller.
func OfImport(namespace, name, typ string, ips []string, list []corev1.ServicePort) *Service {
	out := &Service{
		NamespacedName: proxier.NamespacedName{Namespace: intern(strings.ToLower(namespace)), Name: strings.ToLower(name)},
		Kind:           ClusterIP, Ports: ports(list),
	}
	if typ == "Headless" {
		out.Kind = Headless
	} else {
		out.IPs = addresses(ips)
	}
	return out
}

func ports(list []corev1.ServicePort) []Port {
	if len(list) == 0 {
		return nil
	}
	out := make([]Port, 0, len(list))
	for _, p := range list {
		out = append(out, Port{Name: intern(strings.ToLower(p.Name)), Protocol: protocol(p.Protocol), Number: p.Port})
	}
	return out
}

func addresses(text []string) []netip.Addr {
	out := make([]netip.Addr, 0, len(text))
	for _, t := range text {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// protocol returns the lower case of a protocol without a copy of the usual ones.
func protocol(p corev1.Protocol) string {
	switch p {
	case corev1.ProtocolTCP:
		return "tcp"
	case corev1.ProtocolUDP:
		return "udp"
	case corev1.ProtocolSCTP:
		return "sctp"
	}
	return strings.ToLower(string(p))
}

// intern returns a copy of what many objects repeat that most of them share.
func intern(s string) string { return unique.Make(s).Value() }

// maxLabel is the longest label that a name can have.
const maxLabel = 63

// OfSlice converts an EndpointSlice. It keeps no reference to it, but for strings.
func OfSlice(s *discoveryv1.EndpointSlice, keep Keep) *Slice {
	out := &Slice{Name: s.Name, Cluster: strings.ToLower(s.Labels[LabelCluster])}
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4:
		out.Width = 4
	case discoveryv1.AddressTypeIPv6:
		out.Width = 16
	}
	if t, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		out.Trigger = t.UnixNano()
	}
	for _, p := range s.Ports {
		port := Port{Number: NoPort}
		if p.Name != nil {
			port.Name = intern(strings.ToLower(*p.Name))
		}
		if p.Protocol != nil {
			port.Protocol = protocol(*p.Protocol)
		}
		if p.Port != nil {
			port.Number = *p.Port
		}
		out.Ports = append(out.Ports, port)
	}
	n := 0
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; ready(e) {
			n += len(e.Addresses)
		}
	}
	out.Addrs = make([]byte, 0, n*out.Width)
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; ready(e) {
			for _, a := range e.Addresses {
				out.add(e, a, n, keep)
			}
		}
	}
	out.Ports, out.Targets, out.Addrs = slices.Clip(out.Ports), slices.Clip(out.Targets), slices.Clip(out.Addrs)
	return out
}

func ready(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// add appends one address of an endpoint; n is how many there are at most.
func (s *Slice) add(e *discoveryv1.Endpoint, address string, n int, keep Keep) {
	at := s.Len()
	switch s.Width {
	case 0:
		s.Targets = append(s.Targets, strings.Clone(address))
	default:
		a, err := netip.ParseAddr(address)
		if err != nil || s.Width == 4 != a.Is4() || a.Zone() != "" {
			return // not an address of that family
		}
		s.Addrs = append(s.Addrs, a.AsSlice()...)
	}
	if e.Hostname != nil && *e.Hostname != "" {
		s.Hosts = at1(s.Hosts, at, n, strings.ToLower(*e.Hostname))
	}
	if keep.Pods && e.TargetRef != nil {
		if name := strings.ToLower(e.TargetRef.Name); len(name) <= maxLabel && !strings.Contains(name, ".") {
			s.Pods = at1(s.Pods, at, n, name)
		}
	}
	if keep.Zones && e.Zone != nil {
		s.Zones = at1(s.Zones, at, n, intern(strings.ToLower(*e.Zone)))
	}
}

// at1 sets one element of a list of n that is made when its first element is known.
func at1(list []string, at, n int, value string) []string {
	if value == "" {
		return list
	}
	if list == nil {
		list = make([]string, n)
	}
	list[at] = value
	return list
}

// OfPod converts a pod. It returns nil for one that no name may lead to: without an address, or on
// its way out; only status.podIP counts, as for CoreDNS.
func OfPod(p *corev1.Pod) *Pod {
	a, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || p.DeletionTimestamp != nil {
		return nil
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown:
		return nil
	}
	return &Pod{NamespacedName: proxier.NamespacedName{Namespace: intern(strings.ToLower(p.Namespace)), Name: p.Name}, IP: a}
}

// Equal reports whether two slices lead to the same answers; when that came to be does not count.
func (s *Slice) Equal(o *Slice) bool {
	return s.Name == o.Name && s.Width == o.Width && s.Cluster == o.Cluster && slices.Equal(s.Ports, o.Ports) &&
		string(s.Addrs) == string(o.Addrs) && slices.Equal(s.Targets, o.Targets) &&
		slices.Equal(s.Hosts, o.Hosts) && slices.Equal(s.Pods, o.Pods) && slices.Equal(s.Zones, o.Zones)
}

// Equal reports whether two Services are the same but for their slices.
func (s *Service) Equal(o *Service) bool {
	return s.NamespacedName == o.NamespacedName && s.Kind == o.Kind && s.External == o.External &&
		slices.Equal(s.IPs, o.IPs) && slices.Equal(s.Ports, o.Ports)
}
