package resolve

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// largeCluster returns n Services, every tenth with a node port, with k endpoints each.
func largeCluster(t testing.TB, n, k int) Inputs {
	in := mustInputs(t, nodeYAML, cidrsYAML)
	for i := range n {
		g := &Group{Name: proxier.NamespacedName{Namespace: "ns-" + strconv.Itoa(i/100), Name: fmt.Sprintf("svc-%05d", i)}}
		ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: g.Name.Namespace, Name: g.Name.Name}}
		s.Spec = corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{"IPv4"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}
		if i%10 == 0 {
			s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(20000+i/10)
		}
		g.Service = s
		g.Slices = []*discoveryv1.EndpointSlice{largeSlice(g.Name, i, k)}
		in.Groups = append(in.Groups, g)
	}
	sortGroups(in.Groups)
	return in
}

func largeSlice(n proxier.NamespacedName, i, k int) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name + "-1"}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}}}
	for j := range k {
		x := (i*k + j) % (200 * 250)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.244.%d.%d", x/250, x%250+1)}, NodeName: new("node-" + strconv.Itoa(x%20)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: n.Namespace, Name: fmt.Sprintf("%s-%d", n.Name, j)}})
	}
	return slice
}

// changeOne returns in with one endpoint of the i-th group ready or not.
func changeOne(in Inputs, i int, ready bool) Inputs {
	g := *in.Groups[i]
	slice := g.Slices[0].DeepCopy()
	slice.Endpoints[0].Conditions.Ready = &ready
	g.Slices = []*discoveryv1.EndpointSlice{slice}
	in.Groups = append([]*Group(nil), in.Groups...)
	in.Groups[i] = &g
	return in
}

// BenchmarkResolve measures at 10,000 Services with 5 endpoints each. Expected on an otherwise
// idle core of a small server: full within 200 ms, one change within 1 ms, nothing within 100 µs.
func BenchmarkResolve(b *testing.B) {
	in := largeCluster(b, 10000, 5)
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			New(defaults()).Resolve(in)
		}
	})
	b.Run("one endpoint", func(b *testing.B) {
		variants := [2]Inputs{changeOne(in, 5000, false), changeOne(in, 5000, true)}
		r := New(defaults())
		r.Resolve(in)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Resolve(variants[i%2])
		}
	})
	b.Run("one Service", func(b *testing.B) { // comes, and goes
		without := in
		without.Groups = slices.Delete(slices.Clone(in.Groups), 5000, 5001)
		variants := [2]Inputs{without, in}
		r := New(defaults())
		r.Resolve(in)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Resolve(variants[i%2])
		}
	})
	b.Run("nothing", func(b *testing.B) {
		r := New(defaults())
		r.Resolve(in)
		b.ReportAllocs()
		for b.Loop() {
			r.Resolve(in)
		}
	})
	b.Run("heartbeat", func(b *testing.B) {
		variants := [2]Inputs{in, in}
		variants[1].Node = in.Node.DeepCopy()
		variants[1].Node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
		r := New(defaults())
		r.Resolve(in)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Resolve(variants[i%2])
		}
	})
}

// TestChangeIsCheap bounds the work of small changes in a large cluster, in allocations, because
// those do not depend on the machine.
func TestChangeIsCheap(t *testing.T) {
	in := largeCluster(t, 2000, 5)
	r := New(defaults())
	first := r.Resolve(in)
	variants := [2]Inputs{changeOne(in, 1000, false), changeOne(in, 1000, true)}
	changed := 0
	for range proxier.Diff(first, r.Resolve(variants[0])) {
		changed++
	}
	if want := len(in.Groups[1000].Service.Spec.Ports); changed != want && changed != 2*want {
		t.Errorf("one endpoint changed %d frontends", changed)
	}
	i := 0
	if n := testing.AllocsPerRun(10, func() { i++; r.Resolve(variants[i%2]) }); n > 100 {
		t.Errorf("one endpoint costs %v allocations", n)
	}
	last := r.Resolve(variants[1])
	if n := testing.AllocsPerRun(10, func() {
		if r.Resolve(variants[1]) != last {
			t.Error("the same inputs made a new snapshot")
		}
	}); n > 10 {
		t.Errorf("nothing costs %v allocations", n)
	}
	heartbeat := variants[1]
	heartbeat.Node = in.Node.DeepCopy()
	heartbeat.Node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	pair := [2]Inputs{heartbeat, variants[1]}
	if n := testing.AllocsPerRun(10, func() {
		i++
		if r.Resolve(pair[i%2]) != last {
			t.Error("a heartbeat made a new snapshot")
		}
	}); n > 200 {
		t.Errorf("a heartbeat costs %v allocations", n)
	}
}

func TestBigService(t *testing.T) {
	in := mustInputs(t, nodeYAML, cidrsYAML)
	n := proxier.NamespacedName{Namespace: "ns", Name: "big"}
	g := &Group{Name: n, Service: &corev1.Service{}}
	g.Service.Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}
	for i := range 100 {
		s := largeSlice(n, i, 100)
		s.Name = fmt.Sprintf("big-%03d", i)
		g.Slices = append(g.Slices, s)
	}
	in.Groups = []*Group{g}
	s := mustResolve(t, defaults(), in)
	if n := len(s.Frontends[0].From[0].Pool.Endpoints); n != 10000 || len(s.Problems) > 0 {
		t.Errorf("got %d endpoints and problems %v", n, s.Problems)
	}
}
