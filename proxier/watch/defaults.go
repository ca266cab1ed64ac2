package watch

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// applyDefaults fills in what an API server would have, where the object cannot be understood
// without. It returns what only an API server could have chosen, such as an address.
func applyDefaults(o metav1.Object) []lack {
	switch o := o.(type) {
	case *corev1.Service:
		return defaultService(o)
	case *discoveryv1.EndpointSlice:
		return defaultSlice(o)
	}
	return nil
}

func defaultService(s *corev1.Service) []lack {
	p := &s.Spec
	if p.Type == "" {
		p.Type = corev1.ServiceTypeClusterIP
	}
	if p.SessionAffinity == "" {
		p.SessionAffinity = corev1.ServiceAffinityNone
	}
	for i := range p.Ports {
		if p.Ports[i].Protocol == "" {
			p.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	if p.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	switch {
	case p.ClusterIP == "" && len(p.ClusterIPs) > 0:
		p.ClusterIP = p.ClusterIPs[0]
	case p.ClusterIP != "" && len(p.ClusterIPs) == 0:
		p.ClusterIPs = []string{p.ClusterIP}
	}
	if len(p.IPFamilies) == 0 {
		for _, ip := range p.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				p.IPFamilies = append(p.IPFamilies, familyOf(a))
			}
		}
	}
	if p.InternalTrafficPolicy == nil {
		p.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	}
	outside := p.Type == corev1.ServiceTypeNodePort || p.Type == corev1.ServiceTypeLoadBalancer
	if p.ExternalTrafficPolicy == "" && (outside || len(p.ExternalIPs) > 0) {
		p.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	return lackingService(p)
}

func lackingService(p *corev1.ServiceSpec) []lack {
	var out []lack
	if p.ClusterIP == "" {
		out = append(out, lack{"NoClusterIP",
			"spec.clusterIP is empty, and a folder of manifests has nobody to choose one; the Service is not served"})
	}
	for _, port := range p.Ports {
		if p.Type == corev1.ServiceTypeNodePort && port.NodePort == 0 {
			out = append(out, lack{"NoNodePort",
				"spec.ports: port " + port.Name + " has no nodePort, and a folder of manifests has nobody to choose one; " +
					"it is not served on nodes"})
		}
	}
	return out
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func defaultSlice(s *discoveryv1.EndpointSlice) []lack {
	if s.AddressType == "" {
		s.AddressType = guessAddressType(s.Endpoints)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = ptr.To("")
		}
		if p.Protocol == nil {
			p.Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		return []lack{{"NoService",
			"label " + discoveryv1.LabelServiceName + " is missing, so the EndpointSlice belongs to no Service; it is ignored"}}
	}
	return nil
}

// guessAddressType takes the family of the first address; IPv4 if there is none.
func guessAddressType(endpoints []discoveryv1.Endpoint) discoveryv1.AddressType {
	for _, e := range endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		switch a, err := netip.ParseAddr(e.Addresses[0]); {
		case err != nil:
			return discoveryv1.AddressTypeFQDN
		case a.Is6():
			return discoveryv1.AddressTypeIPv6
		}
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv4
}
