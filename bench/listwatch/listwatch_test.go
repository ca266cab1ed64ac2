package listwatch_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientfeatures "k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/proxier/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func service(name string, labels ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	for _, l := range labels {
		metav1.SetMetaDataLabel(&svc.ObjectMeta, l, "x")
	}
	svc.Spec.ClusterIP = "10.96.0.1"
	return svc
}

func serve(t *testing.T, contentType string) (*listwatch.Server, *kubernetes.Clientset) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := listwatch.New()
	url, stop := s.Start(l)
	t.Cleanup(stop)
	cfg := listwatch.Config(url)
	cfg.ContentType, cfg.AcceptContentTypes = contentType, contentType
	transport := &http.Transport{}
	cfg.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An informer sees the objects it selects, and every change, over both formats and both ways to
// list, also after the server ended its watches.
func TestInformer(t *testing.T) {
	for _, contentType := range []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf} {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/streamed=%v", contentType, streamed), func(t *testing.T) {
				featurestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, streamed)
				s, client := serve(t, contentType)
				must(t, s.Set(service("a"), service("b"), service("headless", "service.kubernetes.io/headless")))

				factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
					informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "!service.kubernetes.io/headless" }))
				lister := factory.Core().V1().Services()
				informer := lister.Informer()
				stop := make(chan struct{})
				factory.Start(stop)
				t.Cleanup(func() { close(stop); factory.Shutdown() })
				if !cache.WaitForCacheSync(stop, informer.HasSynced) {
					t.Fatal("no sync")
				}
				names := func() string {
					var out []string
					for _, o := range informer.GetStore().List() {
						out = append(out, o.(*corev1.Service).Name)
					}
					slices.Sort(out)
					return strings.Join(out, " ")
				}
				if got := names(); got != "a b" {
					t.Fatalf("synced with %q", got)
				}
				must(t, s.Set(service("c")))
				wait.For(t, "objects", "a b c", names)
				must(t, s.Delete(service("a")))
				wait.For(t, "objects", "b c", names)
				must(t, s.Set(service("b", "service.kubernetes.io/headless")))
				wait.For(t, "objects", "c", names)
				must(t, s.Set(service("headless")))
				wait.For(t, "objects", "c headless", names)
				s.HangUp()
				must(t, s.Replace(service("z")))
				wait.For(t, "objects", "z", names)
				got := informer.GetStore().List()[0].(*corev1.Service)
				want := service("z")
				want.ResourceVersion, want.UID = got.ResourceVersion, "Service/default/z"
				want.TypeMeta = got.TypeMeta
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("object (-want +got)\n%s", diff)
				}
			})
		}
	}
}

// What is set again without a difference is not a change.
func TestSameIsNoChange(t *testing.T) {
	s, client := serve(t, runtime.ContentTypeProtobuf)
	must(t, s.Set(service("a")))
	before, err := client.CoreV1().Services("default").Get(t.Context(), "a", metav1.GetOptions{})
	must(t, err)
	must(t, s.Replace(service("a")))
	must(t, s.Set(before))
	after, err := client.CoreV1().Services("default").Get(t.Context(), "a", metav1.GetOptions{})
	must(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

func TestSelectors(t *testing.T) {
	s, client := serve(t, runtime.ContentTypeJSON)
	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	slice := func(namespace, name, service string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
	}
	must(t, s.Set(node("node-1"), node("node-2"), slice("x", "a-1", "a"), slice("x", "b-1", "b"), slice("y", "a-2", "a")))

	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=node-2"})
	must(t, err)
	if len(nodes.Items) != 1 || nodes.Items[0].Name != "node-2" {
		t.Errorf("field selector gave %v", nodes.Items)
	}
	slices, err := client.DiscoveryV1().EndpointSlices("x").List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=a"})
	must(t, err)
	if len(slices.Items) != 1 || slices.Items[0].Name != "a-1" {
		t.Errorf("label selector gave %v", slices.Items)
	}
	if _, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("secrets: %v, want not found", err)
	}
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "node-3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("node-3: %v, want not found", err)
	}
	if _, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "a b"}); !apierrors.IsBadRequest(err) {
		t.Errorf("bad selector: %v", err)
	}
}

// A watch from a version that the server never had is refused, so that clients of an earlier
// server list again.
func TestWatchFromUnknownVersion(t *testing.T) {
	_, client := serve(t, runtime.ContentTypeProtobuf)
	w, err := client.CoreV1().Services("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "999"})
	must(t, err)
	defer w.Stop()
	e := <-w.ResultChan()
	if e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
		t.Errorf("got %v", e)
	}
}

func TestEventsAndKinds(t *testing.T) {
	s, client := serve(t, runtime.ContentTypeProtobuf)
	_, err := client.CoreV1().Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, Reason: "Starting",
	}, metav1.CreateOptions{})
	must(t, err)
	if got := s.Events(); len(got) != 1 || got[0].(*corev1.Event).Reason != "Starting" {
		t.Errorf("events %v", got)
	}
	if err := s.Set(&corev1.Secret{}); err == nil {
		t.Error("secrets are not served, but can be set")
	}
}

// CoreDNS watches the Pods that have not ended, a node agent those of its node.
func TestPodFields(t *testing.T) {
	s, client := serve(t, runtime.ContentTypeProtobuf)
	for i, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: string(phase)}}
		p.Status.Phase, p.Spec.NodeName = phase, fmt.Sprintf("node-%d", i)
		must(t, s.Set(p))
	}
	for selector, want := range map[string]string{
		"status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown": "Pending Running",
		"spec.nodeName=node-2": "Succeeded",
	} {
		pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		must(t, err)
		var got []string
		for _, p := range pods.Items {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gave %q, want %s", selector, got, want)
		}
	}
}

func TestKubeconfig(t *testing.T) {
	cfg, err := clientcmd.RESTConfigFromKubeConfig(listwatch.Kubeconfig("http://127.0.0.1:1"))
	must(t, err)
	if cfg.Host != "http://127.0.0.1:1" {
		t.Errorf("host %q", cfg.Host)
	}
}
