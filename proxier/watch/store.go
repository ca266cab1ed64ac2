package watch

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// A Store keeps the newest known state of every object that one node's proxy needs. It is filled
// by one source and read by [Publish]. It is safe for concurrent use.
//
// A Store owns the objects it is given: it strips the fields that nothing here reads, and the
// caller must not touch them again. An object that equals the one already there changes nothing.
type Store struct {
	mu       sync.Mutex
	groups   map[proxier.NamespacedName]*resolve.Group
	slices   map[proxier.NamespacedName]heldSlice
	node     *corev1.Node
	cidrs    map[string]*networkingv1.ServiceCIDR
	problems []proxier.Problem
	standIn  *resolve.StandIn

	inputs     resolve.Inputs                      // what Inputs returned last
	dirty      map[proxier.NamespacedName]struct{} // groups that changed since
	dirtyCIDRs bool
	changed    chan struct{} // nil if nobody waits
	expectMore bool          // what changed since is likely not all, see setGroup

	started  time.Time         // when this Store was made
	triggers []proxier.Trigger // of changes since gather

	// handedOver says that the source gives away each object and never gives it again, so that
	// a label can be dropped once it was read: a map of one label takes 336 bytes.
	handedOver bool

	waiting map[string]bool // lists that have not been delivered; nil once all were
	synced  chan struct{}   // closed when waiting is nil

	receivedServices, receivedSlices atomic.Int64
	contact                          contact
}

// A heldSlice is an EndpointSlice and the name of the Service that it belongs to.
type heldSlice struct {
	*discoveryv1.EndpointSlice
	service string
}

// The lists that a Store waits for before it is complete.
const (
	listServices = "Services"
	listSlices   = "EndpointSlices"
	listNode     = "Node"
	listCIDRs    = "ServiceCIDRs"
)

// NewStore returns an empty Store that waits for its source.
func NewStore() *Store {
	return &Store{
		groups:  map[proxier.NamespacedName]*resolve.Group{},
		slices:  map[proxier.NamespacedName]heldSlice{},
		cidrs:   map[string]*networkingv1.ServiceCIDR{},
		dirty:   map[proxier.NamespacedName]struct{}{},
		started: time.Now(),
		waiting: map[string]bool{listServices: true, listSlices: true, listNode: true, listCIDRs: true},
		synced:  make(chan struct{}),
	}
}

// Inputs returns the present state. The caller must not change it, and nothing in it ever
// changes. Groups that did not change since the last call are the same pointers. It costs one
// copy of the slice of groups if any group changed, and nothing otherwise.
func (s *Store) Inputs() resolve.Inputs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current()
}

// current is Inputs with mu held.
func (s *Store) current() resolve.Inputs {
	if len(s.dirty) > 0 {
		s.inputs.Groups = s.mergeGroups(s.inputs.Groups)
		s.dirty = map[proxier.NamespacedName]struct{}{} // a cleared map would stay as large as it was
	}
	if s.dirtyCIDRs {
		s.inputs.ServiceCIDRs = slices.SortedFunc(maps.Values(s.cidrs), func(a, b *networkingv1.ServiceCIDR) int {
			return cmp.Compare(a.Name, b.Name)
		})
		s.dirtyCIDRs = false
	}
	s.inputs.Node = s.node
	s.inputs.StandIn = s.standIn
	return s.inputs
}

// complete reports whether what changed since gather was called makes sense without waiting for
// more of it.
func (s *Store) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.expectMore
}

// mergeGroups returns a copy of old in which the dirty groups have their present value.
func (s *Store) mergeGroups(old []*resolve.Group) []*resolve.Group {
	out := make([]*resolve.Group, 0, len(s.groups))
	for _, name := range slices.SortedFunc(maps.Keys(s.dirty), proxier.NamespacedName.Compare) {
		at, found := slices.BinarySearchFunc(old, name, func(g *resolve.Group, n proxier.NamespacedName) int {
			return g.Name.Compare(n)
		})
		out = append(out, old[:at]...)
		if found {
			at++
		}
		old = old[at:]
		if g := s.groups[name]; g != nil {
			out = append(out, g)
		}
	}
	return append(out, old...)
}

// SetStandIn makes in the server of this node that stands in for a Service's endpoints, nil for none.
// No source touches it.
func (s *Store) SetStandIn(in *resolve.StandIn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standIn != in {
		s.standIn = in
		s.touch()
	}
}

