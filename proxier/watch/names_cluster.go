package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairway-lb/fairway/proxier/names"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// ClusterNames keeps n equal to what an API server holds until ctx is done. It lists and watches
// Services, EndpointSlices and Namespaces, and Pods and ServiceImports if n wants them; nothing
// more, and nothing by name: what the ClusterRole system:coredns allows. If store is not nil,
// Services and EndpointSlices are those that a [Cluster] with ForDNS fills it with.
//
// Objects are converted one at a time while a list streams in. While the API server cannot be
// reached n keeps its last state and [Names.Staleness] grows.
func ClusterNames(ctx context.Context, n *Names, client *Client, store *Store, log *slog.Logger) error {
	if log == nil {
		log = slog.Default()
	}
	c := &cluster{log: log, contact: new(contact)}
	if store != nil {
		c.contact = &store.contact
	}
	n.contact.Store(c.contact)

	var follow []func(context.Context)
	if store == nil {
		follow = append(follow, c.services(n, client), c.slices(n, client))
	} else if n.options.Labels != "" || n.options.Imports {
		return errors.New("names from the proxy's own Services: label selectors and imports are not supported")
	} else {
		follow = append(follow, func(ctx context.Context) { n.follow(ctx, store) })
	}
	follow = append(follow, c.namespaces(n, client))
	if n.options.Pods {
		follow = append(follow, c.pods(n, client))
	}
	if n.options.Imports {
		follow = append(follow, c.imports(n, client))
	}
	var wg sync.WaitGroup
	for _, f := range follow {
		wg.Go(func() { f(ctx) })
	}
	wg.Wait()
	return nil
}

func (c *cluster) services(n *Names, client *Client) func(context.Context) {
	return c.reflector(listServices, client.core, "services", metav1.ListOptions{LabelSelector: n.options.Labels}, &corev1.Service{},
		&namesSink[*corev1.Service, *names.Service]{
			n:       n,
			convert: names.OfService,
			put:     func(s *names.Service) { n.putService(&n.services, s) },
			remove:  func(s *corev1.Service) { n.deleteService(&n.services, names.OfService(s).NamespacedName) },
			replace: func(list []*names.Service) { n.replaceServices(&n.services, list) },
		})
}

func (c *cluster) slices(n *Names, client *Client) func(context.Context) {
	return c.reflector(listSlices, client.discovery, "endpointslices", metav1.ListOptions{LabelSelector: n.options.Labels}, &discoveryv1.EndpointSlice{},
		&namesSink[*discoveryv1.EndpointSlice, namedSlice]{
			n:       n,
			convert: n.namedSlice,
			put:     n.putSlice,
			remove:  func(s *discoveryv1.EndpointSlice) { n.deleteSlice(n.namedSlice(s).name) },
			replace: n.replaceSlices,
		})
}

func (c *cluster) namespaces(n *Names, client *Client) func(context.Context) {
	return c.reflector(listNamespaces, client.core, "namespaces", metav1.ListOptions{LabelSelector: n.options.NamespaceLabels}, &corev1.Namespace{},
		&namesSink[*corev1.Namespace, string]{
			n:       n,
			convert: func(ns *corev1.Namespace) string { return shared.intern(ns.Name) },
			put:     n.putNamespace,
			remove:  func(ns *corev1.Namespace) { n.deleteNamespace(ns.Name) },
			replace: n.replaceNamespaces,
		})
}

func (c *cluster) pods(n *Names, client *Client) func(context.Context) {
	fields := "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
	if n.options.NodeName != "" {
		fields += ",spec.nodeName=" + n.options.NodeName
	}
	return c.reflector(listPods, client.core, "pods", metav1.ListOptions{LabelSelector: n.options.Labels, FieldSelector: fields}, &corev1.Pod{},
		&namesSink[*corev1.Pod, namedPod]{
			n:       n,
			convert: toNamedPod,
			put:     n.putPod,
			remove:  func(p *corev1.Pod) { n.putPod(namedPod{name: nameOf(p)}) },
			replace: n.replacePods,
		})
}

func toNamedPod(p *corev1.Pod) namedPod { return namedPod{nameOf(p), names.OfPod(p)} }

func (c *cluster) imports(n *Names, client *Client) func(context.Context) {
	return c.reflector(listImports, client.multicluster, "serviceimports", metav1.ListOptions{}, &ServiceImport{},
		&namesSink[*ServiceImport, *names.Service]{
			n:       n,
			convert: toImport,
			put:     func(s *names.Service) { n.putService(&n.imports, s) },
			remove:  func(s *ServiceImport) { n.deleteService(&n.imports, toImport(s).NamespacedName) },
			replace: func(list []*names.Service) { n.replaceServices(&n.imports, list) },
		})
}

