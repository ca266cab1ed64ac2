package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// NamesOptions say what a name server wants to know of a cluster.
type NamesOptions struct {
	// Labels selects Services, EndpointSlices and Pods, NamespaceLabels namespaces, in the
	// notation of kubectl; "" selects all. A source that is shared with the proxy knows no Labels.
	Labels, NamespaceLabels string
	// PodNames keeps the names of the pods behind endpoints, Zones their zones.
	PodNames, Zones bool
	// Pods asks for pods too: for verified pods and for search paths. NodeName restricts them to
	// those of one node.
	Pods     bool
	NodeName string
	// Imports asks for ServiceImports, and for EndpointSlices of imported Services. Nor does it
	// know these.
	Imports bool
}

// Names keeps what a name server must know, in compact form. It is a [names.Source]. It is filled
// by [ClusterNames] or by [Manifests]. It is safe for concurrent use.
type Names struct {
	options           NamesOptions
	labels, nsLabels  labels.Selector
	keep              names.Keep
	contact           atomic.Pointer[contact]
	mu                sync.Mutex
	inputs            names.Inputs // what Inputs returned last
	services, imports serviceSet
	slices            map[proxier.NamespacedName]ownedSlice
	pods              map[proxier.NamespacedName]*names.Pod
	dirtyPods         map[proxier.NamespacedName]struct{}
	namespaces        map[string]struct{}
	dirtyNamespaces   bool
	changed           chan struct{}   // nil if nobody waits
	waiting           map[string]bool // lists that are not complete; nil once all were
	synced            chan struct{}
}

// A namedSlice is an EndpointSlice.
type namedSlice struct {
	name proxier.NamespacedName
	ownedSlice
}

// An ownedSlice is an EndpointSlice with the names of the Service and the ServiceImport that it
// belongs to; "" is none.
type ownedSlice struct {
	service, imported string
	slice             *names.Slice // nil if it belongs to none
}

// The lists that only Names waits for.
const (
	listNamespaces = "Namespaces"
	listPods       = "Pods"
	listImports    = "ServiceImports"
)

// NewNames returns a Names that waits for its source. It fails if a selector cannot be read.
func NewNames(o NamesOptions) (*Names, error) {
	n := &Names{
		options:    o,
		keep:       names.Keep{Pods: o.PodNames, Zones: o.Zones},
		services:   newServiceSet(),
		imports:    newServiceSet(),
		slices:     map[proxier.NamespacedName]ownedSlice{},
		pods:       map[proxier.NamespacedName]*names.Pod{},
		dirtyPods:  map[proxier.NamespacedName]struct{}{},
		namespaces: map[string]struct{}{},
		waiting:    map[string]bool{listServices: true, listSlices: true, listNamespaces: true},
		synced:     make(chan struct{}),
	}
	if o.Pods {
		n.waiting[listPods] = true
	}
	if o.Imports {
		n.waiting[listImports] = true
	}
	var err error
	if n.labels, err = labels.Parse(o.Labels); err != nil {
		return nil, fmt.Errorf("label selector %q: %w", o.Labels, err)
	}
	if n.nsLabels, err = labels.Parse(o.NamespaceLabels); err != nil {
		return nil, fmt.Errorf("namespace label selector %q: %w", o.NamespaceLabels, err)
	}
	return n, nil
}

// Inputs returns the present state. It costs a copy of each list that changed.
func (n *Names) Inputs() names.Inputs {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := &n.inputs
	in.Services = n.services.list(in.Services)
	in.Imports = n.imports.list(in.Imports)
	if len(n.dirtyPods) > 0 {
		in.Pods = merge(in.Pods, n.dirtyPods, n.pods, func(name proxier.NamespacedName) *names.Pod { return &names.Pod{NamespacedName: name} })
		n.dirtyPods = map[proxier.NamespacedName]struct{}{}
	}
	if n.dirtyNamespaces {
		in.Namespaces = slices.Sorted(maps.Keys(n.namespaces))
		n.dirtyNamespaces = false
	}
	in.Synced = n.waiting == nil
	return *in
}

