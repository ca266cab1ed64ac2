package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// ClusterOptions say what Cluster asks the API server for.
type ClusterOptions struct {
	// NodeName is the node whose object is followed; others are not asked for.
	NodeName string
	// ServiceProxyName is the value of the label service.kubernetes.io/service-proxy-name that
	// Services must have; "" selects those without the label (row S-01).
	ServiceProxyName string
	// ForDNS also asks for what only a name server needs: headless Services and their
	// EndpointSlices, and Services of other proxies.
	ForDNS bool
	// Log receives what happens beside the objects themselves. Nil means slog.Default.
	Log *slog.Logger
}

// Cluster keeps store equal to what an API server holds until ctx is done. It streams Services,
// EndpointSlices, ServiceCIDRs and the own Node, each once, and then their changes; nothing is
// listed again unless the API server has forgotten where a watch left off.
//
// While the API server cannot be reached the store keeps its last state, [Store.Staleness]
// grows, and Cluster tries again with a back-off of up to about 12 s. The store is synced once
// Services, EndpointSlices and Nodes were delivered; ServiceCIDRs are waited for unless the
// server lacks them or forbids to list them.
func Cluster(ctx context.Context, store *Store, client *Client, o ClusterOptions) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	c := &cluster{store: store, log: o.Log, contact: &store.contact}
	store.mu.Lock()
	store.handedOver = true
	store.mu.Unlock()

	services := metav1.ListOptions{LabelSelector: "!" + labelProxyName, FieldSelector: "spec.clusterIP!=None"}
	if o.ServiceProxyName != "" {
		services.LabelSelector = labelProxyName + "=" + o.ServiceProxyName
	}
	endpoints := metav1.ListOptions{LabelSelector: "!" + corev1.IsHeadlessService}
	if o.ForDNS {
		services, endpoints = metav1.ListOptions{}, metav1.ListOptions{}
	}
	own := metav1.ListOptions{FieldSelector: "metadata.name=" + o.NodeName}
	follow := []func(context.Context){
		c.reflector(listServices, client.core, "services", services, &corev1.Service{}, &sink[*corev1.Service]{
			store: store, trim: trimService, received: store.receivedServices.Add,
			put: store.putService, replace: store.replaceServices,
			remove: func(o *corev1.Service) { store.deleteService(nameOf(o)) },
		}),
		c.reflector(listSlices, client.discovery, "endpointslices", endpoints, &discoveryv1.EndpointSlice{},
			&sink[*discoveryv1.EndpointSlice]{
				store: store, trim: store.trimStreamed, received: store.receivedSlices.Add,
				put: store.putSlice, replace: store.replaceSlices,
				remove: func(o *discoveryv1.EndpointSlice) { store.deleteSlice(nameOf(o)) },
			}),
		c.reflector(listNode, client.core, "nodes", own, &corev1.Node{}, &sink[*corev1.Node]{
			store: store, trim: trimNode, put: store.putNode,
			replace: func(list []*corev1.Node) {
				var node *corev1.Node // nil if it does not exist
				if len(list) > 0 {
					node = list[0]
				}
				store.putNode(node)
			},
			remove: func(*corev1.Node) { store.putNode(nil) },
		}),
		c.serviceCIDRs(client),
	}
	var wg sync.WaitGroup
	for _, f := range follow {
		wg.Go(func() { f(ctx) })
	}
	wg.Wait()
}

type cluster struct {
	store   *Store
	log     *slog.Logger
	contact *contact
}

// reflector returns a function that follows one resource until its context ends.
func (c *cluster) reflector(list string, client rest.Interface, resource string, selector metav1.ListOptions,
	example runtime.Object, store sinkOf,
) func(context.Context) {
	store.name(list)
	request := func(o metav1.ListOptions) *rest.Request {
		o.LabelSelector, o.FieldSelector = selector.LabelSelector, selector.FieldSelector
		return client.Get().Resource(resource).VersionedParams(&o, metav1.ParameterCodec)
	}
	return func(ctx context.Context) {
		l := c.contact.open(c.log, client.Get().URL().Host, list)
		defer l.close()
		lw := &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				out, err := request(o).Do(ctx).Get()
				if err != nil {
					l.failed(ctx, err)
				}
				return out, err
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
				o.Watch = true
				w, err := watchOf(request(o), ctx)
				switch {
				case err == nil:
					l.watched()
					return &trackedWatch{Interface: w, stopped: sync.OnceFunc(l.ended)}, nil
				case o.SendInitialEvents == nil || !answered(err): // else it is asked for a list instead
					l.failed(ctx, err)
				}
				return nil, err
			},
		}
		cache.NewReflectorWithOptions(lw, example, store, cache.ReflectorOptions{
			Name:    "fairway " + resource,
			Backoff: backoff(),
		}).RunWithContext(l.silence(ctx))
	}
}

