package proxiertest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Objects is the state of a cluster. It is immutable: a step makes a new one, in which objects
// that did not change keep their pointers.
type Objects struct {
	Node         *corev1.Node
	ServiceCIDRs []*networkingv1.ServiceCIDR
	Services     []*corev1.Service            // sorted by namespace and name
	Slices       []*discoveryv1.EndpointSlice // sorted by namespace and name
}