// Changed returns a channel that is closed at the next change of Inputs.
func (n *Names) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// Synced returns a channel that is closed once the first complete state is there.
func (n *Names) Synced() <-chan struct{} { return n.synced }

// Staleness is for how long the source has been cut off from what it follows.
func (n *Names) Staleness() time.Duration {
	if c := n.contact.Load(); c != nil {
		return c.staleness()
	}
	return 0
}

// Waiting returns the lists that are not complete yet, sorted.
func (n *Names) Waiting() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.waiting))
}

// The methods below are called with mu held.

func (n *Names) touch() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

func (n *Names) delivered(list string) {
	if !n.waiting[list] {
		return
	}
	delete(n.waiting, list)
	if len(n.waiting) == 0 {
		n.waiting = nil
		close(n.synced)
		n.touch()
	}
}

func (n *Names) putService(set *serviceSet, s *names.Service) {
	old := set.all[s.NamespacedName]
	if old != nil {
		if old.Equal(s) {
			return
		}
		s.Slices = old.Slices
	}
	set.put(s)
	n.touch()
}

func (n *Names) deleteService(set *serviceSet, name proxier.NamespacedName) {
	if old := set.all[name]; old != nil && old.Kind != names.Missing {
		set.put(&names.Service{NamespacedName: old.NamespacedName, Slices: old.Slices})
		n.touch()
	}
}

func (n *Names) replaceServices(set *serviceSet, list []*names.Service) {
	gone := map[proxier.NamespacedName]bool{}
	for name, s := range set.all {
		gone[name] = s.Kind != names.Missing
	}
	for _, s := range list {
		delete(gone, s.NamespacedName)
		n.putService(set, s)
	}
	for name, was := range gone {
		if was {
			n.deleteService(set, name)
		}
	}
}

// namedSlice converts an EndpointSlice.
func (n *Names) namedSlice(s *discoveryv1.EndpointSlice) namedSlice {
	out := namedSlice{name: nameOf(s)}
	out.name.Namespace = shared.intern(strings.ToLower(out.name.Namespace))
	out.service = strings.ToLower(s.Labels[discoveryv1.LabelServiceName])
	if n.options.Imports {
		out.imported = strings.ToLower(s.Labels[names.LabelImport])
	}
	if out.service != "" || out.imported != "" {
		out.slice = names.OfSlice(s, n.keep)
	}
	return out
}

func (n *Names) putSlice(s namedSlice) {
	if s.slice == nil {
		n.deleteSlice(s.name)
		return
	}
	old := n.slices[s.name]
	if old.slice != nil && old.slice.Equal(s.slice) && old.service == s.service && old.imported == s.imported {
		return
	}
	n.slices[s.name] = s.ownedSlice
	move(&n.services, s.name.Namespace, old.service, s.service, old.slice, s.slice)
	move(&n.imports, s.name.Namespace, old.imported, s.imported, old.slice, s.slice)
	n.touch()
}

func (n *Names) deleteSlice(name proxier.NamespacedName) {
	old := n.slices[name]
	if old.slice == nil {
		return
	}
	delete(n.slices, name)
	move(&n.services, name.Namespace, old.service, "", old.slice, nil)
	move(&n.imports, name.Namespace, old.imported, "", old.slice, nil)
	n.touch()
}

// move takes a slice from one Service and gives its next state to another; "" is none.
func move(set *serviceSet, namespace, from, to string, old, now *names.Slice) {
	if from != "" && from != to {
		set.edit(namespace, from, func(list []*names.Slice) []*names.Slice {
			return slices.DeleteFunc(list, func(x *names.Slice) bool { return x == old })
		})
	}
	if to == "" {
		return
	}
	set.edit(namespace, to, func(list []*names.Slice) []*names.Slice {
		at, found := slices.BinarySearchFunc(list, now.Name, func(x *names.Slice, name string) int { return cmp.Compare(x.Name, name) })
		if found {
			list[at] = now
			return list
		}
		return slices.Insert(list, at, now)
	})
}

