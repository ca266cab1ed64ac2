package watch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// publish runs Publish in the bubble of a synctest and records what comes out.
func publish(t *testing.T, store *Store, o PublishOptions) (feed *proxier.Feed, published *[]*proxier.Snapshot) {
	feed, published = &proxier.Feed{}, &[]*proxier.Snapshot{}
	o.Published = func(s *proxier.Snapshot, _ []proxier.Trigger) {
		if got, _ := feed.Current(); got != s {
			t.Error("told of a snapshot before it was on the feed")
		}
		*published = append(*published, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Publish(ctx, store, resolve.New(resolve.Options{NodeName: "node-1"}), feed, o)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return feed, published
}

func serviceNames(s *proxier.Snapshot) string {
	out := fmt.Sprint(s.Revision)
	for _, svc := range s.Services {
		out += " " + svc.Name
	}
	for _, p := range s.Problems {
		out += " " + p.Reason
	}
	return out
}

func TestPublishWaitsForSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		_, published := publish(t, store, PublishOptions{})
		store.mu.Lock()
		store.putService(svc("a", "10.96.0.1", nil))
		for _, list := range []string{listServices, listNode, listCIDRs} {
			store.delivered(list)
		}
		store.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(*published) != 0 {
			t.Fatalf("published %s before EndpointSlices were complete", serviceNames((*published)[0]))
		}
		store.mu.Lock()
		store.delivered(listSlices)
		store.mu.Unlock()
		synctest.Wait()
		if len(*published) != 1 || serviceNames((*published)[0]) != "1 a" {
			t.Fatalf("published %d snapshots", len(*published))
		}
		if err := (*published)[0].Check(); err != nil {
			t.Error(err)
		}
	})
}

// A burst is one snapshot; changes that never end are published all the same.
func TestPublishCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		store.Replace(Objects{})
		feed, published := publish(t, store, PublishOptions{Quiet: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond})
		synctest.Wait()
		put := func(n int) {
			store.mu.Lock()
			defer store.mu.Unlock()
			store.putService(svc(fmt.Sprintf("s%04d", n), fmt.Sprintf("10.96.%d.%d", n/200, n%200+1), nil))
		}
		for n := range 50 {
			put(n)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if len(*published) != 2 {
			t.Errorf("a burst of 50 ms made %d snapshots, want 1", len(*published)-1)
		}
		if s, _ := feed.Current(); len(s.Services) != 50 {
			t.Errorf("%d services, want 50", len(s.Services))
		}
		start := len(*published)
		for n := range 1000 {
			put(1000 + n)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := len(*published) - start; n < 9 || n > 11 {
			t.Errorf("1 s of changes made %d snapshots, want 10", n)
		}
	})
}

// A change within a slice is published at once, if it is alone; a Service waits for its slice.
func TestPublishAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		store.Replace(Objects{})
		feed, _ := publish(t, store, PublishOptions{Quiet: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond})
		synctest.Wait()
		wait := func(f func()) time.Duration {
			t.Helper()
			synctest.Wait()
			before, _ := feed.Current()
			start := time.Now()
			store.mu.Lock()
			f()
			store.mu.Unlock()
			for time.Since(start) < time.Minute {
				synctest.Wait()
				if now, _ := feed.Current(); now != before {
					break
				}
				time.Sleep(time.Millisecond)
			}
			return time.Since(start)
		}
		endpoint := func(address string) func() {
			return func() { store.putSlice(slice("a-1", "a", nil, address)) }
		}
		time.Sleep(time.Second)
		for _, step := range []struct {
			name  string
			pause time.Duration
			do    func()
			want  time.Duration
		}{
			{"a Service", time.Second, func() { store.putService(svc("a", "10.96.0.1", nil)) }, 10 * time.Millisecond},
			{"its slice", time.Second, endpoint("10.244.1.11"), 10 * time.Millisecond},
			{"an endpoint", time.Second, endpoint("10.244.1.12"), 0},
			{"another right after", time.Millisecond, endpoint("10.244.1.13"), 10 * time.Millisecond},
			{"another later", time.Second, endpoint("10.244.1.14"), 0},
			{"the slice goes", time.Second, func() { store.deleteSlice(proxier.NamespacedName{Namespace: "default", Name: "a-1"}) }, 10 * time.Millisecond},
		} {
			time.Sleep(step.pause)
			if got := wait(step.do); got != step.want {
				t.Errorf("%s: published after %v, want %v", step.name, got, step.want)
			}
		}
	})
}

// Another reader of the store does not make a Service complete.
func TestPublishBesideReader(t *testing.T) {
	store := NewStore()
	store.Replace(Objects{})
	store.gather()
	store.mu.Lock()
	store.putService(svc("a", "10.96.0.1", nil))
	store.mu.Unlock()
	store.Inputs()
	if store.complete() {
		t.Error("a Service without its slice is taken for complete once somebody has read it")
	}
}

// An event that changes nothing publishes nothing; the source's problems alone do.
func TestPublishProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		bad := svc("a", "10.96.0.1", nil)
		bad.Annotations["fairway.dev/nonsense"] = "1"
		objects := func(problems ...proxier.Problem) Objects {
			return Objects{Services: []*corev1.Service{bad.DeepCopy()}, Problems: problems}
		}
		store.Replace(objects())
		_, published := publish(t, store, PublishOptions{})
		synctest.Wait()
		mine := proxier.Problem{Kind: "Manifest", Object: proxier.NamespacedName{Namespace: "/d", Name: "x.yaml"}, Reason: "InvalidManifest", Message: "no"}
		for _, o := range []Objects{objects(), objects(mine), objects(mine), objects()} {
			store.Replace(o)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		var got []string
		for _, s := range *published {
			got = append(got, serviceNames(s))
		}
		own := (*published)[0].Problems
		if len(own) != 1 {
			t.Fatalf("problems of resolve: %v", own)
		}
		want := []string{"1 a " + own[0].Reason, "2 a InvalidManifest " + own[0].Reason, "3 a " + own[0].Reason}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

// One changed slice gives a snapshot in which every other Service keeps its pointer.
func TestPublishKeepsPointers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		store.Replace(Objects{
			Services:       []*corev1.Service{svc("a", "10.96.0.1", nil), svc("b", "10.96.0.2", nil)},
			EndpointSlices: []*discoveryv1.EndpointSlice{slice("a-1", "a", nil, "10.244.1.1")},
		})
		_, published := publish(t, store, PublishOptions{})
		synctest.Wait()
		store.mu.Lock()
		store.putSlice(slice("a-1", "a", nil, "10.244.1.2"))
		store.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(*published) != 2 {
			t.Fatalf("%d snapshots", len(*published))
		}
		before, after := (*published)[0], (*published)[1]
		if before.Services[0] == after.Services[0] || before.Services[1] != after.Services[1] {
			t.Error("pointers do not tell what changed")
		}
	})
}
