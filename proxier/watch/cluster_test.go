package watch

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// An apiServer is a listwatch.Server that can be stopped and started on its address, refuse
// paths, and tells what it was asked.
type apiServer struct {
	*listwatch.Server
	t    *testing.T
	addr string
	stop func()

	mu     sync.Mutex
	refuse map[string]int  // path to HTTP status
	old    bool            // knows no streamed lists
	asked  map[string]bool // path and selectors, and how
}

func newAPIServer(t *testing.T, objects ...runtime.Object) *apiServer {
	t.Helper()
	// An address that no other process has, so that the port is free when the server returns.
	pid := os.Getpid()
	addr := fmt.Sprintf("127.%d.%d.1:0", 1+pid>>8%254, pid%256)
	s := &apiServer{Server: listwatch.New(), t: t, addr: addr, refuse: map[string]int{}, asked: map[string]bool{}}
	set(t, s.Server, objects...)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *apiServer) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	hs := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(l)
	}()
	s.stop = func() {
		s.HangUp()
		_ = hs.Close()
		<-done
	}
}

// ServeHTTP notes what is asked.
func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	s.asked[fmt.Sprintf("%s labels=%q fields=%q stream=%s accept=%s", r.URL.Path, q.Get("labelSelector"), q.Get("fieldSelector"),
		q.Get("sendInitialEvents"), r.Header.Get("Accept"))] = true
	status := s.refuse[r.URL.Path]
	if s.old && q.Has("sendInitialEvents") {
		status = http.StatusUnprocessableEntity
	}
	s.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	s.Server.ServeHTTP(w, r)
}

func (s *apiServer) setRefuse(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[path] = status
}

// serve starts an API server with objects and a Cluster that follows it.
func serve(t *testing.T, o ClusterOptions, objects ...runtime.Object) (*apiServer, *Store) {
	t.Helper()
	server := newAPIServer(t, objects...)
	return server, followCluster(t, "http://"+server.addr, o)
}

func followCluster(t *testing.T, url string, o ClusterOptions) *Store {
	t.Helper()
	client, err := NewClient(ClientOptions{Master: url, QPS: 1000, Burst: 1000})
	if err != nil {
		t.Fatal(err)
	}
	o.NodeName = "node-1"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	store := NewStore()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Cluster(ctx, store, client, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return store
}

func set(t *testing.T, s *listwatch.Server, objects ...runtime.Object) {
	t.Helper()
	if err := s.Set(objects...); err != nil {
		t.Fatal(err)
	}
}

func synced(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Synced():
	case <-time.After(20 * time.Second):
		t.Fatalf("not synced: %+v", s.Progress())
	}
}

func svc(name, ip string, labels map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels,
			Annotations: map[string]string{"fairway.dev/balance": "maglev", "other": "x"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

func slice(name, service string, labels map[string]string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name,
			Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for k, v := range labels {
		s.Labels[k] = v
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: ptr.To("node-1"), Zone: ptr.To("a"),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}})
	}
	return s
}

func node(name, zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
}

// state tells what a store holds, in a line per object.
func state(s *Store) []string {
	in := s.Inputs()
	var out []string
	if in.Node != nil {
		out = append(out, "node "+in.Node.Name+" "+in.Node.Labels[corev1.LabelTopologyZone])
	}
	for _, c := range in.ServiceCIDRs {
		out = append(out, fmt.Sprint("cidr ", c.Name, c.Spec.CIDRs))
	}
	for _, g := range in.Groups {
		ip := "-"
		if g.Service != nil {
			ip = g.Service.Spec.ClusterIP
		}
		line := g.Name.Name + " " + ip
		for _, sl := range g.Slices {
			line += " " + sl.Name + "["
			for _, e := range sl.Endpoints {
				line += e.Addresses[0]
			}
			line += "]"
		}
		out = append(out, line)
	}
	return out
}

func wantLines(t *testing.T, s *Store, want ...string) {
	t.Helper()
	wait.For(t, "what is wrong", "", func() string { return cmp.Diff(want, state(s)) })
}

