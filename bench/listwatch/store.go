package listwatch

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// keptChanges is how many changes of a kind a watch can start behind the newest.
const keptChanges = 50_000

// An object is one version of a stored object. It never changes.
type object struct {
	runtime.Object
	meta    metav1.Object
	encoded [2]atomic.Pointer[[]byte] // by codec; filled when first asked for
}

func newObject(o runtime.Object, kind schema.GroupVersionKind, version uint64) *object {
	o = o.DeepCopyObject()
	o.GetObjectKind().SetGroupVersionKind(kind)
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err) // every registered kind has metadata
	}
	m.SetResourceVersion(strconv.FormatUint(version, 10))
	if m.GetUID() == "" {
		m.SetUID(types.UID(kind.Kind + "/" + m.GetNamespace() + "/" + m.GetName()))
	}
	return &object{Object: o, meta: m}
}

// same reports whether next would only repeat o.
func (o *object) same(next runtime.Object) bool {
	next = next.DeepCopyObject()
	m, _ := meta.Accessor(next)
	m.SetResourceVersion(o.meta.GetResourceVersion())
	if m.GetUID() == "" {
		m.SetUID(o.meta.GetUID())
	}
	next.GetObjectKind().SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
	return equality.Semantic.DeepEqual(o.Object, next)
}

// A selection is what a list or a watch asks for.
type selection struct {
	namespace string // empty: all
	labels    labels.Selector
	fields    fields.Selector
}

func (s selection) has(o *object) bool {
	return o != nil &&
		(s.namespace == "" || s.namespace == o.meta.GetNamespace()) &&
		s.labels.Matches(labels.Set(o.meta.GetLabels())) &&
		s.fields.Matches(o.fields())
}

// fields are those that a field selector can name.
func (o *object) fields() fields.Set {
	set := fields.Set{"metadata.name": o.meta.GetName(), "metadata.namespace": o.meta.GetNamespace()}
	if pod, ok := o.Object.(*corev1.Pod); ok {
		set["spec.nodeName"] = pod.Spec.NodeName
		set["status.phase"] = string(pod.Status.Phase)
		set["status.podIP"] = pod.Status.PodIP
	}
	return set
}

// A change is one step of a store's history. Prev is nil for an object that came; gone is set
// for one that went, which obj is then the last state of.
type change struct {
	version   uint64
	prev, obj *object
	gone      bool
}

// A store holds the objects of one kind and their recent history.
type store struct {
	kind    schema.GroupVersionKind
	version *atomic.Uint64 // of the whole server, increased under mu

	mu      sync.Mutex
	objects map[types.NamespacedName]*object
	history []change
	lost    uint64        // the history up to this version is forgotten
	changed chan struct{} // closed at the next change
}

func newStore(kind schema.GroupVersionKind, version *atomic.Uint64) *store {
	return &store{
		kind: kind, version: version,
		objects: map[types.NamespacedName]*object{},
		changed: make(chan struct{}),
	}
}

func nameOf(o runtime.Object) types.NamespacedName {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
}

// update stores set and deletes drop; with all, it deletes whatever is not in set as well.
func (st *store) update(set []runtime.Object, drop []types.NamespacedName, all bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	before := len(st.history)
	keep := make(map[types.NamespacedName]bool, len(set))
	for _, o := range set {
		name := nameOf(o)
		keep[name] = true
		prev := st.objects[name]
		if prev != nil && prev.same(o) {
			continue
		}
		c := change{version: st.version.Add(1), prev: prev}
		c.obj = newObject(o, st.kind, c.version)
		st.objects[name] = c.obj
		st.history = append(st.history, c)
	}
	if all {
		for name := range st.objects {
			if !keep[name] {
				drop = append(drop, name)
			}
		}
	}
	for _, name := range drop {
		prev := st.objects[name]
		if prev == nil {
			continue
		}
		delete(st.objects, name)
		c := change{version: st.version.Add(1), prev: prev, gone: true}
		c.obj = newObject(prev.Object, st.kind, c.version)
		st.history = append(st.history, c)
	}
	if len(st.history) == before {
		return
	}
	if n := len(st.history) - keptChanges; n > 0 {
		st.lost = st.history[n-1].version
		st.history = slices.Delete(st.history, 0, n)
	}
	close(st.changed)
	st.changed = make(chan struct{})
}

// list returns what is selected, sorted by name, and the version that this is the state of.
func (st *store) list(sel selection) ([]*object, uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var out []*object
	for _, o := range st.objects {
		if sel.has(o) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *object) int {
		return cmp.Or(cmp.Compare(a.meta.GetNamespace(), b.meta.GetNamespace()), cmp.Compare(a.meta.GetName(), b.meta.GetName()))
	})
	return out, st.version.Load()
}

// since returns the changes after version and a channel that is closed when there are more. It
// returns false if they are no longer known or version is not one of this server's.
func (st *store) since(version uint64) ([]change, <-chan struct{}, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if version < st.lost || version > st.version.Load() {
		return nil, nil, false
	}
	i, _ := slices.BinarySearchFunc(st.history, version+1, func(c change, v uint64) int {
		return cmp.Compare(c.version, v)
	})
	return slices.Clone(st.history[i:]), st.changed, true
}