// watchOf begins a watch. A request to which no answer comes is an error, which the client library
// makes a watch that ends at once.
func watchOf(r *rest.Request, ctx context.Context) (apiwatch.Interface, error) {
	w, err := r.Watch(ctx)
	if err == nil && reflect.TypeOf(w) == reflect.TypeOf(apiwatch.NewEmptyWatch()) {
		return nil, errNoAnswer
	}
	return w, err
}

var errNoAnswer = errors.New("watch: the connection was closed, or timed out, before there was an answer")

// answered reports whether an error is what an API server said.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// backoff is client-go's own with a lower bound on how late a returning API server is noticed.
func backoff() *wait.Backoff {
	const first, limit = 800 * time.Millisecond, 8 * time.Second
	return &wait.Backoff{Duration: first, Cap: limit, Factor: 2, Jitter: 0.5, Steps: int(math.Ceil(float64(limit) / float64(first)))}
}

// A trackedWatch tells when it is given up, which a reflector does as soon as it ends.
type trackedWatch struct {
	apiwatch.Interface
	stopped func()
}

// Stop ends the watch.
func (w *trackedWatch) Stop() {
	w.stopped()
	w.Interface.Stop()
}

// cidrRetry is how often an API server that has no ServiceCIDRs is asked again.
const cidrRetry = 10 * time.Minute

// serviceCIDRs follows ServiceCIDRs, which servers before 1.33 lack and old roles do not allow.
func (c *cluster) serviceCIDRs(client *Client) func(context.Context) {
	follow := c.reflector(listCIDRs, client.networking, "servicecidrs", metav1.ListOptions{}, &networkingv1.ServiceCIDR{},
		&sink[*networkingv1.ServiceCIDR]{
			store: c.store, trim: trimCIDR, put: c.store.putCIDR, replace: c.store.replaceCIDRs,
			remove: func(o *networkingv1.ServiceCIDR) { c.store.deleteCIDR(o.Name) },
		})
	delay := backoff()
	return func(ctx context.Context) {
		for ctx.Err() == nil {
			err := client.networking.Get().Resource("servicecidrs").Param("limit", "1").Do(ctx).Error()
			if err == nil {
				follow(ctx)
				return
			}
			pause := delay.Step()
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
				c.log.Debug("service CIDRs cannot be listed; going on without", "err", err)
				c.store.mu.Lock()
				c.store.delivered(listCIDRs)
				c.store.mu.Unlock()
				pause = cidrRetry
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// A sink is where a reflector puts objects of one type. It keeps no copy of its own.
type sink[T metav1.Object] struct {
	store    *Store
	list     string
	trim     func(T)
	received func(int64) int64
	put      func(T)
	remove   func(T)
	replace  func([]T)
}

type sinkOf interface {
	cache.TransformingStore
	name(list string)
}

func (s *sink[T]) name(list string) { s.list = list }

// Add is called for a new object.
func (s *sink[T]) Add(o any) error { return s.Update(o) }

// Update is called for a changed object.
func (s *sink[T]) Update(o any) error {
	return s.locked(o, func(o T) {
		s.count(1)
		s.put(o)
	})
}

// Delete is called for a deleted object.
func (s *sink[T]) Delete(o any) error { return s.locked(o, s.remove) }

func (s *sink[T]) locked(o any, f func(T)) error {
	typed, ok := o.(T)
	if !ok {
		return fmt.Errorf("watch of %s brought a %T", s.list, o)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	f(typed)
	return nil
}

// Replace is called with a complete list.
func (s *sink[T]) Replace(list []any, _ string) error {
	typed := make([]T, len(list))
	for i, o := range list {
		var ok bool
		if typed[i], ok = o.(T); !ok {
			return fmt.Errorf("list of %s brought a %T", s.list, o)
		}
	}
	if s.received != nil { // a plain list does not pass through Transformer
		s.count(max(0, int64(len(list))-s.received(0)))
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.replace(typed)
	s.store.delivered(s.list)
	return nil
}

// Resync is never asked for.
func (s *sink[T]) Resync() error { return nil }

// Transformer trims objects while a list still streams in, which is when they take most memory.
func (s *sink[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		if typed, ok := o.(T); ok {
			s.count(1)
			s.trim(typed)
		}
		return o, nil
	}
}

func (s *sink[T]) count(n int64) {
	if s.received != nil {
		s.received(n)
	}
}
