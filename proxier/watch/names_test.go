package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/wait"
)

var _ names.Source = &Names{}

func newNames(t testing.TB, o NamesOptions) *Names {
	t.Helper()
	n, err := NewNames(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nameLines tells what a Names holds, in a line per object.
func nameLines(n *Names) []string {
	in := n.Inputs()
	var out []string
	for _, ns := range in.Namespaces {
		out = append(out, "namespace "+ns)
	}
	for _, list := range []names.List[*names.Service]{in.Services, in.Imports} {
		for s := range list.All() {
			line := fmt.Sprintf("%s %d%v", s.Name, s.Kind, s.IPs)
			for _, sl := range s.Slices {
				line += " " + sl.Name + sl.Cluster + "["
				for i := range sl.Len() {
					line += sl.Addr(i).String()
				}
				line += "]"
			}
			out = append(out, line)
		}
	}
	for p := range in.Pods.All() {
		out = append(out, fmt.Sprint("pod ", p.NamespacedName, " ", p.IP))
	}
	return out
}

func servicesOf(in names.Inputs) []*names.Service { return slices.Collect(in.Services.All()) }

func wantNames(t *testing.T, n *Names, want ...string) {
	t.Helper()
	wait.For(t, "what is wrong", "", func() string { return cmp.Diff(want, nameLines(n)) })
}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func pod(name, ip string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: corev1.PodStatus{Phase: phase, PodIP: ip}}
}

// followNames starts ClusterNames.
func followNames(t *testing.T, n *Names, url string, store *Store) {
	t.Helper()
	client, err := NewClient(ClientOptions{Master: url, QPS: 1000, Burst: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- ClusterNames(ctx, n, client, store, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func syncedNames(t *testing.T, n *Names) {
	t.Helper()
	select {
	case <-n.Synced():
	case <-time.After(20 * time.Second):
		t.Fatalf("not synced: waiting for %v", n.Waiting())
	}
}

// Names follows an API server, and asks for no more than the role of CoreDNS allows.
func TestClusterNames(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old=%v", old), func(t *testing.T) {
			server := newAPIServer(t, namespace("default", nil), svc("a", "10.96.0.1", nil), svc("h", "None", nil),
				slice("a-1", "a", nil, "10.244.1.1", "10.244.1.2"), slice("orphan", "gone", nil, "10.244.9.9"),
				pod("p", "10.244.1.1", corev1.PodRunning), pod("q", "10.244.1.9", corev1.PodFailed))
			server.old = old
			n := newNames(t, NamesOptions{Pods: true})
			if n.Inputs().Synced {
				t.Error("synced before it began")
			}
			followNames(t, n, "http://"+server.addr, nil)
			syncedNames(t, n)
			if !n.Inputs().Synced {
				t.Error("not synced after Synced")
			}
			wantNames(t, n, "namespace default", "a 1[10.96.0.1] a-1[10.244.1.110.244.1.2]", "gone 0[] orphan[10.244.9.9]", "h 2[]", "pod default/p 10.244.1.1")

			before := n.Inputs()
			set(t, server.Server, svc("h", "None", nil), slice("h-1", "h", nil, "10.244.1.3"), namespace("other", nil))
			wantNames(t, n, "namespace default", "namespace other", "a 1[10.96.0.1] a-1[10.244.1.110.244.1.2]",
				"gone 0[] orphan[10.244.9.9]", "h 2[] h-1[10.244.1.3]", "pod default/p 10.244.1.1")
			if was, is := servicesOf(before), servicesOf(n.Inputs()); is[0] != was[0] || is[2] == was[2] || was[2].Slices != nil {
				t.Error("pointers do not tell what changed")
			}
			if err := server.Delete(svc("a", "", nil), slice("orphan", "", nil), namespace("other", nil), pod("p", "", "")); err != nil {
				t.Fatal(err)
			}
			wantNames(t, n, "namespace default", "a 0[] a-1[10.244.1.110.244.1.2]", "h 2[] h-1[10.244.1.3]")

			server.mu.Lock()
			defer server.mu.Unlock()
			for asked := range server.asked {
				path, _, _ := strings.Cut(asked, " ")
				switch path {
				case "/api/v1/services", "/api/v1/namespaces", "/api/v1/pods", "/apis/discovery.k8s.io/v1/endpointslices":
				default:
					t.Errorf("asked for %s", asked)
				}
			}
		})
	}
}

// The API server selects by labels and, of pods, by node.
func TestClusterNamesSelectors(t *testing.T) {
	mine := map[string]string{"dns": "yes"}
	here := pod("here", "10.244.1.1", corev1.PodRunning)
	here.Labels, here.Spec.NodeName = mine, "node-1"
	there := pod("there", "10.244.2.1", corev1.PodRunning)
	there.Labels, there.Spec.NodeName = mine, "node-2"
	server := newAPIServer(t, namespace("default", mine), namespace("kube-system", nil), svc("a", "10.96.0.1", mine), svc("b", "10.96.0.2", nil),
		slice("a-1", "a", mine, "10.244.1.1"), slice("b-1", "b", nil, "10.244.1.2"), here, there)
	n := newNames(t, NamesOptions{Pods: true, NodeName: "node-1", Labels: "dns=yes", NamespaceLabels: "dns=yes"})
	followNames(t, n, "http://"+server.addr, nil)
	syncedNames(t, n)
	wantNames(t, n, "namespace default", "a 1[10.96.0.1] a-1[10.244.1.1]", "pod default/here 10.244.1.1")
	for _, bad := range []NamesOptions{{Labels: "a=b=c"}, {NamespaceLabels: "!"}} {
		if _, err := NewNames(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// In the proxy's own process the Services are those of its Store.
func TestNamesOfStore(t *testing.T) {
	server, store := serve(t, ClusterOptions{ForDNS: true}, namespace("default", nil), node("node-1", "a"),
		svc("a", "10.96.0.1", nil), svc("h", "None", nil), slice("a-1", "a", nil, "10.244.1.1"), slice("a-2", "a", nil, "10.244.1.2"))
	n := newNames(t, NamesOptions{})
	followNames(t, n, "http://"+server.addr, store)
	syncedNames(t, n)
	wantNames(t, n, "namespace default", "a 1[10.96.0.1] a-1[10.244.1.1] a-2[10.244.1.2]", "h 2[]")
	before := servicesOf(n.Inputs())[0].Slices
	set(t, server.Server, slice("a-2", "a", nil, "10.244.1.3"), slice("z-1", "z", nil, "10.244.1.4"))
	wantNames(t, n, "namespace default", "a 1[10.96.0.1] a-1[10.244.1.1] a-2[10.244.1.3]", "h 2[]", "z 0[] z-1[10.244.1.4]")
	if after := servicesOf(n.Inputs())[0].Slices; after[0] != before[0] || after[1] == before[1] {
		t.Error("slices do not keep their pointers")
	}
	if err := server.Delete(svc("h", "", nil), slice("z-1", "", nil)); err != nil {
		t.Fatal(err)
	}
	wantNames(t, n, "namespace default", "a 1[10.96.0.1] a-1[10.244.1.1] a-2[10.244.1.3]")

	client, err := NewClient(ClientOptions{Master: "http://" + server.addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := ClusterNames(t.Context(), newNames(t, NamesOptions{Labels: "a=b"}), client, store, nil); err == nil {
		t.Error("a selector was taken that cannot be honoured")
	}
}

// ServiceImports come in JSON, as custom resources do.
func TestClusterNamesImports(t *testing.T) {
	base := newAPIServer(t, namespace("default", nil))
	imported := slice("c1", "", map[string]string{names.LabelImport: "m", names.LabelCluster: "c1"}, "10.10.0.1")
	delete(imported.Labels, discoveryv1.LabelServiceName)
	set(t, base.Server, imported)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports" {
			base.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Has("sendInitialEvents"):
			w.WriteHeader(http.StatusUnprocessableEntity)
		case r.URL.Query().Has("watch"):
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprint(w, `{"apiVersion":"multicluster.x-k8s.io/v1alpha1","kind":"ServiceImportList","metadata":{"resourceVersion":"7"},
				"items":[{"metadata":{"name":"m","namespace":"default"},"spec":{"type":"Headless","ports":[{"port":80}]}},
				{"metadata":{"name":"v","namespace":"default"},"spec":{"type":"ClusterSetIP","ips":["10.96.9.1"],"ports":[{"port":80}]}}]}`)
		}
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	n := newNames(t, NamesOptions{Imports: true})
	followNames(t, n, server.URL, nil)
	syncedNames(t, n)
	wantNames(t, n, "namespace default", "m 2[] c1c1[10.10.0.1]", "v 1[10.96.9.1]")
}

// A folder of manifests serves names too: namespaces are those of its objects.
func TestManifestsNames(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", `
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: prod}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: empty, labels: {dns: "no"}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: dev}, spec: {containers: []}, status: {podIP: 10.244.1.1}}
---
{apiVersion: multicluster.x-k8s.io/v1alpha1, kind: ServiceImport, metadata: {name: m, namespace: prod}, spec: {type: ClusterSetIP, ips: [10.96.9.1]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, what: ever}
`)
	all, some := newNames(t, NamesOptions{Pods: true, Imports: true}), newNames(t, NamesOptions{NamespaceLabels: "dns!=no"})
	store := NewStore()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Manifests(ctx, Both(all, some, store), ManifestOptions{Dir: dir, Names: true, Rescan: 50 * time.Millisecond, Settle: time.Millisecond})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	syncedNames(t, all)
	wantNames(t, all, "namespace dev", "namespace empty", "namespace prod", "a 1[10.96.0.1]", "m 1[10.96.9.1]", "pod dev/p 10.244.1.1")
	wantNames(t, some, "namespace prod", "a 1[10.96.0.1]")
	write("b.yaml", `
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-1, namespace: prod, labels: {kubernetes.io/service-name: a}},
 addressType: IPv4, endpoints: [{addresses: [10.244.1.1]}], ports: [{port: 8080}]}
`)
	wantNames(t, some, "namespace prod", "a 1[10.96.0.1] a-1[10.244.1.1]")
	wait.For(t, "EndpointSlices of the proxy's store, which is told last", 1, func() int { return store.Progress().EndpointSlices })
}

// Whatever order objects come, change and go in, Names holds what a fresh one given the final
// objects holds; what did not change keeps its pointer; what was handed out never changes.
func TestNamesHistoryDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, err := NewNames(NamesOptions{Pods: true, Imports: true})
		if err != nil {
			t.Fatal(err)
		}
		objects := map[string]runtime.Object{}
		n.Replace(Objects{})
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		last, lastText := n.Inputs(), dump(n.Inputs())
		t.Repeat(map[string]func(*rapid.T){
			"service": func(t *rapid.T) {
				o := svc(name.Draw(t, "name"), rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2", "None"}).Draw(t, "ip"), nil)
				if rapid.Bool().Draw(t, "delete") {
					delete(objects, "s"+o.Name)
					lockedNames(n, func() { n.deleteService(&n.services, names.OfService(o).NamespacedName) })
					return
				}
				objects["s"+o.Name] = o
				lockedNames(n, func() { n.putService(&n.services, names.OfService(o)) })
			},
			"slice": func(t *rapid.T) {
				o := slice("e-"+name.Draw(t, "slice"), rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "service"), nil,
					fmt.Sprintf("10.244.1.%d", rapid.IntRange(1, 3).Draw(t, "ip")))
				if rapid.Bool().Draw(t, "imported") {
					o.Labels[names.LabelImport] = "m"
				}
				if rapid.Bool().Draw(t, "delete") {
					delete(objects, "e"+o.Name)
					lockedNames(n, func() { n.deleteSlice(nameOf(o)) })
					return
				}
				objects["e"+o.Name] = o
				lockedNames(n, func() { n.putSlice(n.namedSlice(o)) })
			},
			"pod": func(t *rapid.T) {
				o := pod(name.Draw(t, "pod"), rapid.SampledFrom([]string{"10.244.1.1", "10.244.1.2", ""}).Draw(t, "ip"), corev1.PodRunning)
				objects["p"+o.Name] = o
				lockedNames(n, func() { n.putPod(toNamedPod(o)) })
			},
			"": func(t *rapid.T) {
				if text := dump(last); text != lastText {
					t.Fatalf("what was handed out changed:\n%s", cmp.Diff(lastText, text))
				}
				fresh, err := NewNames(n.options)
				if err != nil {
					t.Fatal(err)
				}
				fresh.Replace(objectsOf(objects))
				now, want := n.Inputs(), fresh.Inputs()
				want.Namespaces = now.Namespaces // none are set one by one here
				if diff := cmp.Diff(dump(want), dump(now)); diff != "" {
					t.Fatal(diff)
				}
				checkServices(t, servicesOf(last), servicesOf(now))
				last, lastText = now, dump(now)
			},
		})
	})
}

func lockedNames(n *Names, f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

var pointers = regexp.MustCompile(`0x[0-9a-f]+`)

// dump writes inputs with everything in them.
func dump(in names.Inputs) string {
	var b strings.Builder
	for _, s := range slices.AppendSeq(slices.Collect(in.Services.All()), in.Imports.All()) {
		fmt.Fprintf(&b, "%+v\n", *s)
		for _, sl := range s.Slices {
			fmt.Fprintf(&b, "  %+v\n", *sl)
		}
	}
	for p := range in.Pods.All() {
		fmt.Fprintf(&b, "%+v\n", *p)
	}
	return pointers.ReplaceAllString(b.String(), "P")
}

func objectsOf(all map[string]runtime.Object) (o Objects) {
	for _, x := range all {
		switch x := x.(type) {
		case *corev1.Service:
			o.Services = append(o.Services, x)
		case *discoveryv1.EndpointSlice:
			o.EndpointSlices = append(o.EndpointSlices, x)
		case *corev1.Pod:
			o.Pods = append(o.Pods, x)
		}
	}
	return o
}

// checkServices checks that Services of equal value are one pointer.
func checkServices(t *rapid.T, last, now []*names.Service) {
	old := map[proxier.NamespacedName]*names.Service{}
	for _, s := range last {
		old[s.NamespacedName] = s
	}
	for _, s := range now {
		was := old[s.NamespacedName]
		if was != nil && was != s && was.Equal(s) && slices.Equal(was.Slices, s.Slices) {
			t.Fatalf("%s lost its pointer", s.Name)
		}
	}
}

// BenchmarkNamesOfStore is the way of one changed EndpointSlice, of a Service that has 100 of them
// among 10,000 Services.
func BenchmarkNamesOfStore(b *testing.B) {
	n := newNames(b, NamesOptions{})
	var groups []*resolve.Group
	for i := range 10_000 {
		s := svc(fmt.Sprintf("s%05d", i), "10.96.0.1", nil)
		groups = append(groups, &resolve.Group{Name: nameOf(s), Service: s})
	}
	var addresses []string
	for i := range 100 {
		addresses = append(addresses, fmt.Sprint("10.244.1.", i))
	}
	const at = 5000
	turns := [2][]*resolve.Group{groups, slices.Clone(groups)}
	for i := range turns {
		large := *groups[at]
		for j := range 100 {
			large.Slices = append(large.Slices, slice(fmt.Sprintf("e%02d", j), large.Name.Name, nil, addresses...))
		}
		turns[i][at] = &large
	}
	one := turns[1][at]
	one.Slices = slices.Clone(turns[0][at].Slices)
	one.Slices[50] = slice(one.Slices[50].Name, one.Name.Name, nil, "10.244.2.1")
	eachChange(nil, turns[0], n.putGroup)
	b.ReportAllocs()
	for b.Loop() {
		eachChange(turns[0], turns[1], n.putGroup)
		turns[0], turns[1] = turns[1], turns[0]
	}
}
