package proxier

import (
	"fmt"
	"net/netip"
	"time"
)

// A Snapshot is everything one node must program and answer, at one revision.
//
// A Snapshot is immutable: nothing reachable from it changes after it has been published.
// Values that did not change between two snapshots of one producer are the same pointer in
// both, so that comparing pointers finds every change.
type Snapshot struct {
	// Revision counts the snapshots of one producer, from 1.
	Revision uint64
	// Node is the node that the snapshot is for. Never nil.
	Node *Node
	// Services are facts of the cluster, sorted by name: what dns, health and admin read.
	Services []*Service
	// Frontends are decisions for this node, sorted by key: what backends read.
	Frontends []*Frontend
	// Problems are what could not be honoured, sorted; each is worth one event, metric and log line.
	Problems []Problem
	// HealthPorts are the TCP ports, sorted, on which this node answers load-balancer health
	// checks and which its own packet filter therefore must let in.
	HealthPorts []uint16
}

// A Trigger is when something happened to a pod, or to a Service, that led to a change of endpoints
// which a Snapshot is the first to have. Kubernetes' objective for the time until nodes follow
// counts from there.
type Trigger struct {
	// At is by the clock of the endpoint controller.
	At time.Time
	// IPv6 is the family of the endpoints.
	IPv6 bool
}

// A Node is what a data plane has to know about the machine it runs on.
type Node struct {
	Name string
	Zone string // topology.kubernetes.io/zone; "" if unknown
	// Addresses are the node's own addresses as the cluster knows them, primary first.
	Addresses []netip.Addr
	// Pods tells a packet of a pod from one of an outside client.
	Pods PodMatch
	// NodePorts are the local addresses that accept NodePort connections. A prefix stands for
	// the local addresses inside it. Empty means none; all addresses are 0.0.0.0/0 and ::/0.
	// Loopback addresses are never among them.
	NodePorts []netip.Prefix
	// Eligible is false if load balancers should stop sending to this node (KEP-3836).
	Eligible bool
	// ServiceCIDRs are the ranges from which the cluster takes ClusterIPs, sorted.
	ServiceCIDRs []netip.Prefix
}

// A PodMatch is how a packet that comes from a pod is recognised. The zero PodMatch recognises
// none; then FromPod and FromOutside of every Frontend are equal.
type PodMatch struct {
	// Prefixes are source addresses of pods.
	Prefixes []netip.Prefix
	// Interface is the name of the interface that pods' packets arrive on; a trailing "+"
	// makes it a prefix of names, as in iptables. Prefixes and Interface exclude each other.
	Interface string
}

// IsZero reports whether m recognises no packet.
func (m PodMatch) IsZero() bool { return len(m.Prefixes) == 0 && m.Interface == "" }

// For returns the part of m that can match packets of one address family: an interface
// matches both, prefixes only their own.
func (m PodMatch) For(v6 bool) PodMatch {
	out := PodMatch{Interface: m.Interface}
	for _, p := range m.Prefixes {
		if p.Addr().Is6() == v6 {
			out.Prefixes = append(out.Prefixes, p)
		}
	}
	return out
}

// A NamespacedName names an object of the cluster.
type NamespacedName struct{ Namespace, Name string }

// String returns namespace/name.
func (n NamespacedName) String() string { return n.Namespace + "/" + n.Name }

// Compare orders by namespace, then name.
func (n NamespacedName) Compare(o NamespacedName) int {
	if n.Namespace != o.Namespace {
		if n.Namespace < o.Namespace {
			return -1
		}
		return 1
	}
	if n.Name != o.Name {
		if n.Name < o.Name {
			return -1
		}
		return 1
	}
	return 0
}

// A ServicePortName names one port of one Service. Port is the port's name and may be empty.
type ServicePortName struct {
	NamespacedName
	Port     string
	Protocol Protocol
}

// String returns namespace/name:port, as kube-proxy prints it.
func (n ServicePortName) String() string {
	if n.Port == "" {
		return n.NamespacedName.String()
	}
	return n.NamespacedName.String() + ":" + n.Port
}

// A Service is a fact of the cluster: one Service object and the endpoints of its ports.
// Headless and ExternalName Services are included; they have no Frontends.
type Service struct {
	NamespacedName
	Type         string // ClusterIP, NodePort, LoadBalancer or ExternalName
	ClusterIPs   []netip.Addr
	ExternalIPs  []netip.Addr
	LoadBalancer []netip.Addr // addresses in status, of every ipMode
	Headless     bool
	ExternalName string
	// PublishNotReady says that addresses are published before they are ready.
	PublishNotReady bool
	Affinity        time.Duration
	Ports           []ServicePort
	// HealthCheckPort is the node port on which external load balancers ask for the number
	// of local endpoints; 0 if there is none.
	HealthCheckPort uint16
	// LocalReady is the number of distinct ready endpoint addresses on this node, of the family
	// that has more of them.
	LocalReady int
	// Ignored says why this node forwards nothing for the Service; empty if it does.
	Ignored string
}

// A ServicePort is one port of a Service with every endpoint that the cluster lists for it,
// whatever its condition, sorted by address and port.
type ServicePort struct {
	Name      string
	Protocol  Protocol
	Port      uint16
	NodePort  uint16 // 0 if there is none
	Endpoints []*Endpoint
}

// An Endpoint is the address and port of a pod (or of anything that an EndpointSlice lists).
type Endpoint struct {
	Addr netip.Addr
	Port uint16
	// Local is true if the endpoint is known to be on this node.
	Local bool
	// Ready, Serving and Terminating are the conditions of the EndpointSlice, with its defaults.
	Ready, Serving, Terminating bool
	NodeName                    string // "" if unknown
	Zone                        string
	Hostname                    string // the pod's DNS label, "" if it has none
	// Target is namespace/name of the pod behind the endpoint, "" if unknown.
	Target string
}

// AddrPort returns where connections to e go.
func (e *Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr, e.Port) }

// String returns address:port.
func (e *Endpoint) String() string { return e.AddrPort().String() }

// A Problem is something that an object asked for and that this node does not do.
type Problem struct {
	// Object is the object that asked, Kind its kind as in "Service".
	Kind   string
	Object NamespacedName
	// Reason is a CamelCase word for events and metrics, such as AddressConflict.
	Reason string
	// Message says in a sentence what was refused, why, and what happens instead.
	Message string
}

// String returns the problem in one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s %s: %s: %s", p.Kind, p.Object, p.Reason, p.Message)
}

// Service returns the service of that name, or nil. It costs one binary search.
func (s *Snapshot) Service(name NamespacedName) *Service {
	lo, hi := 0, len(s.Services)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.Services[mid].Compare(name) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(s.Services) && s.Services[lo].NamespacedName == name {
		return s.Services[lo]
	}
	return nil
}

// Port returns the port of that name and protocol, or nil.
func (s *Service) Port(name string, p Protocol) *ServicePort {
	for i := range s.Ports {
		if s.Ports[i].Name == name && s.Ports[i].Protocol == p {
			return &s.Ports[i]
		}
	}
	return nil
}
