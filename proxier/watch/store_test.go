package watch

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// Whatever order objects come, change and go in, the Store holds what a fresh one given the
// final objects holds; what did not change keeps its pointer; what was handed out never changes.
func TestStoreHistoryDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewStore()
		s.handedOver = rapid.Bool().Draw(t, "handed over")
		m := model{services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}, cidrs: map[string]*networkingv1.ServiceCIDR{}}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		last, lastCopy := s.Inputs(), s.Inputs()
		changed := s.Changed()
		s.Replace(Objects{})
		t.Repeat(map[string]func(*rapid.T){
			"put service": func(t *rapid.T) {
				o := svc(name.Draw(t, "name"), fmt.Sprintf("10.96.0.%d", rapid.IntRange(1, 3).Draw(t, "ip")), nil)
				m.services[o.Name] = o.DeepCopy()
				locked(s, func() { s.putService(o) })
			},
			"delete service": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(m.services, n)
				locked(s, func() { s.deleteService(proxier.NamespacedName{Namespace: "default", Name: n}) })
			},
			"put slice": func(t *rapid.T) {
				o := slice("slice-"+name.Draw(t, "slice"), rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "service"), nil,
					fmt.Sprintf("10.244.1.%d", rapid.IntRange(1, 3).Draw(t, "ip")))
				m.slices[o.Name] = o.DeepCopy()
				locked(s, func() { s.putSlice(o) })
			},
			"delete slice": func(t *rapid.T) {
				n := "slice-" + name.Draw(t, "slice")
				delete(m.slices, n)
				locked(s, func() { s.deleteSlice(proxier.NamespacedName{Namespace: "default", Name: n}) })
			},
			"put cidr": func(t *rapid.T) {
				o := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name.Draw(t, "name")},
					Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{fmt.Sprintf("10.%d.0.0/16", rapid.IntRange(1, 3).Draw(t, "net"))}}}
				m.cidrs[o.Name] = o.DeepCopy()
				locked(s, func() { s.putCIDR(o) })
			},
			"delete cidr": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(m.cidrs, n)
				locked(s, func() { s.deleteCIDR(n) })
			},
			"put node": func(t *rapid.T) {
				m.node = nil
				if rapid.Bool().Draw(t, "there") {
					m.node = node("node-1", name.Draw(t, "zone"))
				}
				locked(s, func() { s.putNode(m.node.DeepCopy()) })
			},
			"replace": func(t *rapid.T) { s.Replace(m.objects()) },
			"list again": func(t *rapid.T) {
				o := m.objects()
				locked(s, func() { s.replaceSlices(o.EndpointSlices) })
				locked(s, func() { s.replaceServices(o.Services) })
			},
			"": func(t *rapid.T) {
				if !same(lastCopy, last) {
					t.Fatalf("inputs changed after they were handed out (-then +now):\n%s", cmp.Diff(lastCopy, last))
				}
				fresh := NewStore()
				fresh.handedOver = s.handedOver
				fresh.Replace(m.objects())
				now := s.Inputs()
				if !same(fresh.Inputs(), now) {
					t.Fatalf("inputs (-fresh +now):\n%s", cmp.Diff(fresh.Inputs(), now))
				}
				checkPointers(t, last, now)
				signalled := false
				select {
				case <-changed:
					signalled = true
				default:
				}
				if differs := !same(last, now); differs && !signalled {
					t.Fatal("a change without a signal")
				}
				last, lastCopy, changed = now, deepCopy(now), s.Changed()
			},
		})
	})
}

// model is what the source holds.
type model struct {
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	cidrs    map[string]*networkingv1.ServiceCIDR
	node     *corev1.Node
}

// objects returns copies of all objects.
func (m *model) objects() Objects {
	o := Objects{Node: m.node.DeepCopy()}
	for _, x := range m.services {
		o.Services = append(o.Services, x.DeepCopy())
	}
	for _, x := range m.slices {
		o.EndpointSlices = append(o.EndpointSlices, x.DeepCopy())
	}
	for _, x := range m.cidrs {
		o.ServiceCIDRs = append(o.ServiceCIDRs, x.DeepCopy())
	}
	return o
}

// same is cmp.Equal, but fast enough for many thousand comparisons; empty is nil.
func same(a, b resolve.Inputs) bool { return equality.Semantic.DeepEqual(a, b) }

