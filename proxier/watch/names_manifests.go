package watch

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/proxier/names"
)

// Replace makes o the whole content in one step, after which n is synced. In a folder of manifests
// nobody makes namespaces: those of its objects exist, with the labels that a Namespace object
// gives them, or none.
func (n *Names) Replace(o Objects) {
	var services, imports []*names.Service
	var list []namedSlice
	var pods []namedPod
	namespaces := map[string]labels.Set{}
	for _, s := range o.Services {
		namespaces[s.Namespace] = nil
		if n.labels.Matches(labels.Set(s.Labels)) {
			services = append(services, names.OfService(s))
		}
	}
	for _, s := range o.EndpointSlices {
		namespaces[s.Namespace] = nil
		if n.labels.Matches(labels.Set(s.Labels)) {
			list = append(list, n.namedSlice(s))
		}
	}
	if n.options.Imports {
		for _, s := range o.ServiceImports {
			namespaces[s.Namespace] = nil
			imports = append(imports, toImport(s))
		}
	}
	if n.options.Pods {
		for _, p := range o.Pods {
			namespaces[p.Namespace] = nil
			if n.labels.Matches(labels.Set(p.Labels)) && (n.options.NodeName == "" || p.Spec.NodeName == n.options.NodeName) {
				pods = append(pods, toNamedPod(p))
			}
		}
	}
	for _, ns := range o.Namespaces {
		namespaces[ns.Name] = ns.Labels
	}
	var exist []string
	for name, set := range namespaces {
		if n.nsLabels.Matches(set) {
			exist = append(exist, name)
		}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.replaceServices(&n.services, services)
	n.replaceServices(&n.imports, imports)
	n.replaceSlices(list)
	n.replacePods(pods)
	n.replaceNamespaces(exist)
	for _, l := range []string{listServices, listSlices, listNamespaces, listPods, listImports} {
		n.delivered(l)
	}
}
