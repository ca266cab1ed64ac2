package proxiertest

import (
	"context"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A Scenario is a story: objects appear, change and disappear, and after each step traffic
// behaves as listed.
//
// Scenarios are written with the IPv4 addresses of the lab (see package netlab) and run twice:
// as they are, and for IPv6, with every IPv4 address and prefix in Objects, Config, From and To
// replaced by its counterpart (netlab.V6), "IPv4" by "IPv6" and "ICMP" left alone. Families
// changes that.
type Scenario struct {
	Name     string
	Needs    []Feature // what a backend must have for the scenario to make sense
	Families Families
	Config   Config
	Steps    []Step
}

// Families says for which address families a Scenario runs.
type Families uint8

// The choices. DualStack scenarios run once, name the addresses of both families themselves, and
// are given a node that programs both.
const (
	EachFamily Families = iota
	IPv4Only
	IPv6Only // written with IPv6 addresses
	DualStack
)

// Config is how the node is configured. Zero: local detector ClusterCIDR with the cluster's
// ranges, no masqueradeAll, NodePorts on all addresses.
type Config struct {
	MasqueradeAll     bool
	NoDetector        bool     // no way to tell pods from outside clients
	DetectMode        string   // "": ClusterCIDR; else NodeCIDR or InterfaceNamePrefix (prefix "pod-")
	NodePortAddresses []string // CIDRs, or the single word "primary"
	DenyExternalIPs   bool
	ServiceProxyName  string
}

// A Step changes objects, then says what traffic does.
//
// The cluster starts with a Node node-1 (InternalIP 192.168.10.1, zone-a, podCIDR 10.244.1.0/24)
// and a ServiceCIDR kubernetes (10.96.0.0/16); a step may replace them.
type Step struct {
	Name string
	// Objects is YAML as a user would kubectl-apply it: Service, EndpointSlice, Node,
	// ServiceCIDR, List, separated by "---". Objects of the same kind and name are replaced.
	// The namespace is default where none is given.
	Objects string
	// Delete names objects that go away, one per line: "Service default/web",
	// "EndpointSlice default/web-1"; default/ may be left out.
	Delete string
	// After is how long to wait before the flows, for what only time changes.
	After time.Duration
	Flows []Flow
	// Check is for what flows cannot say. It runs after them, on the test's goroutine.
	Check func(t testing.TB, r *Running)
}

// A Flow is traffic of one kind, and what must become of it.
//
// A Reaches flow opens as many connections as it takes to see every endpoint of the set with
// near certainty, each from a new source port, and requires exactly the set. With a fixed
// source port (Place.Port) it exchanges one message only, which one of the set must answer: for
// UDP flows that go on over several steps.
type Flow struct {
	Name     string
	From     Place
	To       string           // "10.96.0.10:80"; names of nodes and pods work as addresses: "node-1:30080"
	Protocol proxier.Protocol // zero: TCP
	Want     Outcome
	// Hold keeps one connection (TCP) of the flow open, with bytes exchanged all the time, until
	// the scenario ends. That it breaks or stalls is an error.
	Hold bool
}

// A Place is where a client is.
type Place struct {
	ns     string // namespace name within the lab
	source string // address to bind, "" for any
	port   uint16 // source port, 0 for any
}

// Outside is the client that belongs to no node: 192.168.20.9. It also has the addresses .10 and
// .11, for [Place.At].
var Outside = Place{ns: "outside"}

// Pod is a pod of the lab: a to e are on node-1, f to j on node-2.
func Pod(name string) Place { return Place{ns: name} }

// Node is a process of node-1 or node-2 itself.
func Node(name string) Place { return Place{ns: name} }

// At returns the place with a source address that the client binds to. It must be an address of
// the place.
func (p Place) At(addr string) Place { p.source = addr; return p }

// Port returns the place with a fixed source port. See [Flow].
func (p Place) Port(n uint16) Place { p.port = n; return p }

// An Outcome is what becomes of a flow.
type Outcome struct {
	kind   outcomeKind
	names  []string // Reaches: who answers
	source sourceKind
	sticky bool
	same   string
}

type outcomeKind uint8

const (
	reaches outcomeKind = iota
	rejected
	dropped
	untouched
)

type sourceKind uint8

const (
	anySource sourceKind = iota
	clientKept
	masqueraded
)

// Rejected connections are refused at once: a TCP reset or an ICMP unreachable. Dropped ones meet
// silence, and nothing of them arrives at any pod or node-2.
var (
	Rejected = Outcome{kind: rejected}
	Dropped  = Outcome{kind: dropped}
)

// Untouched connections are nobody's: node-1 sends them on towards outside as they are, which
// does not answer. Nothing of them arrives at any pod or node-2.
var Untouched = Outcome{kind: untouched}

// Reaches says that connections reach exactly these places: pods, "node-1" or "node-2" for
// endpoints in the host network, "outside". A flow to the address of a place itself is one that
// must pass untouched: write Reaches(it).ClientKept().
func Reaches(names ...string) Outcome { return Outcome{kind: reaches, names: names} }

// ClientKept adds that the endpoint sees the client's own address.
func (o Outcome) ClientKept() Outcome { o.source = clientKept; return o }

// Masqueraded adds that the endpoint sees an address of node-1 that is not the client's.
func (o Outcome) Masqueraded() Outcome { o.source = masqueraded; return o }

// Sticky says that all connections of the flow reach one and the same endpoint out of the set.
func (o Outcome) Sticky() Outcome { o.sticky = true; return o }

// SameAs says that the flow is sticky and reaches the endpoint that the named flow of the
// scenario, Sticky or with a fixed source port, reached last.
func (o Outcome) SameAs(flow string) Outcome { o.sticky = true; o.same = flow; return o }

// A Feature is something that not every backend has.
type Feature string

// The features that scenarios can need.
const (
	TCP               Feature = "TCP"  // every Subject has it
	UDP               Feature = "UDP"  // UDP frontends
	SCTP              Feature = "SCTP" // SCTP frontends
	Affinity          Feature = "ClientIP affinity"
	Observe           Feature = "Observe"             // the backend is a proxier.Observer
	StaleFlows        Feature = "stale UDP flows"     // flows to endpoints that are gone are ended
	NoLoopbackPort    Feature = "NodePort not on 127" // a NodePort never answers on loopback
	RejectFromNode    Feature = "reject from node"    // also node processes are refused by empty external frontends
	ProblemsDecided   Feature = "fairway decisions"   // what Fairway decides otherwise than kube-proxy, deliberately
	HostAddressReject Feature = "node port scope"     // rejects of empty NodePorts spare excluded addresses
	LoopbackGuard     Feature = "loopback guard"      // packets for 127/8 from the network are dropped
	DropsInvalid      Feature = "drops INVALID"       // segments that the connection table cannot place are dropped
	OpensFirewall     Feature = "opens firewall"      // policy DROP of the node's own iptables does not hit what is ours
)

// A Subject is what the suite tests: a backend in this process (New), or a peer that is a
// program (Start). Exactly one of New and Start is set.
type Subject struct {
	Name string
	// New returns a backend that works in the calling thread's network namespace. It is called
	// in that of node-1, again for each restart; so are all methods of what it returns.
	New func(t testing.TB, env Env) proxier.Backend
	// Cleanup removes what is ours from the calling thread's namespace, and only that.
	Cleanup func(ctx context.Context, env Env) error
	// Start starts a peer in node-1's namespace.
	Start func(t testing.TB, env Env) Peer
	Have  []Feature // besides TCP

	// clean takes the place of conntrack.Cleaner after each Apply; for mutants.
	clean func(ctx context.Context, prev, now *proxier.Snapshot) error
}

// A Peer is a subject that is a program of its own, such as kube-proxy. It follows the objects
// in its own time: flows and invariants wait for it.
type Peer interface {
	// Sync tells the peer the new state of the cluster. prev is what it was told last, nil at first.
	Sync(ctx context.Context, prev, now *Objects) error
	Close() error
}

// Env is what a Subject is given to work in.
type Env struct {
	Lab    *netlab.Lab
	Node   string // the lab's name of the namespace to work in: node-1
	Config Config
	// IPv4 and IPv6 are the families to program.
	IPv4, IPv6 bool
	// Intercept is called before each kernel operation; its error takes the operation's place.
	// Nil means none.
	Intercept func(op, object string) error
	// Name is the scenario's, for logs.
	Name string
}