func TestCluster(t *testing.T) {
	proxied := map[string]string{labelProxyName: "other"}
	headless := map[string]string{corev1.IsHeadlessService: ""}
	objects := []runtime.Object{
		node("node-1", "a"), node("node-2", "b"),
		svc("a", "10.96.0.1", nil), slice("a-1", "a", nil, "10.244.1.1"),
		svc("p", "10.96.0.2", proxied),
		slice("x-1", "x", nil, "10.244.1.4"),
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}},
	}
	server, s := serve(t, ClusterOptions{}, append(objects, slice("h-1", "h", headless, "10.244.1.3"))...)
	synced(t, s)
	wantLines(t, s, "node node-1 a", "cidr kubernetes[10.96.0.0/16]", "a 10.96.0.1 a-1[10.244.1.1]", "x - x-1[10.244.1.4]")
	a := s.Inputs().Groups[0].Service
	if diff := cmp.Diff(map[string]string{"fairway.dev/balance": "maglev"}, a.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if a.Spec.Selector != nil || a.ResourceVersion != "" {
		t.Errorf("not trimmed: %v", a)
	}

	set(t, server.Server, svc("b", "10.96.0.3", nil), slice("a-1", "a", nil, "10.244.1.9"), slice("a-2", "a", nil, "10.244.1.2"), node("node-1", "c"))
	wantLines(t, s, "node node-1 c", "cidr kubernetes[10.96.0.0/16]", "a 10.96.0.1 a-1[10.244.1.9] a-2[10.244.1.2]", "b 10.96.0.3", "x - x-1[10.244.1.4]")

	// The label takes a Service away from us, the slice moves, the node goes.
	set(t, server.Server, svc("b", "10.96.0.3", proxied), slice("a-2", "x", nil, "10.244.1.2"))
	if err := server.Delete(node("node-1", ""), svc("a", "", nil), slice("a-1", "a", nil)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, s, "cidr kubernetes[10.96.0.0/16]", "x - a-2[10.244.1.2] x-1[10.244.1.4]")
	if d := s.Staleness(); d != 0 {
		t.Errorf("staleness %v while in contact", d)
	}

	// What a name server needs, and what another proxy does.
	_, dns := serve(t, ClusterOptions{ForDNS: true},
		append(objects, svc("h", "None", headless), slice("h-1", "h", headless, "10.244.1.3"))...)
	synced(t, dns)
	wantLines(t, dns, "node node-1 a", "cidr kubernetes[10.96.0.0/16]", "a 10.96.0.1 a-1[10.244.1.1]", "h None h-1[10.244.1.3]", "p 10.96.0.2", "x - x-1[10.244.1.4]")
	_, other := serve(t, ClusterOptions{ServiceProxyName: "other"}, objects...)
	synced(t, other)
	if g := other.Inputs().Groups; len(g) != 3 || g[1].Name.Name != "p" {
		t.Errorf("groups of another proxy: %v", state(other))
	}
}

