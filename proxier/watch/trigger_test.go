package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// TestTriggers: what triggered a change of endpoints is told with the first snapshot that has it.
func TestTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		at := func(s *discoveryv1.EndpointSlice, second int) *discoveryv1.EndpointSlice {
			s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: began.Add(time.Duration(second) * time.Second).UTC().Format(time.RFC3339Nano)}
			return s
		}
		store := NewStore()
		store.handedOver = true
		store.Replace(Objects{
			Services:       []*corev1.Service{svc("a", "10.96.0.1", nil), svc("b", "10.96.0.2", nil)},
			EndpointSlices: []*discoveryv1.EndpointSlice{at(slice("old", "a", nil, "10.244.1.1"), -5), at(slice("new", "b", nil, "10.244.1.1"), 1)},
		})
		type told struct {
			Revision uint64
			Seconds  []int
		}
		var got []told
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Publish(ctx, store, resolve.New(resolve.Options{}), new(proxier.Feed), PublishOptions{
				Published: func(s *proxier.Snapshot, triggers []proxier.Trigger) {
					n := told{Revision: s.Revision}
					for _, tr := range triggers {
						second := int(tr.At.Sub(began) / time.Second)
						if tr.IPv6 {
							second += 600
						}
						n.Seconds = append(n.Seconds, second)
					}
					got = append(got, n)
				}})
		}()
		defer func() { cancel(); <-done }()
		put := func(list ...*discoveryv1.EndpointSlice) {
			synctest.Wait()
			time.Sleep(time.Minute)
			locked(store, func() {
				for _, s := range list {
					store.trimStreamed(s)
					store.putSlice(s)
				}
			})
		}
		six := at(slice("six", "a", nil, "2001:db8::1"), 5)
		six.AddressType = discoveryv1.AddressTypeIPv6
		put(at(slice("old", "a", nil, "10.244.1.2"), 2))                           // a change
		put(at(slice("old", "a", nil, "10.244.1.2"), 3))                           // of the annotation alone
		put(at(slice("old", "a", nil, "10.244.1.3"), 4), six)                      // two of one moment
		put(slice("old", "a", nil, "10.244.1.4"))                                  // without an annotation
		put(at(slice("old", "a", nil, "10.244.1.5"), -1))                          // an old one, seen late
		put(at(slice("nobody's", "", nil, "10.244.1.6"), 6))                       // no Service
		put(at(slice("none", "c", map[string]string{corev1.IsHeadlessService: ""}, // not forwarded
			"10.244.1.7"), 7), slice("old", "a", nil, "10.244.1.8"))
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []told{{1, []int{1}}, {2, []int{2}}, {3, []int{4, 605}}, {4, nil}, {5, nil}, {6, nil}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		for _, g := range store.Inputs().Groups {
			for _, s := range g.Slices {
				if s.Annotations != nil {
					t.Errorf("%s keeps %v", s.Name, s.Annotations)
				}
			}
		}
	})
}
