package watch

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// The whole error text is pinned, one line per error: file, line, field, reason.
func TestManifestErrors(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"wrong type", `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports:
  - name: http
    port: 80
  - name: https
    port: eighty
`, `f.yaml:10: spec.ports[1].port: want an integer of 32 bits, found "eighty"`},
		{"several", `apiVersion: v1
kind: Service
metadata:
  name: web
  labels: [a]
spec:
  clusterIp: 10.96.0.1
  type: 5
  publishNotReadyAddresses: maybe
  ports:
    port: 80
`, `f.yaml:5: metadata.labels: want a mapping, found a list
f.yaml:7: spec.clusterIp: unknown field
f.yaml:8: spec.type: want a string, found 5
f.yaml:9: spec.publishNotReadyAddresses: want true or false, found "maybe"
f.yaml:11: spec.ports: want a list, found a mapping`},
		{"duplicate field", "apiVersion: v1\nkind: Service\nmetadata: {name: web, name: web2}\nspec: {type: ClusterIP}\nspec: {}\n",
			`f.yaml:3: metadata.name: duplicate field
f.yaml:5: spec: duplicate field`},
		{"second document", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n# nothing here\n---\napiVersion: v1\nkind: Service\nmetadata:\n  nam: x\n",
			`f.yaml:10: metadata.nam: unknown field`},
		{"in a list", `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: a-1}
  endpoints:
  - addresses: [10.244.1.2]
    conditions: {ready: 1}
`, `f.yaml:12: items[1].endpoints[0].conditions.ready: want true or false, found 1`},
		{"number too large", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 4294967376}]}\n",
			`f.yaml:4: spec.ports[0].port: want an integer of 32 bits, found 4294967376`},
		{"no name", "apiVersion: v1\nkind: Service\nmetadata:\n  generateName: a-\n", `f.yaml:4: metadata.name: required`},
		{"no kind", "metadata: {name: a}\n", `f.yaml:1: kind: required`},
		{"kind is no string", "apiVersion: v1\nkind: [Service]\n", `f.yaml:2: kind: want a string, found a list`},
		{"old version", "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n",
			`f.yaml:1: apiVersion: want discovery.k8s.io/v1, found "discovery.k8s.io/v1beta1"`},
		{"no version", "kind: Service\nmetadata: {name: a}\n", `f.yaml:1: apiVersion: want v1, found ""`},
		{"not an object", "- a\n- b\n", `f.yaml:1: want an object, found a list`},
		{"text", "hello\n", `f.yaml:1: want an object, found "hello"`},
		{"broken yaml", "apiVersion: v1\nkind: Service\n  metadata: x\n", `f.yaml:3: mapping values are not allowed in this context`},
		{"tab", "apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n", `f.yaml:4: found character that cannot start any token`},
		{"broken json", `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}`, `f.yaml:1: did not find expected ',' or '}'`},
		{"alias", "apiVersion: v1\nkind: Service\nmetadata: &m {name: a}\nspec: *m\n", `f.yaml:4: spec: aliases are not supported`},
		{"time", "apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: yesterday}\n",
			`f.yaml:3: metadata.creationTimestamp: "yesterday" is not valid here: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`},
		{"truncated", "apiVersion: v1\nkind: Service\nmetadata: {name: \"a", `f.yaml:3: found unexpected end of stream`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			objects, _, errs := readManifest("f.yaml", []byte(tc.text), false)
			if len(objects) > 0 {
				t.Errorf("a bad file gave objects: %v", objects)
			}
			got := "no error"
			if err := errors.Join(errs...); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManifestErrorsAreBounded(t *testing.T) {
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n" + strings.Repeat("  x: 1\n", 1000)
	if _, _, errs := readManifest("f", []byte(text), false); len(errs) != maxErrors {
		t.Errorf("got %d errors, want %d", len(errs), maxErrors)
	}
}

// What a user writes by hand, and what kubectl prints, become what an API server would give.
func TestManifestDefaults(t *testing.T) {
	text := `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIPs: [10.96.0.10, "fd00:96::10"]
  ports: [{port: 80, targetPort: http}, {name: m, port: 81, targetPort: 8081, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{port: 8080}]
endpoints: [{addresses: ["fd00:244::1"], nodeName: node-1}]
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes, namespace: ignored}
spec: {cidrs: [10.96.0.0/16]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {whatever: 1}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: web}
spec: {template: {}}
`
	objects, ignored, errs := readManifest("f.yaml", []byte(text), false)
	if errs != nil {
		t.Fatal(errs)
	}
	want := []metav1.Object{
		&corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, SessionAffinity: corev1.ServiceAffinityNone,
				ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10", "fd00:96::10"},
				IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
				InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
				Ports: []corev1.ServicePort{
					{Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "m", Port: 81, Protocol: corev1.ProtocolUDP},
				},
			},
		},
		&discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1",
				Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv6,
			Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](8080)}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"fd00:244::1"}, NodeName: ptr.To("node-1")}},
		},
		&networkingv1.ServiceCIDR{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
			ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
			Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}},
		},
	}
	var got []metav1.Object
	for _, o := range objects {
		if s, ok := o.object.(*corev1.Service); ok {
			for i := range s.Spec.Ports {
				s.Spec.Ports[i].TargetPort.StrVal, s.Spec.Ports[i].TargetPort.Type, s.Spec.Ports[i].TargetPort.IntVal = "", 0, 0
			}
		}
		got = append(got, o.object)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"Deployment": 1, "Service": 1}, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
}