func toImport(s *ServiceImport) *names.Service {
	return names.OfImport(s.Namespace, s.Name, s.Spec.Type, s.Spec.IPs, s.Spec.Ports)
}

// follow takes Services and EndpointSlices from a Store.
func (n *Names) follow(ctx context.Context, store *Store) {
	select {
	case <-ctx.Done():
		return
	case <-store.Synced():
	}
	var last []*resolve.Group
	for {
		changed := store.Changed()
		now := store.Inputs().Groups
		n.mu.Lock()
		eachChange(last, now, n.putGroup)
		n.delivered(listServices)
		n.delivered(listSlices)
		n.mu.Unlock()
		last = now
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// putGroup takes one Service with all its slices, of which those that was has are not read again. Nil
// is none. Called with mu held.
func (n *Names) putGroup(was, is *resolve.Group) {
	if was == nil {
		was = &resolve.Group{}
	}
	if is == nil {
		is = &resolve.Group{Name: was.Name}
	}
	s := &names.Service{NamespacedName: is.Name}
	if is.Service != nil {
		s = names.OfService(is.Service)
	}
	old := n.services.all[s.NamespacedName]
	if old == nil {
		old = &names.Service{}
	}
	same := old.Equal(s)
	for _, e := range is.Slices {
		s.Slices = append(s.Slices, n.sliceOf(e, was, old))
	}
	if !same || !slices.Equal(old.Slices, s.Slices) {
		n.services.put(s)
		n.touch()
	}
}

// sliceOf converts a slice, unless it says what one of old says. Old was made of the group was.
func (n *Names) sliceOf(e *discoveryv1.EndpointSlice, was *resolve.Group, old *names.Service) *names.Slice {
	if at := slices.Index(was.Slices, e); at >= 0 && at < len(old.Slices) && old.Slices[at].Name == e.Name {
		return old.Slices[at]
	}
	o := names.OfSlice(e, n.keep)
	for _, x := range old.Slices {
		if x.Equal(o) {
			return x
		}
	}
	return o
}

// eachChange calls f for each group that differs between two sorted lists, with nil for what is not
// there. It costs a comparison of pointers for each that does not differ.
func eachChange(old, now []*resolve.Group, f func(was, is *resolve.Group)) {
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			old, now = old[1:], now[1:]
		case len(now) == 0 || len(old) > 0 && old[0].Name.Compare(now[0].Name) < 0:
			f(old[0], nil)
			old = old[1:]
		case len(old) == 0 || old[0].Name.Compare(now[0].Name) > 0:
			f(nil, now[0])
			now = now[1:]
		default:
			f(old[0], now[0])
			old, now = old[1:], now[1:]
		}
	}
}

// A namesSink is where a reflector puts objects of type T, converted to C. A list comes converted.
type namesSink[T metav1.Object, C any] struct {
	n       *Names
	list    string
	convert func(T) C
	put     func(C)
	remove  func(T)
	replace func([]C)
}

func (s *namesSink[T, C]) name(list string) { s.list = list }

// Add is called for a new object.
func (s *namesSink[T, C]) Add(o any) error { return s.Update(o) }

// Update is called for a changed object.
func (s *namesSink[T, C]) Update(o any) error {
	return s.locked(o, func(o T) { s.put(s.convert(o)) })
}

// Delete is called for a deleted object.
func (s *namesSink[T, C]) Delete(o any) error { return s.locked(o, s.remove) }

func (s *namesSink[T, C]) locked(o any, f func(T)) error {
	typed, ok := o.(T)
	if !ok {
		return fmt.Errorf("watch of %s brought a %T", s.list, o)
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	f(typed)
	return nil
}

// Replace is called with a complete list.
func (s *namesSink[T, C]) Replace(list []any, _ string) error {
	converted := make([]C, len(list))
	for i, o := range list {
		switch o := o.(type) {
		case T:
			converted[i] = s.convert(o)
		case C:
			converted[i] = o
		default:
			return fmt.Errorf("list of %s brought a %T", s.list, o)
		}
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.replace(converted)
	s.n.delivered(s.list)
	return nil
}

// Resync is never asked for.
func (s *namesSink[T, C]) Resync() error { return nil }

// Transformer converts objects while a list still streams in.
func (s *namesSink[T, C]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		if typed, ok := o.(T); ok {
			return s.convert(typed), nil
		}
		return o, nil
	}
}