// Each resource is asked for once, as a stream in protobuf, with the selectors of kube-proxy.
func TestClusterAsks(t *testing.T) {
	server, s := serve(t, ClusterOptions{})
	synced(t, s)
	const pb = " accept=application/vnd.kubernetes.protobuf,application/json"
	want := map[string]bool{
		`/api/v1/services labels="!service.kubernetes.io/service-proxy-name" fields="spec.clusterIP!=None" stream=true` + pb: true,
		`/apis/discovery.k8s.io/v1/endpointslices labels="!service.kubernetes.io/headless" fields="" stream=true` + pb:       true,
		`/api/v1/nodes labels="" fields="metadata.name=node-1" stream=true` + pb:                                             true,
		`/apis/networking.k8s.io/v1/servicecidrs labels="" fields="" stream=` + pb:                                           true,
		`/apis/networking.k8s.io/v1/servicecidrs labels="" fields="" stream=true` + pb:                                       true,
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if diff := cmp.Diff(want, server.asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// Nothing counts before every list is complete; ServiceCIDRs may be missing.
func TestClusterWaitsForEveryList(t *testing.T) {
	const slices, cidrs = "/apis/discovery.k8s.io/v1/endpointslices", "/apis/networking.k8s.io/v1/servicecidrs"
	server := newAPIServer(t, node("node-1", "a"), svc("a", "10.96.0.1", nil), slice("a-1", "a", nil, "10.244.1.1"))
	server.setRefuse(slices, http.StatusServiceUnavailable)
	server.setRefuse(cidrs, http.StatusNotFound)
	s := followCluster(t, "http://"+server.addr, ClusterOptions{})
	wait.For(t, "what is wrong", "", func() string { return cmp.Diff(Progress{Services: 1, Waiting: []string{listSlices}}, s.Progress()) })
	select {
	case <-s.Synced():
		t.Fatal("synced without EndpointSlices")
	default:
	}
	server.setRefuse(slices, 0)
	synced(t, s)
	wantLines(t, s, "node node-1 a", "a 10.96.0.1 a-1[10.244.1.1]")
	wait.For(t, "what is wrong", "", func() string {
		if d := s.Staleness(); d != 0 {
			return "stale for " + d.String()
		}
		return ""
	})
}

// Without its Node object a node still gets its state.
func TestClusterWithoutNode(t *testing.T) {
	server, s := serve(t, ClusterOptions{}, node("node-2", "b"), svc("a", "10.96.0.1", nil))
	synced(t, s)
	wantLines(t, s, "a 10.96.0.1")
	set(t, server.Server, node("node-1", "a"))
	wantLines(t, s, "node node-1 a", "a 10.96.0.1")
}

// The API server goes away: the state stays and grows stale; it returns: changes apply.
func TestClusterOutage(t *testing.T) {
	server, s := serve(t, ClusterOptions{}, node("node-1", "a"), svc("a", "10.96.0.1", nil), slice("a-1", "a", nil, "10.244.1.1"))
	synced(t, s)
	before := s.Inputs()
	server.stop()
	wait.For(t, "what is wrong", "", func() string {
		if d := s.Staleness(); d < 50*time.Millisecond {
			return "staleness " + d.String()
		}
		return ""
	})
	set(t, server.Server, slice("a-1", "a", nil, "10.244.1.7"))
	if diff := cmp.Diff([]string{"node node-1 a", "a 10.96.0.1 a-1[10.244.1.1]"}, state(s)); diff != "" {
		t.Errorf("state during the outage (-want +got):\n%s", diff)
	}
	server.start()
	wantLines(t, s, "node node-1 a", "a 10.96.0.1 a-1[10.244.1.7]")
	wait.For(t, "what is wrong", "", func() string {
		if d := s.Staleness(); d != 0 {
			return "still stale for " + d.String()
		}
		return ""
	})
	if s.Inputs().Groups[0].Service != before.Groups[0].Service {
		t.Error("an unchanged Service lost its pointer")
	}
}

// A server that lost its history makes clients list again: unchanged objects keep their pointers.
func TestClusterRelist(t *testing.T) {
	server, s := serve(t, ClusterOptions{}, node("node-1", "a"), svc("a", "10.96.0.1", nil), svc("b", "10.96.0.2", nil))
	synced(t, s)
	before := s.Inputs()
	server.stop()
	server.Server = listwatch.New()
	set(t, server.Server, node("node-1", "a"), svc("a", "10.96.0.1", nil), svc("c", "10.96.0.3", nil))
	server.start()
	wantLines(t, s, "node node-1 a", "a 10.96.0.1", "c 10.96.0.3")
	now := s.Inputs()
	if now.Groups[0] != before.Groups[0] || now.Node != before.Node {
		t.Error("an unchanged object lost its pointer")
	}
}

// An API server from before streamed lists is listed.
func TestClusterOldServer(t *testing.T) {
	server := newAPIServer(t, node("node-1", "a"), svc("a", "10.96.0.1", nil), slice("a-1", "a", nil, "10.244.1.1"))
	server.old = true
	s := followCluster(t, "http://"+server.addr, ClusterOptions{})
	synced(t, s)
	wantLines(t, s, "node node-1 a", "a 10.96.0.1 a-1[10.244.1.1]")
	if p := s.Progress(); p.Services != 1 || p.EndpointSlices != 1 || len(p.Waiting) != 0 {
		t.Errorf("progress %+v", p)
	}
	if s.Inputs().Groups[0].Service.Spec.Selector != nil {
		t.Error("not trimmed")
	}
	set(t, server.Server, svc("b", "10.96.0.2", nil))
	wantLines(t, s, "node node-1 a", "a 10.96.0.1 a-1[10.244.1.1]", "b 10.96.0.2")
}

// After random changes, with watches cut at random, the store holds what a new one is given.
func TestClusterChurn(t *testing.T) {
	server, s := serve(t, ClusterOptions{}, node("node-1", "a"))
	synced(t, s)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 500 {
		service, name := fmt.Sprintf("s%d", rnd.IntN(8)), fmt.Sprintf("e%d", rnd.IntN(12))
		var err error
		switch rnd.IntN(12) {
		case 0:
			server.HangUp()
		case 1, 2:
			err = server.Delete(svc(service, "", nil))
		case 3, 4:
			err = server.Delete(slice(name, "", nil))
		case 5, 6, 7:
			err = server.Set(svc(service, fmt.Sprintf("10.96.0.%d", 1+rnd.IntN(250)), nil))
		case 8:
			err = server.Set(svc(service, "10.96.0.1", map[string]string{labelProxyName: "other"}))
		default:
			err = server.Set(slice(name, service, nil, fmt.Sprintf("10.244.1.%d", 1+rnd.IntN(250))))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fresh := followCluster(t, "http://"+server.addr, ClusterOptions{})
	synced(t, fresh)
	wantLines(t, s, state(fresh)...)
	if len(state(fresh)) < 3 {
		t.Errorf("the churn left nothing to compare: %v", state(fresh))
	}
}

func TestNewClient(t *testing.T) {
	server := newAPIServer(t, svc("a", "10.96.0.1", nil))
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, listwatch.Kubeconfig("http://"+server.addr), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, listwatch.Kubeconfig("http://127.0.0.1:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []ClientOptions{{Kubeconfig: path}, {Master: "http://" + server.addr},
		{Kubeconfig: elsewhere, Master: "http://" + server.addr}, {Kubeconfig: path, ContentType: "application/json"}} {
		client, err := NewClient(o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		var list corev1.ServiceList
		if err := client.core.Get().Resource("services").Do(t.Context()).Into(&list); err != nil || len(list.Items) != 1 {
			t.Errorf("%+v: %d services, %v", o, len(list.Items), err)
		}
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for o, want := range map[ClientOptions]string{
		{}:                              "not in a pod, so name one with --kubeconfig",
		{Kubeconfig: "/does/not/exist"}: "/does/not/exist",
		{Master: "http://%zz"}:          "invalid URL escape",
	} {
		if _, err := NewClient(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", o, err, want)
		}
	}
}
