package resolve

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// A builder resolves one Group. It takes over pointers of what the Group was before, where the
// values are equal.
type builder struct {
	env  *environment
	here *StandIn // for a port of this Group; may be nil
	g    *Group
	old  *resolved // never nil; empty for a new Group
	rep  report
	spec *corev1.ServiceSpec
	// Whether connections to cluster IPs, and those of outside clients to other addresses,
	// stay on this node.
	internalLocal, externalLocal bool
}

// A resolved is what one Group comes to, conflicts with other Groups aside.
type resolved struct {
	service    *proxier.Service
	created    time.Time           // zero if unknown
	clusterIPs []netip.Addr        // that other Services must not claim; also if service is ignored
	frontends  []*proxier.Frontend // sorted by key, keys distinct
	problems   []proxier.Problem   // sorted
}

// resolveGroup never returns nil.
func resolveGroup(env *environment, here *StandIn, g *Group, old *resolved) *resolved {
	if old == nil {
		old = &resolved{}
	}
	b := &builder{env: env, g: g, old: old}
	if here != nil && here.Service == g.Name {
		b.here = here
	}
	out := &resolved{}
	switch {
	case g.Service == nil:
		if len(g.Slices) > 0 {
			s := g.Slices[0]
			b.rep.add("EndpointSlice", proxier.NamespacedName{Namespace: g.Name.Namespace, Name: s.Name},
				ReasonNoService, "no Service %s is known here, so its endpoints are not used", g.Name)
		}
	case !validName(g.Name.Namespace) || !validName(g.Name.Name):
		b.problem(ReasonInvalidName, "namespace and name must be DNS labels of at most %d characters, so the Service is ignored", maxName)
	default:
		b.spec = &g.Service.Spec
		b.build(out)
	}
	out.problems = b.rep.problems()
	return out
}

func (b *builder) problem(reason, format string, args ...any) {
	b.rep.add("Service", b.g.Name, reason, format, args...)
}

// invalid reports a value that field does not have.
func (b *builder) invalid(field string, value, instead any) {
	b.problem(ReasonInvalidField, "%s has no value %q: %v applies", field, value, instead)
}

func (b *builder) build(out *resolved) {
	out.created = b.g.Service.CreationTimestamp.Time
	svc := &proxier.Service{
		NamespacedName:  b.g.Name,
		Type:            b.serviceType(),
		PublishNotReady: b.spec.PublishNotReadyAddresses,
		Affinity:        b.affinity(),
	}
	svc.Headless = svc.Type != string(corev1.ServiceTypeExternalName) &&
		(b.spec.ClusterIP == corev1.ClusterIPNone || slices.Contains(b.spec.ClusterIPs, corev1.ClusterIPNone))
	if svc.Type == string(corev1.ServiceTypeExternalName) {
		svc.ExternalName = b.spec.ExternalName
	} else if !svc.Headless {
		svc.ClusterIPs = b.clusterIPs()
		out.clusterIPs = svc.ClusterIPs
	}
	svc.Ignored = b.ignored(svc)
	b.internalLocal, b.externalLocal = b.internalPolicy(), b.externalPolicy()
	vips := b.externalAddresses(svc)
	ports := b.ports(svc)
	endpoints := b.endpoints(svc, ports, vips)
	svc.Ports = ports
	svc.LocalReady = localReady(endpoints)
	balance := b.balance()
	if svc.Ignored == "" {
		out.frontends = b.frontends(svc, endpoints, vips, balance)
		svc.HealthCheckPort = b.healthCheckPort(svc, out.frontends)
	}
	out.service = reuseService(b.old.service, svc)
}

// ignored says why no address of a Service is forwarded on this node (S-01, S-06, S-07).
func (b *builder) ignored(svc *proxier.Service) string {
	other, labelled := b.g.Service.Labels[labelProxyName]
	switch want := b.env.opts.ServiceProxyName; {
	case want == "" && labelled:
		return "label " + labelProxyName + " gives it to another proxy"
	case want != "" && (!labelled || other != want):
		return "label " + labelProxyName + " does not name this proxy"
	case svc.Type == string(corev1.ServiceTypeExternalName):
		return "it is an ExternalName, which only DNS serves"
	case svc.Headless:
		return "it is headless, which only DNS serves"
	case len(svc.ClusterIPs) == 0:
		return "it has no usable cluster IP"
	}
	if !slices.ContainsFunc(svc.ClusterIPs, func(a netip.Addr) bool { return b.env.programs(a.Is6()) }) {
		return "it has no cluster IP of a family that this node programs"
	}
	return ""
}

func (b *builder) serviceType() string {
	switch t := b.spec.Type; t {
	case "":
		return string(corev1.ServiceTypeClusterIP)
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName:
		return string(t)
	default:
		b.invalid("spec.type", t, corev1.ServiceTypeClusterIP)
		return string(corev1.ServiceTypeClusterIP)
	}
}

// Bounds of the session affinity time-out, from the Kubernetes API.
const (
	defaultAffinity = 10800 * time.Second
	maxAffinity     = 86400 * time.Second
)

// affinity returns how long a client sticks to an endpoint, 0 for not at all (S-54).
func (b *builder) affinity() time.Duration {
	switch a := b.spec.SessionAffinity; a {
	case "", corev1.ServiceAffinityNone:
		return 0
	case corev1.ServiceAffinityClientIP:
	default:
		b.invalid("spec.sessionAffinity", a, corev1.ServiceAffinityNone)
		return 0
	}
	c := b.spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		return defaultAffinity
	}
	d := time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	switch {
	case d <= 0:
		b.invalid("timeoutSeconds", d.String(), defaultAffinity)
		return defaultAffinity
	case d > maxAffinity:
		b.invalid("timeoutSeconds", d.String(), maxAffinity)
		return maxAffinity
	}
	return d
}

