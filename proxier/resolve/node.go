package resolve

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// An environment is what the decisions about a Group depend on besides the Group. It is compared
// by value: while it stays equal, a changed Node, ServiceCIDR or API server costs nothing.
type environment struct {
	opts         *Options
	zone         string
	addresses    []netip.Addr // the node's own, primary first
	pods         proxier.PodMatch
	podRanges    []netip.Prefix // addresses that are pods', as far as the node can know
	serviceCIDRs []netip.Prefix
	apiServers   []netip.AddrPort // where the API server itself listens
	kubelet      uint16           // the kubelet's port
}

// defaultKubelet is the port of a kubelet that the Node does not give another one.
const defaultKubelet = 10250

// programs reports whether this node programs a family.
func (e *environment) programs(v6 bool) bool {
	if v6 {
		return e.opts.IPv6
	}
	return e.opts.IPv4
}

func (e *environment) families() []bool {
	var out []bool
	for _, v6 := range []bool{false, true} {
		if e.programs(v6) {
			out = append(out, v6)
		}
	}
	return out
}

// tellsPods reports whether pods of a family can be told from outside clients.
func (e *environment) tellsPods(v6 bool) bool { return !e.pods.For(v6).IsZero() }

func (e *environment) isNode(a netip.Addr) bool { return slices.Contains(e.addresses, a) }

// observe works out the environment and the Node of the snapshot.
func observe(o *Options, in Inputs, rep *report) (*environment, *proxier.Node) {
	n := in.Node
	env := &environment{opts: o, addresses: nodeAddresses(o, n, rep), kubelet: defaultKubelet}
	env.serviceCIDRs = serviceRanges(in.ServiceCIDRs, rep)
	env.apiServers = apiServers(in.Groups)
	podCIDRs := nodePodCIDRs(n)
	env.pods = detect(o, podCIDRs, rep)
	env.podRanges = canonicalPrefixes(slices.Concat(env.pods.Prefixes, podCIDRs))
	if n != nil {
		env.zone = n.Labels[corev1.LabelTopologyZone]
		env.kubelet = cmp.Or(portOf(n.Status.DaemonEndpoints.KubeletEndpoint.Port), defaultKubelet)
	}
	return env, &proxier.Node{
		Name:         o.NodeName,
		Zone:         env.zone,
		Addresses:    env.addresses,
		Pods:         env.pods,
		NodePorts:    nodePorts(env, rep),
		Eligible:     eligible(n),
		ServiceCIDRs: env.serviceCIDRs,
	}
}

// eligible is false for a node that is about to go, so that load balancers turn to others before
// it does (KEP-3836). Unschedulable and not-ready nodes stay eligible.
func eligible(n *corev1.Node) bool {
	return n != nil && n.DeletionTimestamp.IsZero() &&
		!slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintToBeDeleted })
}

// nodeAddresses returns the node's addresses: configured ones first, then internal ones, then
// external ones.
func nodeAddresses(o *Options, n *corev1.Node, rep *report) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if a = a.Unmap().WithZone(""); notUnicast(a) == "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, a := range o.NodeAddresses {
		add(a)
	}
	if n == nil {
		return out
	}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, na := range n.Status.Addresses {
			if na.Type != kind {
				continue
			}
			a, _, err := parseAddr(na.Address)
			if err != nil {
				nodeProblem(o, rep, ReasonInvalidAddress, "address %s %v", addrText(na.Address), err)
				continue
			}
			add(a)
		}
	}
	return out
}

func nodeProblem(o *Options, rep *report, reason, format string, args ...any) {
	rep.add("Node", proxier.NamespacedName{Name: o.NodeName}, reason, format, args...)
}

