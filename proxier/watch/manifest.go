package watch

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A manifest is one object of a file.
type manifest struct {
	object  metav1.Object // of one of the kinds below
	kind    string
	file    string
	line    int
	lacking []lack
}

// A lack is something that an API server would have filled in and a file cannot go without.
type lack struct{ reason, message string }

// A kind is a kind of object that manifests are read for.
type kind struct {
	group, version, name string
	cluster              bool // not in a namespace
	names                bool // only of interest to a name server
	make                 func() metav1.Object
}

func (k kind) apiVersion() string { return strings.TrimPrefix(k.group+"/"+k.version, "/") }

var kinds = []kind{
	{"", "v1", "Service", false, false, func() metav1.Object { return &corev1.Service{} }},
	{"", "v1", "Node", true, false, func() metav1.Object { return &corev1.Node{} }},
	{"discovery.k8s.io", "v1", "EndpointSlice", false, false, func() metav1.Object { return &discoveryv1.EndpointSlice{} }},
	{"networking.k8s.io", "v1", "ServiceCIDR", true, false, func() metav1.Object { return &networkingv1.ServiceCIDR{} }},
	{"", "v1", "Namespace", true, true, func() metav1.Object { return &corev1.Namespace{} }},
	{"", "v1", "Pod", false, true, func() metav1.Object { return &corev1.Pod{} }},
	{importGroup.Group, importGroup.Version, "ServiceImport", false, true, func() metav1.Object { return &ServiceImport{} }},
}

// A fileReader collects the objects of one file.
type fileReader struct {
	decoder
	names   bool // kinds for name servers count too
	objects []manifest
	ignored map[string]int // kinds that are not ours
}

// readManifest decodes the text of one file: YAML documents or JSON values, List kinds
// included. Either every object of it is good, or errs says what is not, each error a
// [ManifestError]. ignored counts objects of other kinds, which are more unless names are wanted.
func readManifest(file string, data []byte, names bool) (objects []manifest, ignored map[string]int, errs []error) {
	r := fileReader{decoder: decoder{file: file}, names: names, ignored: map[string]int{}}
	docs := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := docs.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.errs = append(r.errs, syntaxError(file, err))
			break
		}
		for _, n := range doc.Content {
			if n.ShortTag() != "!!null" {
				r.object(n, "", kind{})
			}
		}
	}
	if len(r.errs) > 0 {
		return nil, nil, r.errs
	}
	return r.objects, r.ignored, nil
}

// object reads one object. An element of a typed list may leave out its kind, which is then
// that of the list, implied.
func (r *fileReader) object(n *yaml.Node, path string, implied kind) {
	if n.Kind != yaml.MappingNode {
		r.mismatch(n, path, "an object")
		return
	}
	before := len(r.errs)
	apiVersion, kindName := r.text(n, path, "apiVersion"), r.text(n, path, "kind")
	if len(r.errs) > before {
		return
	}
	if kindName == "" && apiVersion == "" && implied.name != "" {
		r.decode(n, path, implied)
		return
	}
	if kindName == "" {
		r.fail(n, join(path, "kind"), "required")
		return
	}
	group, version, found := strings.Cut(apiVersion, "/")
	if !found {
		group, version = "", apiVersion
	}
	if group == "" && kindName == "List" {
		r.list(n, path, kind{})
		return
	}
	for _, k := range kinds {
		if k.group != group || k.name != strings.TrimSuffix(kindName, "List") || k.names && !r.names {
			continue
		}
		switch {
		case k.version != version:
			r.fail(field(n, "apiVersion", n), join(path, "apiVersion"), "want %s, found %q", k.apiVersion(), apiVersion)
		case k.name != kindName:
			r.list(n, path, k)
		default:
			r.decode(n, path, k)
		}
		return
	}
	r.ignored[kindName]++
}

func (r *fileReader) list(n *yaml.Node, path string, implied kind) {
	items := field(n, "items", nil)
	if items == nil || items.ShortTag() == "!!null" {
		return
	}
	path = join(path, "items")
	if items.Kind != yaml.SequenceNode {
		r.mismatch(items, path, "a list")
		return
	}
	for i, item := range items.Content {
		r.object(item, path+"["+strconv.Itoa(i)+"]", implied)
	}
}

func (r *fileReader) decode(n *yaml.Node, path string, k kind) {
	o := k.make()
	before := len(r.errs)
	r.value(n, reflect.ValueOf(o).Elem(), path)
	if len(r.errs) > before {
		return
	}
	if o.GetName() == "" {
		r.fail(field(n, "metadata", n), join(path, "metadata.name"), "required")
		return
	}
	switch {
	case k.cluster:
		o.SetNamespace("")
	case o.GetNamespace() == "":
		o.SetNamespace(metav1.NamespaceDefault)
	}
	r.objects = append(r.objects, manifest{o, k.name, r.file, n.Line, applyDefaults(o)})
}

// text returns the value of a string field, "" if it is not there.
func (r *fileReader) text(n *yaml.Node, path, name string) string {
	v := field(n, name, nil)
	if v == nil || v.ShortTag() == "!!null" {
		return ""
	}
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!str" {
		r.mismatch(v, join(path, name), "a string")
		return ""
	}
	return v.Value
}

// field returns the value of a field of a mapping, or alt if it is not there.
func field(n *yaml.Node, name string, alt *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return alt
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntaxError gives an error of the YAML parser its place.
func syntaxError(file string, err error) error {
	e := &ManifestError{File: file, Msg: err.Error()}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Msg = m[2]
	}
	return e
}
