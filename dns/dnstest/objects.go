package dnstest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// A Cluster is a set of API objects, as far as names are made of them.
type Cluster struct {
	Namespaces []*corev1.Namespace
	Services   []*corev1.Service
	Slices     []*discoveryv1.EndpointSlice
	Pods       []*corev1.Pod
	Imports    []Import
}

// An Import is a ServiceImport of the Multi-Cluster Services API.
type Import struct {
	Metadata struct{ Namespace, Name string }
	Spec     struct {
		Type  string
		IPs   []string
		Ports []corev1.ServicePort
	}
}

// Objects reads the fixtures behind the recordings: objects.json in dns/testdata/coredns, which is
// the folder dir.
func Objects(dir string) (*Cluster, error) {
	data, err := os.ReadFile(filepath.Join(dir, "objects.json"))
	if err != nil {
		return nil, err
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	c := &Cluster{}
	for _, item := range list.Items {
		if err := c.add(item); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) add(item []byte) error {
	var head struct{ Kind string }
	if err := json.Unmarshal(item, &head); err != nil {
		return err
	}
	switch head.Kind {
	case "Namespace":
		return decode(item, &c.Namespaces)
	case "Service":
		return decode(item, &c.Services)
	case "EndpointSlice":
		return decode(item, &c.Slices)
	case "Pod":
		return decode(item, &c.Pods)
	case "ServiceImport":
		var i Import
		c.Imports = append(c.Imports, i)
		return json.Unmarshal(item, &c.Imports[len(c.Imports)-1])
	}
	return fmt.Errorf("fixture of kind %q", head.Kind)
}

func decode[T any](item []byte, list *[]*T) error {
	o := new(T)
	*list = append(*list, o)
	return json.Unmarshal(item, o)
}

// Inputs returns the cluster as a name server's source would: without its history.
func (c *Cluster) Inputs(keep names.Keep) names.Inputs {
	in := names.Inputs{Synced: true}
	for _, ns := range c.Namespaces {
		in.Namespaces = append(in.Namespaces, ns.Name)
	}
	slices.Sort(in.Namespaces)
	services, imports := map[proxier.NamespacedName]*names.Service{}, map[proxier.NamespacedName]*names.Service{}
	for _, s := range c.Services {
		o := names.OfService(s)
		services[o.NamespacedName] = o
	}
	for _, i := range c.Imports {
		o := names.OfImport(i.Metadata.Namespace, i.Metadata.Name, i.Spec.Type, i.Spec.IPs, i.Spec.Ports)
		imports[o.NamespacedName] = o
	}
	for _, s := range c.Slices {
		o := names.OfSlice(s, keep)
		attach(services, s, s.Labels[discoveryv1.LabelServiceName], o)
		attach(imports, s, s.Labels[names.LabelImport], o)
	}
	for _, p := range c.Pods {
		if o := names.OfPod(p); o != nil {
			in.Pods = in.Pods.Put(o)
		}
	}
	in.Services, in.Imports = sorted(services), sorted(imports)
	return in
}

func attach(all map[proxier.NamespacedName]*names.Service, s *discoveryv1.EndpointSlice, service string, o *names.Slice) {
	if service == "" {
		return
	}
	name := proxier.NamespacedName{Namespace: s.Namespace, Name: service}
	if all[name] == nil {
		all[name] = &names.Service{NamespacedName: name}
	}
	all[name].Slices = append(all[name].Slices, o)
}

func sorted(all map[proxier.NamespacedName]*names.Service) (out names.List[*names.Service]) {
	for _, s := range all {
		slices.SortFunc(s.Slices, func(a, b *names.Slice) int { return strings.Compare(a.Name, b.Name) })
		out = out.Put(s)
	}
	return out
}