func nodePodCIDRs(n *corev1.Node) []netip.Prefix {
	if n == nil {
		return nil
	}
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 && n.Spec.PodCIDR != "" {
		texts = []string{n.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, s := range texts {
		if p, _, err := parsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return canonicalPrefixes(out)
}

// detect works out how pods are recognised. Prefixes of a family that the node does not program
// are left out.
func detect(o *Options, podCIDRs []netip.Prefix, rep *report) proxier.PodMatch {
	prefixes := o.Detect.ClusterCIDRs
	switch o.Detect.Mode {
	case "", DetectClusterCIDR:
	case DetectNodeCIDR:
		prefixes = podCIDRs
		if len(prefixes) == 0 {
			nodeProblem(o, rep, ReasonPodsUnknown, "the Node has no podCIDR, so pods are treated like outside clients")
		}
	case DetectBridgeInterface:
		return proxier.PodMatch{Interface: o.Detect.Interface}
	case DetectInterfaceNamePrefix:
		if o.Detect.Interface != "" {
			return proxier.PodMatch{Interface: o.Detect.Interface + "+"}
		}
		prefixes = nil
	default:
		nodeProblem(o, rep, ReasonPodsUnknown, "unknown detection mode %q, so pods are treated like outside clients", o.Detect.Mode)
		prefixes = nil
	}
	var out proxier.PodMatch
	for _, p := range canonicalPrefixes(prefixes) {
		if (p.Addr().Is6() && o.IPv6) || (p.Addr().Is4() && o.IPv4) {
			out.Prefixes = append(out.Prefixes, p)
		}
	}
	return out
}

// nodePorts works out the addresses that accept NodePort connections. Loopback ranges are left
// out: Fairway never sets route_localnet (CVE-2020-8558). proxier/localport relays TCP there.
func nodePorts(env *environment, rep *report) []netip.Prefix {
	o := env.opts
	all := map[bool]netip.Prefix{false: netip.MustParsePrefix("0.0.0.0/0"), true: netip.MustParsePrefix("::/0")}
	var out []netip.Prefix
	if slices.Equal(o.NodePortAddresses, []string{"primary"}) {
		for _, v6 := range env.families() {
			i := slices.IndexFunc(env.addresses, func(a netip.Addr) bool { return a.Is6() == v6 })
			if i >= 0 {
				out = append(out, netip.PrefixFrom(env.addresses[i], env.addresses[i].BitLen()))
			}
		}
		if len(out) == 0 {
			nodeProblem(o, rep, ReasonNodePortAddresses, "no address of the node is known, so node ports are closed")
		}
		return out
	}
	named := map[bool]bool{}
	bad := false
	for _, s := range o.NodePortAddresses {
		p, _, err := parsePrefix(s)
		if err != nil {
			bad = true
			nodeProblem(o, rep, ReasonNodePortAddresses, "node port address %s %v", addrText(s), err)
			continue
		}
		v6 := p.Addr().Is6()
		named[v6] = true
		switch {
		case p.Bits() > 0 && p.Addr().IsLoopback():
			nodeProblem(o, rep, ReasonNodePortAddresses, "backends open no node ports on loopback addresses (%s): at most those of TCP answer there, through a relay", p)
		case env.programs(v6):
			out = append(out, p)
		}
	}
	for _, v6 := range env.families() {
		switch {
		case named[v6]:
		case bad: // whoever names addresses does not want all of them
			nodeProblem(o, rep, ReasonNodePortAddresses, "no valid node port address for %s, so its node ports are closed", familyName(v6))
		default:
			out = append(out, all[v6])
			if len(o.NodePortAddresses) > 0 {
				nodeProblem(o, rep, ReasonNodePortAddresses,
					"no node port address for %s is given, so its node ports are open on all addresses, as with kube-proxy", familyName(v6))
			}
		}
	}
	return canonicalPrefixes(out)
}

func serviceRanges(list []*networkingv1.ServiceCIDR, rep *report) []netip.Prefix {
	var out []netip.Prefix
	for _, sc := range list {
		if sc == nil {
			continue
		}
		for _, s := range sc.Spec.CIDRs {
			p, _, err := parsePrefix(s)
			if err != nil {
				rep.add("ServiceCIDR", proxier.NamespacedName{Name: sc.Name}, ReasonInvalidAddress, "%s %v", addrText(s), err)
				continue
			}
			out = append(out, p)
		}
	}
	return canonicalPrefixes(out)
}

// apiServers returns where the API server listens: the endpoints of its own Service.
func apiServers(groups []*Group) []netip.AddrPort {
	g := findGroup(groups, kubernetesService)
	if g == nil {
		return nil
	}
	var out []netip.AddrPort
	for _, slice := range g.Slices {
		for _, port := range slice.Ports {
			if port.Port == nil || portOf(*port.Port) == 0 {
				continue
			}
			for _, ep := range slice.Endpoints {
				if len(ep.Addresses) == 0 {
					continue
				}
				if a, _, err := parseAddr(ep.Addresses[0]); err == nil {
					out = append(out, netip.AddrPortFrom(a, portOf(*port.Port)))
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