func (n *Names) replaceSlices(list []namedSlice) {
	gone := maps.Clone(n.slices)
	for _, s := range list {
		delete(gone, s.name)
		n.putSlice(s)
	}
	for name := range gone {
		n.deleteSlice(name)
	}
}

func (n *Names) putNamespace(name string) {
	if _, there := n.namespaces[name]; !there {
		n.namespaces[name] = struct{}{}
		n.dirtyNamespaces = true
		n.touch()
	}
}

func (n *Names) deleteNamespace(name string) {
	if _, there := n.namespaces[name]; there {
		delete(n.namespaces, name)
		n.dirtyNamespaces = true
		n.touch()
	}
}

func (n *Names) replaceNamespaces(list []string) {
	gone := maps.Clone(n.namespaces)
	for _, name := range list {
		delete(gone, name)
		n.putNamespace(name)
	}
	for name := range gone {
		n.deleteNamespace(name)
	}
}

// A namedPod is a pod, or nil if no name may lead to it.
type namedPod struct {
	name proxier.NamespacedName
	pod  *names.Pod
}

func (n *Names) putPod(p namedPod) {
	if old := n.pods[p.name]; old != nil && p.pod != nil && *old == *p.pod || old == nil && p.pod == nil {
		return
	}
	if p.pod == nil {
		delete(n.pods, p.name)
	} else {
		n.pods[p.name] = p.pod
	}
	n.dirtyPods[p.name] = struct{}{}
	n.touch()
}

func (n *Names) replacePods(list []namedPod) {
	gone := maps.Clone(n.pods)
	for _, p := range list {
		delete(gone, p.name)
		n.putPod(p)
	}
	for name := range gone {
		n.putPod(namedPod{name: name})
	}
}

// A serviceSet is a set of Services and the names of those that changed since the last list.
type serviceSet struct {
	all   map[proxier.NamespacedName]*names.Service
	dirty map[proxier.NamespacedName]struct{}
}

func newServiceSet() serviceSet {
	return serviceSet{map[proxier.NamespacedName]*names.Service{}, map[proxier.NamespacedName]struct{}{}}
}

// put sets a Service; one that is nothing but a name is none.
func (s *serviceSet) put(svc *names.Service) {
	if svc.Kind == names.Missing && len(svc.Slices) == 0 {
		delete(s.all, svc.NamespacedName)
	} else {
		s.all[svc.NamespacedName] = svc
	}
	s.dirty[svc.NamespacedName] = struct{}{}
}

// edit makes a new Service with other slices.
func (s *serviceSet) edit(namespace, name string, f func([]*names.Slice) []*names.Slice) {
	svc := &names.Service{NamespacedName: proxier.NamespacedName{Namespace: namespace, Name: name}}
	if old := s.all[svc.NamespacedName]; old != nil {
		*svc = *old
	}
	svc.Slices = slices.Clip(f(slices.Clone(svc.Slices)))
	s.put(svc)
}

// list returns the sorted Services, old itself if none changed.
func (s *serviceSet) list(old names.List[*names.Service]) names.List[*names.Service] {
	if len(s.dirty) == 0 {
		return old
	}
	out := merge(old, s.dirty, s.all, func(name proxier.NamespacedName) *names.Service { return &names.Service{NamespacedName: name} })
	s.dirty = map[proxier.NamespacedName]struct{}{}
	return out
}

// merge returns the list in which the dirty elements have their present value. place makes
// something of a name that is in its place.
func merge[T names.Ordered[T]](old names.List[T], dirty map[proxier.NamespacedName]struct{}, now map[proxier.NamespacedName]T,
	place func(proxier.NamespacedName) T,
) names.List[T] {
	if len(dirty) > len(now)/16 {
		return names.ListOf(slices.SortedFunc(maps.Values(now), T.Order)...)
	}
	for name := range dirty {
		if x, ok := now[name]; ok {
			old = old.Put(x)
		} else {
			old = old.Delete(place(name))
		}
	}
	return old
}