// The files in testdata are as kubectl 1.36 prints them.
func TestManifestAsKubectlPrints(t *testing.T) {
	for _, name := range []string{"kubectl-list.yaml", "kubectl-list.json"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		objects, _, errs := readManifest(name, data, false)
		if errs != nil {
			t.Fatalf("%s: %v", name, errors.Join(errs...))
		}
		var got []string
		for _, o := range objects {
			got = append(got, o.kind+" "+nameOf(o.object).String())
		}
		want := []string{"Service default/kubernetes", "Service shop/web", "EndpointSlice shop/web-x7k2p", "Node /node-1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestManifestTypedList(t *testing.T) {
	text := `{"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
	"items": [
		{"metadata": {"name": "a", "namespace": "x"}, "spec": {"clusterIP": "10.96.0.1"}},
		{"metadata": {"name": "b\u0062", "namespace": "x"}}]}`
	objects, _, errs := readManifest("f.json", []byte(text), false)
	if errs != nil || len(objects) != 2 || objects[1].object.GetName() != "bb" || objects[0].line != 3 {
		t.Errorf("got %v %v", objects, errs)
	}
}

// Neither a panic nor objects beside an error, whatever the file holds.
func FuzzManifest(f *testing.F) {
	for _, name := range []string{"kubectl-list.yaml", "kubectl-list.json"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: 2024-01-01T00:00:00Z}\nspec: {ports: [{port: 0x50}]}\n---\n"))
	f.Add([]byte("apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {capacity: {cpu: 2, memory: 1Gi}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, _, errs := readManifest("f.yaml", data, false)
		if len(errs) > 0 && len(objects) > 0 {
			t.Fatalf("%d objects beside %v", len(objects), errs)
		}
		for _, err := range errs {
			var e *ManifestError
			if !errors.As(err, &e) || e.Msg == "" || e.File != "f.yaml" {
				t.Fatalf("error without place: %#v", err)
			}
		}
		all := Objects{}
		for _, o := range objects {
			if o.object.GetName() == "" {
				t.Fatalf("%s without a name", o.kind)
			}
			switch o := o.object.(type) {
			case *corev1.Service:
				all.Services = append(all.Services, o)
			case *discoveryv1.EndpointSlice:
				all.EndpointSlices = append(all.EndpointSlices, o)
			case *corev1.Node:
				all.Node = o
			case *networkingv1.ServiceCIDR:
				all.ServiceCIDRs = append(all.ServiceCIDRs, o)
			}
		}
		s := NewStore()
		s.Replace(all)
		s.Inputs()
	})
}
