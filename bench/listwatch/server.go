package listwatch

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// resources are the kinds that are served, by the path of their collection.
var resources = map[string]schema.GroupVersionKind{
	"/api/v1/namespaces": {Version: "v1", Kind: "Namespace"},
	"/api/v1/nodes":      {Version: "v1", Kind: "Node"},
	"/api/v1/pods":       {Version: "v1", Kind: "Pod"},
	"/api/v1/services":   {Version: "v1", Kind: "Service"},
	"/apis/discovery.k8s.io/v1/endpointslices": {Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
	"/apis/networking.k8s.io/v1/servicecidrs":  {Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDR"},
}

// A Server holds the objects and serves them. Its methods are safe for concurrent use. It is an
// [http.Handler]; [Server.Start] serves it on a listener. The zero Server is not ready: use [New].
type Server struct {
	version atomic.Uint64
	stores  map[schema.GroupVersionKind]*store

	mu     sync.Mutex
	events []runtime.Object
	hangUp context.CancelFunc
	live   context.Context // ends when the watches of now shall end
}

// New returns a Server without objects.
func New() *Server {
	s := &Server{stores: map[schema.GroupVersionKind]*store{}}
	s.version.Store(1) // a client's 0 means "any version"
	for _, kind := range resources {
		s.stores[kind] = newStore(kind, &s.version)
	}
	s.live, s.hangUp = context.WithCancel(context.Background())
	return s
}

// Set stores copies of objects, each new or in place of the one of its kind and name. An object
// that is there already, but for its resource version, causes no watch event. It returns an
// error, and stores nothing, if a kind is not served.
func (s *Server) Set(objects ...runtime.Object) error {
	byStore, err := s.sort(objects)
	if err != nil {
		return err
	}
	for st, objs := range byStore {
		st.update(objs, nil, false)
	}
	return nil
}

// Replace is Set, and deletes every object of any kind that is not among objects.
func (s *Server) Replace(objects ...runtime.Object) error {
	byStore, err := s.sort(objects)
	if err != nil {
		return err
	}
	for _, st := range s.stores {
		st.update(byStore[st], nil, true)
	}
	return nil
}

// Delete deletes the objects of the same kind and name. It is no error if there are none.
func (s *Server) Delete(objects ...runtime.Object) error {
	byStore, err := s.sort(objects)
	if err != nil {
		return err
	}
	for st, objs := range byStore {
		var names []types.NamespacedName
		for _, o := range objs {
			names = append(names, nameOf(o))
		}
		st.update(nil, names, false)
	}
	return nil
}

func (s *Server) sort(objects []runtime.Object) (map[*store][]runtime.Object, error) {
	out := map[*store][]runtime.Object{}
	for _, o := range objects {
		kinds, _, err := scheme.Scheme.ObjectKinds(o)
		if err != nil {
			return nil, fmt.Errorf("listwatch: %w", err)
		}
		st := s.stores[kinds[0]]
		if st == nil {
			return nil, fmt.Errorf("listwatch: %s is not served", kinds[0])
		}
		if _, err := meta.Accessor(o); err != nil {
			return nil, fmt.Errorf("listwatch: %w", err)
		}
		out[st] = append(out[st], o)
	}
	return out, nil
}

// Events returns what clients posted, newest last: *corev1.Event or *eventsv1.Event.
func (s *Server) Events() []runtime.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// HangUp ends every watch, as an API server does that restarts. Clients come back at once.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangUp()
	s.live, s.hangUp = context.WithCancel(context.Background())
}

// Start serves on l, which it closes in the end, and returns the URL of the server and what
// stops it. stop ends every connection and returns when no request is being served. The
// listener may belong to another network namespace. A Server can be started again.
func (s *Server) Start(l net.Listener) (url string, stop func()) {
	hs := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(l) // ErrServerClosed, or the listener's end, which clients notice
	}()
	return "http://" + l.Addr().String(), func() {
		s.HangUp()
		_ = hs.Close()
		<-done
	}
}

// Config returns the client configuration for the server at url. It asks for protobuf, as
// kube-proxy and Fairway do.
func Config(url string) *rest.Config {
	c := &rest.Config{Host: url, QPS: -1}
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}

// Kubeconfig returns the kubeconfig file for the server at url.
func Kubeconfig(url string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: listwatch, cluster: {server: %q}}]
users: [{name: nobody, user: {}}]
contexts: [{name: listwatch, context: {cluster: listwatch, user: nobody}}]
current-context: listwatch
`, url)
}
