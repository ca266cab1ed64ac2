package names

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
)

type value struct{ place, number int }

func (v *value) Order(o *value) int { return v.place - o.place }

// A List is what a map and a sort make of the same changes; old ones stay as they were; and Diff
// tells exactly what changed.
func TestList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[int]*value{}
		for i := range rapid.IntRange(0, 600).Draw(t, "n") {
			want[3*i] = &value{3 * i, 0}
		}
		sorted := func() []*value {
			return slices.SortedFunc(maps.Values(want), (*value).Order)
		}
		l := ListOf(sorted()...)
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			before, old := maps.Clone(want), l
			oldValues := slices.Collect(l.All())
			for range rapid.SampledFrom([]int{0, 1, 2, 300}).Draw(t, "changes") {
				x := &value{rapid.IntRange(0, 2000).Draw(t, "place"), 1}
				if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
					delete(want, x.place)
					l = l.Delete(x)
				} else {
					want[x.place] = x
					l = l.Put(x)
				}
			}
			if got := slices.Collect(l.All()); !slices.Equal(got, sorted()) || l.Len() != len(want) {
				t.Fatalf("%d values, want %d", l.Len(), len(want))
			}
			for place := -1; place <= 2001; place++ {
				if x, there := l.Get(&value{place: place}); x != want[place] || there != (x != nil) {
					t.Fatalf("place %d has %v, %v, want %v", place, x, there, want[place])
				}
			}
			if !slices.Equal(slices.Collect(old.All()), oldValues) {
				t.Fatal("an old list changed")
			}
			for _, c := range l.chunks {
				if len(c) == 0 || len(c) > chunk {
					t.Fatalf("a part of %d", len(c))
				}
			}
			Diff(old, l, func(was, is *value) {
				place := -1
				for _, v := range []*value{was, is} {
					if v != nil {
						place = v.place
					}
				}
				if was == is || before[place] != was || want[place] != is {
					t.Fatalf("diff tells of %v, which is now %v", was, is)
				}
				if is == nil {
					delete(before, place)
				} else {
					before[place] = is
				}
			})
			if !maps.Equal(before, want) {
				t.Fatal("diff leaves something out")
			}
		}
	})
}

func TestOfService(t *testing.T) {
	service := func(spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "A"}, Spec: spec}
	}
	name := proxier.NamespacedName{Namespace: "ns", Name: "a"}
	http := []corev1.ServicePort{{Name: "HTTP", Port: 80, Protocol: corev1.ProtocolTCP}, {Port: 81, Protocol: "Other"}}
	ports := []Port{{"http", "tcp", 80}, {"", "other", 81}}
	tests := []struct {
		in   corev1.ServiceSpec
		want *Service
	}{
		{corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: http}, &Service{NamespacedName: name, Kind: ClusterIP, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: ports}},
		{corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1", "nonsense", "fd00::1"}}, &Service{NamespacedName: name, Kind: ClusterIP,
			IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")}}},
		{corev1.ServiceSpec{ClusterIP: "None"}, &Service{NamespacedName: name, Kind: Headless}},
		{corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ClusterIP: "None", ExternalName: "Example.org"}, &Service{NamespacedName: name, Kind: ExternalName, External: "Example.org"}},
		{corev1.ServiceSpec{}, &Service{NamespacedName: name, Kind: ClusterIP, IPs: nil}},
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	for _, tc := range tests {
		got := OfService(service(tc.in))
		if len(got.IPs) == 0 {
			got.IPs = nil
		}
		if diff := cmp.Diff(tc.want, got, same); diff != "" {
			t.Errorf("%+v: %s", tc.in, diff)
		}
	}
}

func TestOfSlice(t *testing.T) {
	in := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{LabelCluster: "C1"},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "1970-01-01T00:00:01.5Z"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1", "10.0.0.2"}, Hostname: ptr.To("Web-0"), Zone: ptr.To("East"), TargetRef: &corev1.ObjectReference{Name: "p"}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true)}},
			{Addresses: []string{"fd00::1", "x"}},
			{Addresses: []string{"10.0.0.4"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, TargetRef: &corev1.ObjectReference{Name: "p.q"}},
		},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolUDP)}, {Port: ptr.To(int32(7))}},
	}
	got := OfSlice(in, Keep{Pods: true, Zones: true})
	var addrs []string
	for i := range got.Len() {
		addrs = append(addrs, got.Addr(i).String())
	}
	if want := []string{"10.0.0.1", "10.0.0.2", "10.0.0.4"}; !slices.Equal(addrs, want) {
		t.Errorf("addresses %v, want %v", addrs, want)
	}
	for _, tc := range [][2][]string{
		{got.Hosts[:3], {"web-0", "web-0", ""}}, {got.Pods[:3], {"p", "p", ""}}, {got.Zones[:3], {"east", "east", ""}},
	} {
		if !slices.Equal(tc[0], tc[1]) {
			t.Errorf("%q, want %q", tc[0], tc[1])
		}
	}
	if want := []Port{{"http", "udp", NoPort}, {"", "", 7}}; !slices.Equal(got.Ports, want) {
		t.Errorf("ports %v, want %v", got.Ports, want)
	}
	if got.Cluster != "c1" || got.Trigger != 1.5e9 {
		t.Errorf("cluster %q, trigger %d", got.Cluster, got.Trigger)
	}
	bare := OfSlice(in, Keep{})
	if bare.Pods != nil || bare.Zones != nil {
		t.Error("more is kept than was asked for")
	}
	other := OfSlice(in, Keep{})
	other.Trigger = 5
	if !bare.Equal(other) || bare.Equal(got) {
		t.Error("the time of a change counts, or names of pods do not")
	}
}

func TestOfPod(t *testing.T) {
	pod := func(ip string, phase corev1.PodPhase, deleted *metav1.Time) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", DeletionTimestamp: deleted}, Status: corev1.PodStatus{PodIP: ip, Phase: phase}}
	}
	if p := OfPod(pod("10.0.0.1", corev1.PodRunning, nil)); p == nil || p.IP != netip.MustParseAddr("10.0.0.1") || p.Namespace != "ns" {
		t.Errorf("%v", p)
	}
	for _, p := range []*corev1.Pod{pod("", corev1.PodPending, nil), pod("10.0.0.1", corev1.PodSucceeded, nil), pod("10.0.0.1", corev1.PodRunning, &metav1.Time{})} {
		if OfPod(p) != nil {
			t.Errorf("%v has a name", p.Status)
		}
	}
}
