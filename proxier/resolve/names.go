package resolve

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// Labels and taints that have no constant in k8s.io/api.
const (
	// labelProxyName hands a Service to another proxy.
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	// taintToBeDeleted is set by cluster-autoscaler on a node that it is about to remove
	// (KEP-3836).
	taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"
)

// The annotations of a Service that Fairway reads.
const (
	annotationPrefix  = "fairway.dev/"
	annotationBalance = annotationPrefix + "balance"
)

// kubernetesService is the Service of the API server itself.
var kubernetesService = proxier.NamespacedName{Namespace: "default", Name: "kubernetes"}

// maxName is the longest name of a namespace, Service or port (RFC 1123 label).
const maxName = 63

// validName reports whether s can be the name of a namespace, Service or port: lower-case letters,
// digits and inner hyphens. A manifest folder has no API server that would have made sure.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// protocolOf reads a protocol as Services and EndpointSlices write it; empty is TCP.
func protocolOf(p corev1.Protocol) (proxier.Protocol, bool) {
	switch p {
	case "", corev1.ProtocolTCP:
		return proxier.TCP, true
	case corev1.ProtocolUDP:
		return proxier.UDP, true
	case corev1.ProtocolSCTP:
		return proxier.SCTP, true
	}
	return 0, false
}

// portOf returns n as a port number, 0 if it is none.
func portOf(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

func familyName(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}
