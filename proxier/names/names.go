package names

import (
	"net/netip"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// A Kind is what a Service's own name stands for.
type Kind uint8

// The kinds of Services.
const (
	Missing      Kind = iota // there are EndpointSlices, but no Service of that name
	ClusterIP                // its IPs
	Headless                 // the addresses of its ready endpoints
	ExternalName             // another name
)

// A Service is one Service, or one ServiceImport, with its EndpointSlices. Names are in lower case.
type Service struct {
	proxier.NamespacedName
	Kind     Kind
	External string       // ExternalName only: the other name as the Service has it
	IPs      []netip.Addr // cluster IPs, in the order of the Service
	Ports    []Port
	Slices   []*Slice // sorted by name
}

// NoPort is the number of a port that has none.
const NoPort = -1

// A Port is a port of a Service or of an EndpointSlice.
type Port struct {
	Name     string // "" if it has none
	Protocol string // "tcp", "udp", "sctp"
	Number   int32  // NoPort if it is not known
}

// A Slice is one EndpointSlice without the endpoints that are not ready. An endpoint with several
// addresses counts once for each. What is not kept for any address is nil.
type Slice struct {
	Name    string
	Ports   []Port
	Width   int      // bytes of an address: 4 or 16, and 0 if there are Targets instead
	Addrs   []byte   // Len addresses of Width bytes each
	Targets []string // of an EndpointSlice of type FQDN: names
	Hosts   []string // the endpoint's hostname, by address; "" if it has none
	Pods    []string // the pod's name, by address; "" if it is unknown or no label of the DNS
	Zones   []string // the endpoint's zone, by address; "" if unknown
	Cluster string   // of an imported Service: the cluster that the endpoints are in
	Trigger int64    // when the change happened that led to this state, in ns since 1970; 0 if unknown
}

// Len returns how many addresses or targets there are.
func (s *Slice) Len() int {
	if s.Width == 0 {
		return len(s.Targets)
	}
	return len(s.Addrs) / s.Width
}

// Bytes returns address i in network order. Only for slices that have addresses.
func (s *Slice) Bytes(i int) []byte { return s.Addrs[i*s.Width : (i+1)*s.Width] }

// Addr returns address i, and the zero Addr if the slice has Targets.
func (s *Slice) Addr(i int) netip.Addr {
	if s.Width == 0 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(s.Bytes(i))
	return a
}

// A Pod is a pod that has an address and is not on its way out.
type Pod struct {
	proxier.NamespacedName
	IP netip.Addr
}

// Inputs is the state of a cluster at one moment. Nothing in it ever changes. A Service or a Pod of
// equal value is the same pointer as in the Inputs before; so is each Slice.
type Inputs struct {
	Synced     bool // false: there may be more than this
	Services   List[*Service]
	Imports    List[*Service] // ServiceImports
	Namespaces []string       // that exist and were asked for, sorted
	Pods       List[*Pod]
}

// A Source knows a cluster and follows its changes. It is safe for concurrent use.
type Source interface {
	// Inputs returns the present state.
	Inputs() Inputs
	// Changed returns a channel that is closed at the next change. Take it before Inputs, and no
	// change is missed.
	Changed() <-chan struct{}
	// Synced returns a channel that is closed once the first complete state is there.
	Synced() <-chan struct{}
	// Staleness is for how long the source has been cut off from what it follows; 0 while it is in
	// contact. Its last state stays in force.
	Staleness() time.Duration
}

// Order compares by namespace and then by name.
func (s *Service) Order(o *Service) int { return s.Compare(o.NamespacedName) }

// Order compares by namespace and then by name.
func (p *Pod) Order(o *Pod) int { return p.Compare(o.NamespacedName) }
