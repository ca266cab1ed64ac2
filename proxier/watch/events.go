package watch

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/fairway-lb/fairway/proxier"
)

// EventOptions say how Events speaks.
type EventOptions struct {
	// NodeName is told as the instance that reports.
	NodeName string
	// Delay is the longest wait, of random length, before new problems are reported, so that
	// the nodes of a cluster do not all speak at once; 0 means 5 s, negative none.
	Delay time.Duration
	// Log receives what could not be reported. Nil means slog.Default.
	Log *slog.Logger
}

// What an event says of its origin.
const (
	eventController = "fairway.dev/proxy"
	eventAction     = "Program"
)

// eventRetry is the wait after the API server could not be reached.
const eventRetry = 10 * time.Second

// Events reports every new problem of the snapshots on feed as a Kubernetes Event of type
// Warning on the object that has it, until ctx is done: once while the problem lasts, at most 10
// at once and then one per second. store tells the identity of Services.
//
// The name of an event follows from what it says, so that of many nodes with the same problem
// one reports it and the others find it reported. Problems of kind Manifest are not of the
// cluster and are left out.
func Events(ctx context.Context, store *Store, client *Client, feed *proxier.Feed, o EventOptions) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Delay == 0 {
		o.Delay = 5 * time.Second
	}
	r := recorder{EventOptions: o, store: store, client: client, told: map[proxier.Problem]bool{},
		limit: flowcontrol.NewTokenBucketRateLimiter(1, 10)}
	delayed := false
	for ctx.Err() == nil {
		snapshot, changed := feed.Current()
		p, ok := r.next(snapshot)
		switch {
		case !ok:
			delayed = false
			select {
			case <-ctx.Done():
			case <-changed:
			}
		case !delayed && o.Delay > 0:
			delayed = true
			sleep(ctx, rand.N(o.Delay))
		case r.tell(ctx, p):
			if r.limit.Wait(ctx) != nil { // ctx ends before the next event may be sent
				<-ctx.Done()
			}
		default:
			sleep(ctx, eventRetry)
		}
	}
}

type recorder struct {
	EventOptions
	store  *Store
	client *Client
	limit  flowcontrol.RateLimiter
	told   map[proxier.Problem]bool // problems that last and were reported
}

// next returns a problem of s that was not told, and forgets those that are over.
func (r *recorder) next(s *proxier.Snapshot) (p proxier.Problem, ok bool) {
	if s == nil {
		return p, false
	}
	told := make(map[proxier.Problem]bool, len(s.Problems))
	for _, q := range s.Problems {
		switch {
		case r.told[q]:
			told[q] = true
		case q.Kind != kindManifest && !ok:
			p, ok = q, true
		}
	}
	r.told = told
	return p, ok
}

// tell reports p. It returns false if the API server could not be asked.
func (r *recorder) tell(ctx context.Context, p proxier.Problem) bool {
	err := r.post(ctx, p)
	switch {
	case err == nil || apierrors.IsAlreadyExists(err):
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		r.Log.Warn("the API server refuses an event", "problem", p.String(), "err", err)
	default:
		return false
	}
	r.told[p] = true
	return true
}

func (r *recorder) post(ctx context.Context, p proxier.Problem) error {
	e := r.event(p)
	return r.client.events.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
}

func (r *recorder) event(p proxier.Problem) *eventsv1.Event {
	object := corev1.ObjectReference{Kind: p.Kind, APIVersion: apiVersionOf(p.Kind), Namespace: p.Object.Namespace, Name: p.Object.Name}
	if p.Kind == "Service" {
		object.UID = r.store.serviceUID(p.Object)
	}
	namespace := p.Object.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	id := fnv.New64a()
	_, _ = fmt.Fprintf(id, "%q %q", p, object.UID) // a hash takes everything
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%016x", clip(p.Object.Name, 230), id.Sum64())},
		EventTime:           metav1.NowMicro(),
		ReportingController: eventController,
		ReportingInstance:   clip(r.NodeName, 128),
		Action:              eventAction,
		Reason:              clip(p.Reason, 128),
		Regarding:           object,
		Note:                clip(p.Message, 1024),
		Type:                corev1.EventTypeWarning,
	}
}

// serviceUID returns the identity of a Service, "" if there is none.
func (s *Store) serviceUID(name proxier.NamespacedName) (uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil && g.Service != nil {
		uid = g.Service.UID
	}
	return uid
}

// apiVersionOf returns the API group and version of a kind.
func apiVersionOf(kind string) string {
	for _, k := range kinds {
		if k.name == kind {
			return k.apiVersion()
		}
	}
	return ""
}

// clip cuts s to at most n bytes.
func clip(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
