package server

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/proxier/names"
)

// A NewSource makes the source of objects for a kubernetes directive. The function that it returns
// keeps the source up to date until its context is done; an error from it means that the source
// never will be.
type NewSource func(k *corefile.Kubernetes) (names.Source, func(context.Context) error, error)

// A source is a connection to a cluster that zones share.
type source struct {
	names.Source
	of     corefile.Kubernetes // what it was made for, see watched
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // why, after done
	users  int
}

// watched leaves of a directive what the connection to the cluster depends on. Two directives
// that are equal in this share one, and a change of the rest does not restart it.
func watched(k *corefile.Kubernetes) corefile.Kubernetes {
	w := corefile.Kubernetes{
		Endpoint: k.Endpoint, ClientCert: k.ClientCert, ClientKey: k.ClientKey, CA: k.CA,
		Kubeconfig: k.Kubeconfig, Context: k.Context, QPS: k.QPS, Burst: k.Burst, MaxInflight: k.MaxInflight,
		Namespaces: k.Namespaces, Labels: k.Labels, NamespaceLabels: k.NamespaceLabels,
		EndpointPodNames: k.EndpointPodNames, NoEndpoints: k.NoEndpoints, Zonal: k.Zonal,
	}
	if k.Pods == corefile.PodsVerified {
		w.Pods = k.Pods
	}
	if len(k.MulticlusterZones) > 0 {
		w.MulticlusterZones = []string{"any"}
	}
	return w
}

// sources are the connections in use.
type sources struct {
	mu     sync.Mutex
	list   []*source
	make   NewSource
	failed func(error) // told of a source that ended while it was needed
}

// get returns the source for a directive, made and started if there is none yet. Each get needs a
// put.
func (s *sources) get(k *corefile.Kubernetes) (*source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := watched(k)
	for _, src := range s.list {
		if reflect.DeepEqual(src.of, of) {
			src.users++
			return src, nil
		}
	}
	made, run, err := s.make(k)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	src := &source{Source: made, of: of, cancel: cancel, done: make(chan struct{}), users: 1}
	s.list = append(s.list, src)
	go func() {
		defer close(src.done)
		if src.err = run(ctx); src.err != nil && ctx.Err() == nil {
			s.failed(src.err)
		}
	}()
	return src, nil
}

// put gives a source back; the last one ends it, and waits until it has ended.
func (s *sources) put(src *source) {
	s.mu.Lock()
	src.users--
	last := src.users == 0
	if last {
		s.list = slices.DeleteFunc(s.list, func(x *source) bool { return x == src })
	}
	s.mu.Unlock()
	if last {
		src.cancel()
		<-src.done
	}
}

// staleness is the longest time for which a source has been out of contact.
func (s *sources) staleness() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, src := range s.list {
		longest = max(longest, src.Staleness())
	}
	return longest
}

// wait returns when ready says that the source's first complete state is in force, or after the
// time that the directive allows: then the server starts without, and says SERVFAIL where it does
// not know. It fails if the source has.
func (src *source) wait(ctx context.Context, limit time.Duration, ready func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-src.done:
			return src.err
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
