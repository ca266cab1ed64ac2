package admin

import (
	"net/netip"
	"strings"

	"github.com/fairway-lb/fairway/proxier"
)

// A List is the answer to every question.
type List[T any] struct {
	// Revision is that of the snapshot that the items are from, Applied that of the last one
	// that the kernel implements. Applied is less while a change waits, 0 before the first.
	Revision uint64 `json:"revision"`
	Applied  uint64 `json:"applied"`
	Items    []T    `json:"items"`
}

// A Frontend is an address and port that this node load-balances.
type Frontend struct {
	// Address is 0.0.0.0 or :: for a NodePort.
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
	// Kind is ClusterIP, NodePort, ExternalIP or LoadBalancer.
	Kind     string `json:"kind"`
	Service  string `json:"service"` // namespace/name
	PortName string `json:"portName,omitempty"`
	// Sources are the clients that are let in; empty for all.
	Sources []string `json:"sources,omitempty"`
	// AffinitySeconds is how long a client sticks to an endpoint; 0 for not at all.
	AffinitySeconds int    `json:"affinitySeconds,omitempty"`
	Balance         string `json:"balance"`
	// FromPod, FromNode and FromOutside say what happens to connections, by where they start.
	FromPod     Route `json:"fromPod"`
	FromNode    Route `json:"fromNode"`
	FromOutside Route `json:"fromOutside"`
	// StandIn are servers of this node, address:port, that take connections instead while one has a
	// socket bound to the frontend's own address.
	StandIn []string `json:"standIn,omitempty"`
}

// A Route is where connections of one origin go.
type Route struct {
	// Endpoints are address:port. If there are none, Empty is what happens: reject or drop.
	Endpoints  []string `json:"endpoints,omitempty"`
	Empty      string   `json:"empty,omitempty"`
	Masquerade bool     `json:"masquerade"`
}

// A Service is what the proxy knows of a Service object.
type Service struct {
	Namespace       string        `json:"namespace"`
	Name            string        `json:"name"`
	Type            string        `json:"type"`
	Headless        bool          `json:"headless,omitempty"`
	ClusterIPs      []netip.Addr  `json:"clusterIPs,omitempty"`
	ExternalIPs     []netip.Addr  `json:"externalIPs,omitempty"`
	LoadBalancerIPs []netip.Addr  `json:"loadBalancerIPs,omitempty"`
	ExternalName    string        `json:"externalName,omitempty"`
	Ports           []ServicePort `json:"ports,omitempty"`
	HealthCheckPort uint16        `json:"healthCheckNodePort,omitempty"`
	// LocalReady is the number of ready endpoint addresses on this node.
	LocalReady int `json:"localReady"`
	// Ignored says why this node forwards nothing for the Service; empty if it does.
	Ignored string `json:"ignored,omitempty"`
}

// A ServicePort is one port of a Service.
type ServicePort struct {
	Name      string `json:"name,omitempty"`
	Protocol  string `json:"protocol"`
	Port      uint16 `json:"port"`
	NodePort  uint16 `json:"nodePort,omitempty"`
	Endpoints int    `json:"endpoints"`
}

// An Endpoint is one endpoint of one Service port, whatever its condition.
type Endpoint struct {
	Service     string `json:"service"` // namespace/name
	PortName    string `json:"portName,omitempty"`
	Protocol    string `json:"protocol"`
	Address     string `json:"address"`
	Port        uint16 `json:"port"`
	Ready       bool   `json:"ready"`
	Serving     bool   `json:"serving"`
	Terminating bool   `json:"terminating"`
	Local       bool   `json:"local"`
	Node        string `json:"node,omitempty"`
	Zone        string `json:"zone,omitempty"`
	Target      string `json:"target,omitempty"` // namespace/name of the pod
}

// A Problem is something that an object asks for and this node does not do.
type Problem struct {
	Kind    string `json:"kind"`
	Object  string `json:"object"` // namespace/name
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// matches reports whether an object is meant by name, which is "", "name" or "namespace/name".
func matches(object proxier.NamespacedName, name string) bool {
	if strings.Contains(name, "/") {
		return object.String() == name
	}
	return name == "" || object.Name == name
}

// Frontends lists the frontends of the Services called name; "" for all.
func Frontends(s *proxier.Snapshot, name string) []Frontend {
	out := []Frontend{}
	for _, f := range s.Frontends {
		if !matches(f.Owner.NamespacedName, name) {
			continue
		}
		a := Frontend{
			Address: f.Addr.String(), Port: f.Port, Protocol: f.Protocol.String(), Kind: f.Kind.String(),
			Service: f.Owner.NamespacedName.String(), PortName: f.Owner.Port,
			AffinitySeconds: int(f.Affinity.Seconds()), Balance: f.Balance.String(),
			FromPod: route(f.From[proxier.FromPod]), FromNode: route(f.From[proxier.FromNode]), FromOutside: route(f.From[proxier.FromOutside]),
		}
		if f.StandIn != nil {
			a.StandIn = route(proxier.Route{Pool: f.StandIn}).Endpoints
		}
		for _, p := range f.Sources {
			a.Sources = append(a.Sources, p.String())
		}
		out = append(out, a)
	}
	return out
}

func route(r proxier.Route) Route {
	out := Route{Masquerade: r.Masquerade}
	for _, e := range r.Pool.Endpoints {
		out.Endpoints = append(out.Endpoints, e.String())
	}
	if len(out.Endpoints) == 0 {
		out.Empty = r.Pool.Empty.String()
	}
	return out
}

// Services lists the Services called name; "" for all.
func Services(s *proxier.Snapshot, name string) []Service {
	out := []Service{}
	for _, svc := range s.Services {
		if !matches(svc.NamespacedName, name) {
			continue
		}
		a := Service{
			Namespace: svc.Namespace, Name: svc.Name, Type: svc.Type, Headless: svc.Headless,
			ClusterIPs: svc.ClusterIPs, ExternalIPs: svc.ExternalIPs, LoadBalancerIPs: svc.LoadBalancer,
			ExternalName: svc.ExternalName, HealthCheckPort: svc.HealthCheckPort, LocalReady: svc.LocalReady, Ignored: svc.Ignored,
		}
		for _, p := range svc.Ports {
			a.Ports = append(a.Ports, ServicePort{p.Name, p.Protocol.String(), p.Port, p.NodePort, len(p.Endpoints)})
		}
		out = append(out, a)
	}
	return out
}

// Endpoints lists the endpoints of the Services called name; "" for all.
func Endpoints(s *proxier.Snapshot, name string) []Endpoint {
	out := []Endpoint{}
	for _, svc := range s.Services {
		if !matches(svc.NamespacedName, name) {
			continue
		}
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				out = append(out, Endpoint{
					Service: svc.NamespacedName.String(), PortName: p.Name, Protocol: p.Protocol.String(),
					Address: e.Addr.String(), Port: e.Port, Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
					Local: e.Local, Node: e.NodeName, Zone: e.Zone, Target: e.Target,
				})
			}
		}
	}
	return out
}

// Problems lists the problems of the objects called name; "" for all.
func Problems(s *proxier.Snapshot, name string) []Problem {
	out := []Problem{}
	for _, p := range s.Problems {
		if matches(p.Object, name) {
			out = append(out, Problem{p.Kind, p.Object.String(), p.Reason, p.Message})
		}
	}
	return out
}