// Problems returns what the source could not make use of, sorted. The caller must not change it.
func (s *Store) Problems() []proxier.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems
}

// Changed returns a channel that is closed at the next change of Inputs or Problems. Take it
// before reading them, and no change is missed.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// Synced returns a channel that is closed once the source has delivered its first complete
// state. Before that, Inputs is only a part of what the cluster holds, and acting on it would
// cut off the rest.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// Progress is how far the first complete state has come, for a line of log.
type Progress struct {
	// Services and EndpointSlices are how many objects came in; they also count while a list
	// is still incomplete, and afterwards every change.
	Services, EndpointSlices int
	// Waiting are the lists that are not complete yet, sorted; empty once the Store is synced.
	Waiting []string
}

// Progress reports how much the source has delivered.
func (s *Store) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Progress{
		Services:       int(s.receivedServices.Load()),
		EndpointSlices: int(s.receivedSlices.Load()),
		Waiting:        slices.Sorted(maps.Keys(s.waiting)),
	}
}

// Staleness is for how long the source has been cut off from what it follows: 0 while it is in
// contact. The last state stays in force however long that lasts.
func (s *Store) Staleness() time.Duration {
	return s.contact.staleness()
}

// Objects is the whole content of a Store or of a Names.
type Objects struct {
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Node           *corev1.Node // the node's own object, nil if there is none
	ServiceCIDRs   []*networkingv1.ServiceCIDR
	Problems       []proxier.Problem

	// Only for Names.
	Namespaces     []*corev1.Namespace
	Pods           []*corev1.Pod
	ServiceImports []*ServiceImport
}

// Replace makes o the whole content of the Store in one step, after which the Store is synced.
// Of objects with one name the last counts. Objects that the Store already holds, by pointer or
// by value, change nothing.
func (s *Store) Replace(o Objects) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receivedServices.Store(int64(len(o.Services)))
	s.receivedSlices.Store(int64(len(o.EndpointSlices)))
	s.replaceServices(o.Services)
	s.replaceSlices(o.EndpointSlices)
	s.putNode(o.Node)
	s.replaceCIDRs(o.ServiceCIDRs)
	problems := slices.SortedFunc(slices.Values(o.Problems), compareProblems)
	if !slices.Equal(problems, s.problems) {
		s.problems = problems
		s.touch()
	}
	for _, list := range []string{listServices, listSlices, listNode, listCIDRs} {
		s.delivered(list)
	}
}

// The methods below are called with mu held.

// touch notes a change of which there may be more, and wakes who waits on Changed.
func (s *Store) touch() {
	s.expectMore = true
	s.wake()
}

func (s *Store) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *Store) delivered(list string) {
	if !s.waiting[list] {
		return
	}
	delete(s.waiting, list)
	if len(s.waiting) == 0 {
		close(s.synced)
		s.touch()
	}
}

func (s *Store) replaceServices(list []*corev1.Service) {
	gone := map[proxier.NamespacedName]bool{}
	for name, g := range s.groups {
		if g.Service != nil {
			gone[name] = true
		}
	}
	for _, svc := range list {
		delete(gone, nameOf(svc))
		s.putService(svc)
	}
	for name := range gone {
		s.deleteService(name)
	}
}

func (s *Store) putService(svc *corev1.Service) {
	name := nameOf(svc)
	old := s.groups[name]
	if old == nil {
		old = &resolve.Group{Name: name}
	}
	if old.Service == svc {
		return
	}
	trimService(svc)
	if old.Service != nil && equality.Semantic.DeepEqual(old.Service, svc) {
		return
	}
	s.setGroup(&resolve.Group{Name: name, Service: svc, Slices: old.Slices})
}

func (s *Store) deleteService(name proxier.NamespacedName) {
	if g := s.groups[name]; g != nil && g.Service != nil {
		s.setGroup(&resolve.Group{Name: name, Slices: g.Slices})
	}
}

func (s *Store) replaceSlices(list []*discoveryv1.EndpointSlice) {
	gone := maps.Clone(s.slices)
	for _, slice := range list {
		delete(gone, nameOf(slice))
		s.putSlice(slice)
	}
	for name := range gone {
		s.deleteSlice(name)
	}
}

