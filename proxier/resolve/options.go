package resolve

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// A Group is one Service with its EndpointSlices. It is immutable once it has been given to
// Resolve: the owner makes a new Group for every change, and keeps the pointer while nothing
// changed. A Group holds every slice whose label kubernetes.io/service-name names the Service.
// Sources need not filter by other labels, Resolve does; they may, if nothing else reads the rest.
type Group struct {
	Name    proxier.NamespacedName
	Service *corev1.Service              // nil: slices without a Service
	Slices  []*discoveryv1.EndpointSlice // sorted by name
}

// Inputs is one consistent view of the cluster. It and everything in it is immutable.
type Inputs struct {
	Node         *corev1.Node                // the own node; nil while unknown
	ServiceCIDRs []*networkingv1.ServiceCIDR // in any order
	Groups       []*Group                    // sorted by Name, names distinct
	StandIn      *StandIn                    // nil: none
}

// A StandIn is a server on this node, such as the proxy's own resolver, that takes connections to one
// port of a Service's cluster IPs in place of the endpoints that the cluster lists: whatever policy the
// Service has, its nearest server is on the node itself. While other endpoints could take them, it does
// so only as long as it has a socket bound to the cluster IP and that port, see
// [proxier.Frontend.StandIn]: it may end without a word. It is immutable.
type StandIn struct {
	Service proxier.NamespacedName
	Port    uint16 // the Service's, of TCP and of UDP
	// Addrs are where the server listens. A family of which there is none keeps its endpoints.
	Addrs []netip.AddrPort
	// Leaving says that the server is about to end. Like a terminating pod, it then keeps the flows
	// that it has, and gets new ones only if nobody else can serve them.
	Leaving bool
}

// Options is the configuration that decisions depend on. It does not change during the life of a
// Resolver.
type Options struct {
	// NodeName is the name of the own Node. Endpoints with that nodeName are local.
	NodeName string
	// Detect tells pods from outside clients.
	Detect Detect
	// MasqueradeAll masquerades every connection to a ClusterIP.
	MasqueradeAll bool
	// NodePortAddresses are the CIDRs whose local addresses accept NodePort connections, or the
	// single word "primary" for the node's primary address of each family. Empty means all. As
	// in kube-proxy, a family that no CIDR names stays open; that is reported as a Problem.
	NodePortAddresses []string
	// NodeAddresses come before the addresses in the Node's status, and so are the primary ones
	// of their families. Unspecified ones are ignored. May be nil.
	NodeAddresses []netip.Addr
	// IPv4 and IPv6 are the families this node programs. Neither means both.
	IPv4, IPv6 bool
	// DenyExternalIPs ignores spec.externalIPs altogether (CVE-2020-8554), with a Problem each.
	// Without it they are honoured, as in kube-proxy, unless they are dangerous: see
	// ExternalIPRanges.
	DenyExternalIPs bool
	// ExternalIPRanges, if not empty, are the only ranges that spec.externalIPs may come from.
	// An address of the node, of pods, of Services, of the API server or of cloud metadata, and
	// one that is not unicast, is refused always.
	ExternalIPRanges []netip.Prefix
	// ServiceProxyName selects Services by their label service.kubernetes.io/service-proxy-name:
	// "" those without the label, any other value those with that value.
	ServiceProxyName string
}

// The modes of Detect, as KubeProxyConfiguration's detectLocalMode writes them.
const (
	DetectClusterCIDR         = "ClusterCIDR"
	DetectNodeCIDR            = "NodeCIDR"
	DetectBridgeInterface     = "BridgeInterface"
	DetectInterfaceNamePrefix = "InterfaceNamePrefix"
)

// Detect says how a packet of a pod is recognised.
type Detect struct {
	// Mode is one of the Detect constants; "" is DetectClusterCIDR.
	Mode string
	// ClusterCIDRs are the addresses of all pods, for DetectClusterCIDR. With none of a family,
	// pods of that family cannot be told from outside clients.
	ClusterCIDRs []netip.Prefix
	// Interface is the bridge's name, or the prefix of the names of pods' interfaces.
	Interface string
}