func locked(s *Store, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// checkPointers checks that groups of equal value are one pointer.
func checkPointers(t *rapid.T, last, now resolve.Inputs) {
	old := map[proxier.NamespacedName]*resolve.Group{}
	for _, g := range last.Groups {
		old[g.Name] = g
	}
	for _, g := range now.Groups {
		if was := old[g.Name]; was != nil && was.Service != nil && g.Service != nil && was.Service != g.Service && equality.Semantic.DeepEqual(was.Service, g.Service) {
			t.Fatalf("Service %s lost its pointer", g.Name)
		}
	}
}

func deepCopy(in resolve.Inputs) resolve.Inputs {
	out := resolve.Inputs{Node: in.Node.DeepCopy()}
	for _, c := range in.ServiceCIDRs {
		out.ServiceCIDRs = append(out.ServiceCIDRs, c.DeepCopy())
	}
	for _, g := range in.Groups {
		c := &resolve.Group{Name: g.Name, Service: g.Service.DeepCopy()}
		for _, e := range g.Slices {
			c.Slices = append(c.Slices, e.DeepCopy())
		}
		out.Groups = append(out.Groups, c)
	}
	return out
}

// What only other programs read does not make a new state.
func TestStoreIgnoresWhatNobodyReads(t *testing.T) {
	s := NewStore()
	n := node("node-1", "a")
	s.Replace(Objects{Services: []*corev1.Service{svc("a", "10.96.0.1", nil)}, EndpointSlices: []*discoveryv1.EndpointSlice{slice("a-1", "a", nil, "10.244.1.1")}, Node: n})
	before, changed := s.Inputs(), s.Changed()

	service := svc("a", "10.96.0.1", map[string]string{"team": "x"})
	service.ResourceVersion, service.ManagedFields = "99", []metav1.ManagedFieldsEntry{{Manager: "m"}}
	service.Annotations["other"] = "y"
	service.Spec.Selector = map[string]string{"app": "z"}
	service.Status.Conditions = []metav1.Condition{{Type: "Ready"}}
	sl := slice("a-1", "a", map[string]string{"x": "y"}, "10.244.1.1")
	sl.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-08-01T09:12:00Z"}
	beat := node("node-1", "a")
	beat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Reason: "KubeletReady"}}
	locked(s, func() {
		s.putService(service)
		s.putSlice(sl)
		s.putNode(beat)
	})
	select {
	case <-changed:
		t.Error("a change was signalled")
	default:
	}
	if now := s.Inputs(); now.Node != before.Node || !slices.Equal(now.Groups, before.Groups) {
		t.Error("pointers changed")
	}
}

// Readers and writers at once; the race detector watches.
func TestStoreConcurrency(t *testing.T) {
	s := NewStore()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				locked(s, func() {
					s.putService(svc(fmt.Sprintf("s%d", i%7), fmt.Sprintf("10.96.%d.%d", w, i+1), nil))
					s.putSlice(slice(fmt.Sprintf("e%d", i%9), fmt.Sprintf("s%d", i%5), nil, "10.244.1.1"))
				})
				in := s.Inputs()
				if !slices.IsSortedFunc(in.Groups, func(a, b *resolve.Group) int { return a.Name.Compare(b.Name) }) {
					t.Error("groups are not sorted")
				}
				s.Problems()
				s.Progress()
				s.Changed()
			}
		})
	}
	wg.Wait()
}

func BenchmarkInputsAfterOneChange(b *testing.B) {
	s := NewStore()
	var o Objects
	for i := range 10000 {
		o.Services = append(o.Services, svc(fmt.Sprintf("s%05d", i), "10.96.0.1", nil))
	}
	s.Replace(o)
	s.Inputs()
	i := 0
	for b.Loop() {
		i++
		locked(s, func() { s.putService(svc("s05000", fmt.Sprintf("10.96.0.%d", i%200), nil)) })
		s.Inputs()
	}
}

// TestStandIn: a stand-in is a change of its own, which no source takes back.
func TestStandIn(t *testing.T) {
	s := NewStore()
	in := &resolve.StandIn{Port: 53}
	changed := s.Changed()
	s.SetStandIn(in)
	select {
	case <-changed:
	default:
		t.Error("nobody is told")
	}
	changed = s.Changed()
	s.SetStandIn(in)
	select {
	case <-changed:
		t.Error("told of no change")
	default:
	}
	s.Replace(Objects{})
	if got := s.Inputs().StandIn; got != in {
		t.Errorf("%v, want %v", got, in)
	}
}