func (s *Store) putSlice(slice *discoveryv1.EndpointSlice) {
	name, service := nameOf(slice), slice.Labels[discoveryv1.LabelServiceName]
	old := s.slices[name]
	if old.EndpointSlice == slice {
		return
	}
	changedAt := s.changedAt(slice)
	trimSlice(slice)
	if s.handedOver {
		slice.Labels = keep(slice.Labels, func(k string) bool { return k != discoveryv1.LabelServiceName })
	}
	if old.EndpointSlice != nil {
		if old.service == service && equality.Semantic.DeepEqual(old.EndpointSlice, slice) {
			return
		}
		if old.service != service {
			s.deleteSlice(name)
		}
	}
	if service == "" {
		return // belongs to no Service: nothing can be reached through it
	}
	s.slices[name] = heldSlice{slice, service}
	s.triggered(slice, changedAt)
	s.withSlices(name, service, func(list sliceList, at int, found bool) sliceList {
		if found {
			list[at] = slice
			return list
		}
		return slices.Insert(list, at, slice)
	})
}

func (s *Store) deleteSlice(name proxier.NamespacedName) {
	old := s.slices[name]
	if old.EndpointSlice == nil {
		return
	}
	delete(s.slices, name)
	s.withSlices(name, old.service, func(list sliceList, at int, found bool) sliceList {
		if found {
			return slices.Delete(list, at, at+1)
		}
		return list
	})
}

type sliceList = []*discoveryv1.EndpointSlice

// withSlices makes a new group for service from a copy of its slices that edit has changed; at
// is where the slice called name is or belongs.
func (s *Store) withSlices(name proxier.NamespacedName, service string, edit func(list sliceList, at int, found bool) sliceList) {
	g := resolve.Group{Name: proxier.NamespacedName{Namespace: name.Namespace, Name: service}}
	if old := s.groups[g.Name]; old != nil {
		g = *old
	}
	list := slices.Clone(g.Slices)
	at, found := slices.BinarySearchFunc(list, name.Name, func(e *discoveryv1.EndpointSlice, n string) int {
		return cmp.Compare(e.Name, n)
	})
	g.Slices = slices.Clip(edit(list, at, found))
	s.setGroup(&g)
}

// setGroup sets a Service with its slices. A Service that comes or goes does so together with its
// EndpointSlices, in events that come one after the other; a change within a slice is alone.
func (s *Store) setGroup(g *resolve.Group) {
	old := s.groups[g.Name]
	if g.Service == nil && len(g.Slices) == 0 {
		delete(s.groups, g.Name)
	} else {
		s.groups[g.Name] = g
	}
	s.dirty[g.Name] = struct{}{}
	if old != nil && old.Service != nil && g.Service == old.Service && len(g.Slices) == len(old.Slices) {
		s.wake()
		return
	}
	s.touch()
}

// putNode sets the node's own object; nil if there is none.
func (s *Store) putNode(node *corev1.Node) {
	if node == s.node {
		return
	}
	if node != nil {
		trimNode(node)
		if s.node != nil && equality.Semantic.DeepEqual(s.node, node) {
			return
		}
	}
	s.node = node
	s.touch()
}

func (s *Store) replaceCIDRs(list []*networkingv1.ServiceCIDR) {
	gone := maps.Clone(s.cidrs)
	for _, c := range list {
		delete(gone, c.Name)
		s.putCIDR(c)
	}
	for name := range gone {
		s.deleteCIDR(name)
	}
}

func (s *Store) putCIDR(c *networkingv1.ServiceCIDR) {
	old := s.cidrs[c.Name]
	if old == c {
		return
	}
	trimCIDR(c)
	if old != nil && equality.Semantic.DeepEqual(old, c) {
		return
	}
	s.cidrs[c.Name] = c
	s.dirtyCIDRs = true
	s.touch()
}

func (s *Store) deleteCIDR(name string) {
	if s.cidrs[name] != nil {
		delete(s.cidrs, name)
		s.dirtyCIDRs = true
		s.touch()
	}
}

// nameOf returns the name of an object.
func nameOf(o metav1.Object) proxier.NamespacedName {
	return proxier.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// compareProblems orders by kind, object, reason and message.
func compareProblems(a, b proxier.Problem) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Object.Compare(b.Object),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
}
