package resolve

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier"
)

// FuzzResolve looks for the same failures as TestIncrementalEqualsFresh, led by coverage. The
// bytes are the choices that churn makes. Run it with -fuzzminimizetime 1x: making long lists of
// choices minimal takes all the time otherwise.
func FuzzResolve(f *testing.F) {
	for seed := range 20 {
		choices := make([]byte, 4<<10)
		rand.NewChaCha8([32]byte{byte(seed)}).Read(choices)
		f.Add(choices)
	}
	f.Fuzz(rapid.MakeFuzz(checkChurn))
}

// FuzzObjects gives Resolve a Service and a slice with any content, beside healthy neighbours.
func FuzzObjects(f *testing.F) {
	for _, h := range hostileObjects() {
		var docs [2][]byte
		for doc := range strings.SplitSeq(h.objects, "\n---\n") {
			text, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				f.Fatal(err)
			}
			if strings.Contains(doc, "kind: EndpointSlice") {
				docs[1] = text
			} else if strings.Contains(doc, "kind: Service") {
				docs[0] = text
			}
		}
		if len(docs[0])+len(docs[1]) < 4<<10 {
			f.Add(docs[0], docs[1])
		}
	}
	calm := mustInputs(f, nodeYAML, cidrsYAML, neighbour)
	f.Fuzz(func(t *testing.T, service, endpointSlice []byte) {
		g := &Group{Name: proxier.NamespacedName{Namespace: "ns", Name: "web"}}
		var s corev1.Service
		if json.Unmarshal(service, &s) == nil {
			s.CreationTimestamp.Reset() // so that it never has a better claim than the neighbours
			if slices.ContainsFunc(append(s.Spec.ClusterIPs, s.Spec.ClusterIP), func(ip string) bool {
				a, _, _ := parseAddr(ip)
				return a == addr("203.0.113.200") || a == addr("198.51.100.200")
			}) {
				return // a cluster IP beats an external one
			}
			g.Service = &s
		}
		var es discoveryv1.EndpointSlice
		if json.Unmarshal(endpointSlice, &es) == nil {
			g.Slices = append(g.Slices, &es)
		}
		in := calm
		in.Groups = append(append([]*Group(nil), calm.Groups...), g)
		sortGroups(in.Groups)
		r := New(defaults())
		before := r.Resolve(calm)
		now := r.Resolve(in)
		if err := now.Check(); err != nil {
			t.Fatal(err)
		}
		mustBeSafe(t, now)
		for old, changed := range proxier.Diff(before, now) {
			if old != nil {
				t.Errorf("frontend %s of a neighbour became %v", old, changed)
			}
		}
		if diff := differs(New(defaults()).Resolve(in), now); diff != "" {
			t.Errorf("not what a fresh resolver makes (-fresh +incremental)\n%s", diff)
		}
	})
}
