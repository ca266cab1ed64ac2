package proxiertest

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// Oracle says what must happen to the first packet of a connection, straight from the Kubernetes
// objects and in the dumbest way: every packet looks at every Service. It knows nothing of
// snapshots, was written from the behaviour of kube-proxy (rows S-01 to S-58) without a look at
// resolve, and keeps no state. It is what everything faster is compared with.
func Oracle(objects *Objects, config Config, p Packet) Decision {
	o := &oracle{Objects: objects, config: config}
	// A Service's own address comes first, then addresses from outside, then the node's ports.
	for _, find := range []func(*corev1.Service, *corev1.ServicePort, Packet) bool{
		o.isClusterIP, o.isOutsideIP, o.isNodePort,
	} {
		var owner *corev1.Service
		var decision Decision
		for _, svc := range o.Services {
			if o.ignored(svc) {
				continue
			}
			for i := range svc.Spec.Ports {
				port := &svc.Spec.Ports[i]
				named := port.Name == "" || label63.MatchString(port.Name)
				if named && find(svc, port, p) && (owner == nil || wins(svc, owner)) {
					owner, decision = svc, o.decide(svc, port, p)
				}
			}
		}
		if owner != nil {
			return decision
		}
	}
	return Decision{Kind: NotOurs}
}

// An oracle is the state of a cluster and the configuration of the node under test.
type oracle struct {
	*Objects
	config Config
}

