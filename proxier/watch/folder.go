package watch

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/proxier"
)

// objects merges the files in the order of their names.
func (f *folder) objects() Objects {
	var out Objects
	type id struct {
		kind string
		name proxier.NamespacedName
	}
	if f.err != "" {
		out.Problems = append(out.Problems, f.problem("", "UnreadableFolder", f.err+"; the last good state stays in force"))
	}
	first := map[id]manifest{}
	for _, name := range f.names() {
		file := f.files[name]
		if len(file.errs) > 0 {
			out.Problems = append(out.Problems, f.problem(name, "InvalidManifest", summary(file.errs)))
		}
		for _, m := range file.good {
			key := id{m.kind, nameOf(m.object)}
			if was, ok := first[key]; ok {
				out.Problems = append(out.Problems, proxier.Problem{Kind: m.kind, Object: key.name, Reason: "DuplicateObject",
					Message: "also defined at " + m.place() + "; the one at " + was.place() + " counts"})
				continue
			}
			first[key] = m
			for _, l := range m.lacking {
				out.Problems = append(out.Problems, proxier.Problem{Kind: m.kind, Object: key.name, Reason: l.reason, Message: l.message})
			}
			switch o := m.object.(type) {
			case *corev1.Service:
				out.Services = append(out.Services, o)
			case *discoveryv1.EndpointSlice:
				out.EndpointSlices = append(out.EndpointSlices, o)
			case *networkingv1.ServiceCIDR:
				out.ServiceCIDRs = append(out.ServiceCIDRs, o)
			case *corev1.Namespace:
				out.Namespaces = append(out.Namespaces, o)
			case *corev1.Pod:
				out.Pods = append(out.Pods, o)
			case *ServiceImport:
				out.ServiceImports = append(out.ServiceImports, o)
			case *corev1.Node:
				if o.Name == f.NodeName {
					out.Node = o
				}
			}
		}
	}
	return out
}

func (m manifest) place() string { return m.file + ":" + strconv.Itoa(m.line) }

// kindManifest is the kind of problems that a file has, not an object.
const kindManifest = "Manifest"

func (f *folder) problem(name, reason, message string) proxier.Problem {
	return proxier.Problem{Kind: kindManifest, Object: proxier.NamespacedName{Namespace: f.Dir, Name: name},
		Reason: reason, Message: message}
}

// summary is the first error and how many more there are.
func summary(errs []error) string {
	s := errs[0].Error()
	if n := len(errs) - 1; n > 0 {
		s += " (and " + strconv.Itoa(n) + " more)"
	}
	return s + "; the last good state of the file stays in force"
}

// fault remembers why the folder cannot be read, nil if it can, and reports whether that changed.
func (f *folder) fault(err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == f.err {
		return false
	}
	if text != "" {
		f.Log.Error("manifests cannot be read; the last good state stays in force", "dir", f.Dir, "err", err)
	}
	f.err = text
	return true
}
