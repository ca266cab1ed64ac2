package apiserver

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// What was created is there again after the API server was killed and restarted, and nothing is
// left when the Server is closed.
func TestKillAndRestart(t *testing.T) {
	lab := netlab.New(t, netlab.Options{Pods: []string{}}) // a namespace in which nobody else takes ports
	in := func(f func() error) error { return lab.In(netlab.Node1, f) }
	s := New(t, Options{In: in, ServiceCIDRs: "10.96.0.0/16,fd00:96::/112"})
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	services := client.CoreV1().Services("default")
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	created, err := services.Create(t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if _, err := services.Get(t.Context(), "web", metav1.GetOptions{}); err == nil {
		t.Error("the killed server answers")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := services.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Spec.ClusterIP == "" || got.Spec.ClusterIP != created.Spec.ClusterIP {
		t.Errorf("cluster IP was %q, is %q", created.Spec.ClusterIP, got.Spec.ClusterIP)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", s.dir, err)
	}
	if s.api.Err() == nil || s.etcd.Err() == nil {
		t.Error("a process is left")
	}
}