// wins says which of two Services keeps an address that both ask for: the older object, and
// among those of one age the one whose namespace, then name, sorts first. What no API server has
// dated is the newest.
func wins(a, b *corev1.Service) bool {
	if undated := a.CreationTimestamp.IsZero(); undated != b.CreationTimestamp.IsZero() {
		return !undated
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	if a.Namespace != b.Namespace {
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}

// label63 is what Kubernetes lets Services, namespaces and ports be called.
var label63 = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ignored: Services of another proxy, headless ones and those that are only a name (S-01, S-06),
// and what no API server would have let pass.
func (o *oracle) ignored(svc *corev1.Service) bool {
	if !label63.MatchString(svc.Name) || !label63.MatchString(svc.Namespace) {
		return true
	}
	name, labelled := svc.Labels["service.kubernetes.io/service-proxy-name"]
	if o.config.ServiceProxyName == "" && labelled || name != o.config.ServiceProxyName {
		return true
	}
	return svc.Spec.Type == corev1.ServiceTypeExternalName ||
		svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone
}

func (o *oracle) isClusterIP(svc *corev1.Service, port *corev1.ServicePort, p Packet) bool {
	dst := p.Dst.Addr()
	return matches(port, port.Port, p) && slices.Contains(clusterIPs(svc), dst) && !special(dst) &&
		!slices.Contains(o.nodeAddrs(), dst) && !o.isAPIServer(dst)
}

func (o *oracle) isOutsideIP(svc *corev1.Service, port *corev1.ServicePort, p Packet) bool {
	return o.isExternalIP(svc, port, p) || o.isLoadBalancerIP(svc, port, p)
}

func (o *oracle) isExternalIP(svc *corev1.Service, port *corev1.ServicePort, p Packet) bool {
	return matches(port, port.Port, p) && slices.Contains(o.externalIPs(svc), p.Dst.Addr()) && !o.isOthersClusterIP(p)
}

func (o *oracle) isLoadBalancerIP(svc *corev1.Service, port *corev1.ServicePort, p Packet) bool {
	_, ok := ranges(svc, p.Dst.Addr().Is6())
	if p.Protocol == proxier.TCP && (slices.Contains(o.apiServers(), p.Dst) ||
		p.Dst.Port() == kubeletPort && slices.Contains(o.nodeAddrs(), p.Dst.Addr())) {
		return false // the node and the API server stay what they are
	}
	return ok && matches(port, port.Port, p) && slices.Contains(o.loadBalancerIPs(svc), p.Dst.Addr()) && !o.isOthersClusterIP(p)
}

// kubeletPort is where the kubelet listens on every node, unless it says otherwise.
const kubeletPort = 10250

// apiServers are where the API server listens: the endpoints of its own Service.
func (o *oracle) apiServers() (out []netip.AddrPort) {
	for _, slice := range o.Slices {
		if slice.Namespace != "default" || slice.Labels["kubernetes.io/service-name"] != "kubernetes" {
			continue
		}
		for _, ep := range slice.Endpoints {
			for _, p := range slice.Ports {
				if len(ep.Addresses) > 0 && p.Port != nil {
					out = append(out, netip.AddrPortFrom(sloppyAddr(ep.Addresses[0]), uint16(*p.Port)))
				}
			}
		}
	}
	return out
}

func (o *oracle) isAPIServer(a netip.Addr) bool {
	return slices.ContainsFunc(o.apiServers(), func(s netip.AddrPort) bool { return s.Addr() == a })
}

// isOthersClusterIP: whatever its range, the address of a Service is not another's to take.
func (o *oracle) isOthersClusterIP(p Packet) bool {
	return slices.ContainsFunc(o.Services, func(svc *corev1.Service) bool {
		return slices.Contains(clusterIPs(svc), p.Dst.Addr())
	})
}

func (o *oracle) isNodePort(svc *corev1.Service, port *corev1.ServicePort, p Packet) bool {
	dst, typ := p.Dst.Addr(), svc.Spec.Type
	return (typ == corev1.ServiceTypeNodePort || typ == corev1.ServiceTypeLoadBalancer) &&
		port.NodePort > 0 && matches(port, port.NodePort, p) && o.acceptsNodePorts(dst) && hasFamily(svc, dst)
}

// hasFamily: a Service without a ClusterIP of a family does not exist in it (S-07).
func hasFamily(svc *corev1.Service, dst netip.Addr) bool {
	return slices.ContainsFunc(clusterIPs(svc), func(a netip.Addr) bool {
		return a.Is4() == dst.Is4() && !special(a)
	})
}

// decide is what svc does with a packet that is addressed to one of its ports.
func (o *oracle) decide(svc *corev1.Service, port *corev1.ServicePort, p Packet) Decision {
	cluster, local := o.endpoints(svc, port, p.Dst.Addr().Is6())
	podsKnown, fromPod := o.fromPod(p)
	fromNode := !fromPod && p.In == ""

	use, masquerade := cluster, false
	if o.isClusterIP(svc, port, p) { // inside traffic
		masquerade = o.config.MasqueradeAll || podsKnown && !fromPod
		if pol := svc.Spec.InternalTrafficPolicy; pol != nil && *pol == corev1.ServiceInternalTrafficPolicyLocal {
			use = local
		}
	} else { // outside traffic
		if o.isLoadBalancerIP(svc, port, p) && !o.admits(svc, p) {
			return Decision{Kind: Drop}
		}
		masquerade = true
		if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			switch {
			case fromPod: // as if it had used the ClusterIP
				masquerade = false
			case fromNode:
			default:
				use, masquerade = local, false
			}
		}
	}
	switch {
	case len(use) > 0:
		sticky := svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
		return Decision{Kind: Forward, Endpoints: use, Masquerade: masquerade, Sticky: sticky}
	case len(cluster) > 0: // there are some, elsewhere
		return Decision{Kind: Drop}
	}
	return Decision{Kind: Reject}
}

// fromPod says whether the node can tell pods from others, and whether p is of a pod (S-47).
func (o *oracle) fromPod(p Packet) (known, pod bool) {
	if o.config.NoDetector {
		return false, false
	}
	in := func(ranges []string) (known, pod bool) {
		for _, text := range ranges {
			if r, ok := sloppyPrefix(text); ok && r.Addr().Is4() == p.Src.Is4() {
				known = true
				pod = pod || r.Contains(p.Src)
			}
		}
		return known, pod
	}
	switch o.config.DetectMode {
	case "InterfaceNamePrefix":
		return true, strings.HasPrefix(p.In, "pod-")
	case "NodeCIDR":
		if o.Node == nil {
			return false, false
		}
		return in(append([]string{o.Node.Spec.PodCIDR}, o.Node.Spec.PodCIDRs...))
	}
	return in(clusterCIDRs)
}

// ranges are svc's loadBalancerSourceRanges of one family (S-50). Nil lets in everybody. It is
// not ok if there are ranges and none can be read: then nobody can be meant.
func ranges(svc *corev1.Service, v6 bool) (out []netip.Prefix, ok bool) {
	broken := false
	for _, text := range svc.Spec.LoadBalancerSourceRanges {
		r, readable := sloppyPrefix(strings.TrimSpace(text))
		switch {
		case !readable:
			broken = true
		case r.Addr().Is6() == v6:
			out = append(out, r)
		}
	}
	return out, len(out) > 0 || !broken
}

// admits: source ranges let in whom they name, and, if they name the node, the address itself,
// which may be local to the node (S-51, S-52).
func (o *oracle) admits(svc *corev1.Service, p Packet) bool {
	limits, _ := ranges(svc, p.Dst.Addr().Is6())
	for _, r := range limits {
		if r.Bits() == 0 || r.Contains(p.Src) || p.Src == p.Dst.Addr() && slices.ContainsFunc(o.nodeAddrs(), r.Contains) {
			return true
		}
	}
	return len(limits) == 0
}

func matches(port *corev1.ServicePort, number int32, p Packet) bool {
	protocol := map[corev1.Protocol]proxier.Protocol{
		"": proxier.TCP, corev1.ProtocolTCP: proxier.TCP, corev1.ProtocolUDP: proxier.UDP, corev1.ProtocolSCTP: proxier.SCTP,
	}[port.Protocol]
	return number == int32(p.Dst.Port()) && protocol == p.Protocol
}

// clusterIPs are svc's own addresses that can be read.
func clusterIPs(svc *corev1.Service) []netip.Addr {
	texts := svc.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{svc.Spec.ClusterIP}
	}
	var out []netip.Addr
	for i, text := range texts {
		a, families := sloppyAddr(text), svc.Spec.IPFamilies
		if a.IsValid() && (len(families) == 0 || i < len(families) && (families[i] == corev1.IPv6Protocol) == a.Is6()) {
			out = append(out, a)
		}
	}
	return out
}

// clusterCIDRs are the addresses of all pods, which the node is told unless NoDetector is set.
var clusterCIDRs = []string{"10.244.0.0/16", "fd00:244::/32"}

// acceptsNodePorts: every address of the node but loopback, or those that the configuration
// names; a family that it does not name keeps all (S-59).
func (o *oracle) acceptsNodePorts(a netip.Addr) bool {
	if !slices.Contains(Local(), a) {
		return false
	}
	if slices.Equal(o.config.NodePortAddresses, []string{"primary"}) {
		for _, mine := range o.nodeAddrs() {
			if mine.Is4() == a.Is4() {
				return mine == a
			}
		}
		return false
	}
	limited := false
	for _, text := range o.config.NodePortAddresses {
		if r, ok := sloppyPrefix(text); ok && r.Addr().Is4() == a.Is4() {
			if limited = true; r.Contains(a) {
				return true
			}
		}
	}
	return !limited
}