// balance reads the annotations under fairway.dev/.
func (b *builder) balance() proxier.Balance {
	out := proxier.Random
	for _, key := range slices.Sorted(maps.Keys(b.g.Service.Annotations)) {
		if !strings.HasPrefix(key, annotationPrefix) {
			continue
		}
		if key != annotationBalance {
			b.problem(ReasonUnknownAnnotation, "annotation %s is not known and has no effect", addrText(key))
			continue
		}
		value, found := b.g.Service.Annotations[key], false
		for _, x := range []proxier.Balance{proxier.Random, proxier.RoundRobin, proxier.LeastConnections, proxier.Maglev, proxier.Weighted} {
			if x.String() == value {
				out, found = x, true
			}
		}
		if !found {
			b.problem(ReasonUnknownAnnotation, "annotation %s has no value %s: %s applies", key, addrText(value), out)
		}
	}
	return out
}

// clusterIPs returns at most one usable address of each family, in the order of the Service:
// the one that spec.ipFamilies names, or without that field the first (S-07).
func (b *builder) clusterIPs() []netip.Addr {
	texts := b.spec.ClusterIPs
	if len(texts) == 0 && b.spec.ClusterIP != "" {
		texts = []string{b.spec.ClusterIP}
	}
	if len(texts) > 0 && b.spec.ClusterIP != "" && b.spec.ClusterIP != texts[0] {
		b.problem(ReasonInvalidField, "clusterIP %s is not the first of clusterIPs, which count", addrText(b.spec.ClusterIP))
	}
	families := b.spec.IPFamilies
	var out []netip.Addr
	for i, s := range texts {
		if s == "" {
			continue
		}
		a, ok := b.address("clusterIP", s)
		if !ok {
			continue
		}
		switch {
		case len(families) > 0 && i >= len(families):
			b.problem(ReasonWrongFamily, "clusterIP %s has no entry in spec.ipFamilies", a)
			continue
		case len(families) > 0 && (families[i] == corev1.IPv6Protocol) != a.Is6():
			b.problem(ReasonWrongFamily, "clusterIP %s is not of the family %s that spec.ipFamilies says", a, addrText(string(families[i])))
			continue
		case slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is6() == a.Is6() }):
			b.problem(ReasonWrongFamily, "clusterIP %s is a second one of family %s", a, familyName(a.Is6()))
			continue
		}
		if why := b.env.forbidden(a, proxier.ClusterIP); why != "" {
			b.problem(ReasonForbiddenAddress, "clusterIP %s is %s", a, why)
			continue
		}
		out = append(out, a)
	}
	return out
}

// address reads an address of a field of the Service and reports what is wrong with its text.
func (b *builder) address(field, s string) (netip.Addr, bool) {
	a, zeros, err := parseAddr(s)
	if err != nil {
		b.problem(ReasonInvalidAddress, "%s %s %v", field, addrText(s), err)
		return a, false
	}
	if zeros {
		b.problem(ReasonAmbiguousAddress, "%s %s is read as %s", field, addrText(s), a)
	}
	return a, true
}

// ports returns the valid ports of the Service, without their endpoints.
func (b *builder) ports(svc *proxier.Service) []proxier.ServicePort {
	var out []proxier.ServicePort
	for i := range b.spec.Ports {
		p := &b.spec.Ports[i]
		proto, ok := protocolOf(p.Protocol)
		if !ok {
			b.problem(ReasonInvalidProtocol, "port %s has protocol %s", addrText(p.Name), addrText(string(p.Protocol)))
			continue
		}
		if p.Name != "" && !validName(p.Name) {
			b.problem(ReasonInvalidName, "port name %s is not a DNS label", addrText(p.Name))
			continue
		}
		port := proxier.ServicePort{Name: p.Name, Protocol: proto, Port: portOf(p.Port), NodePort: portOf(p.NodePort)}
		if port.Port == 0 {
			b.problem(ReasonInvalidPort, "port %s has number %d", addrText(p.Name), p.Port)
			continue
		}
		if slices.ContainsFunc(out, func(o proxier.ServicePort) bool { return o.Name == port.Name && o.Protocol == port.Protocol }) {
			b.problem(ReasonDuplicatePort, "port %s/%s is listed twice", addrText(p.Name), proto)
			continue
		}
		switch {
		case p.NodePort != 0 && port.NodePort == 0:
			b.problem(ReasonInvalidPort, "port %s has node port %d", addrText(p.Name), p.NodePort)
		case port.NodePort != 0 && !hasNodePorts(svc.Type):
			b.problem(ReasonInvalidPort, "node port %d has no effect with type %s", port.NodePort, svc.Type)
			port.NodePort = 0
		}
		out = append(out, port)
	}
	return out
}

func hasNodePorts(serviceType string) bool {
	return serviceType == string(corev1.ServiceTypeNodePort) || serviceType == string(corev1.ServiceTypeLoadBalancer)
}

// healthCheckPort returns the port on which load balancers ask for local endpoints (S-69).
func (b *builder) healthCheckPort(svc *proxier.Service, frontends []*proxier.Frontend) uint16 {
	p := b.spec.HealthCheckNodePort
	if p == 0 || svc.Type != string(corev1.ServiceTypeLoadBalancer) || !b.externalLocal {
		return 0
	}
	port := portOf(p)
	if port == 0 {
		b.problem(ReasonInvalidPort, "healthCheckNodePort %d", p)
		return 0
	}
	for _, f := range frontends {
		if f.IsNodePort() && f.Port == port && f.Protocol == proxier.TCP {
			b.problem(ReasonPortConflict, "healthCheckNodePort %d is a node port of the Service itself", p)
			return 0
		}
	}
	return port
}
