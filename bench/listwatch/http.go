package listwatch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// A codec is one wire format.
type codec struct {
	index int // in object.encoded
	info  runtime.SerializerInfo
}

// codecs are JSON and protobuf.
var codecs = func() (out [2]*codec) {
	for _, info := range scheme.Codecs.SupportedMediaTypes() {
		switch info.MediaType {
		case runtime.ContentTypeJSON:
			out[0] = &codec{0, info}
		case runtime.ContentTypeProtobuf:
			out[1] = &codec{1, info}
		}
	}
	return out
}()

// codecFor is the client's first choice among the formats; JSON if it names none.
func codecFor(r *http.Request) *codec {
	for want := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		media, _, _ := strings.Cut(strings.TrimSpace(want), ";")
		for _, c := range codecs {
			if c.info.MediaType == media {
				return c
			}
		}
	}
	return codecs[0]
}

func (c *codec) encode(o *object) ([]byte, error) {
	if b := o.encoded[c.index].Load(); b != nil {
		return *b, nil
	}
	b, err := runtime.Encode(c.info.Serializer, o.Object)
	if err == nil {
		o.encoded[c.index].Store(&b)
	}
	return b, err
}

// ServeHTTP answers the requests of Kubernetes clients.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := codecFor(r)
	switch r.URL.Path {
	case "/healthz", "/livez", "/readyz":
		_, _ = io.WriteString(w, "ok")
		return
	case "/version":
		w.Header().Set("Content-Type", runtime.ContentTypeJSON)
		_, _ = io.WriteString(w, `{"major":"1","minor":"36","gitVersion":"v1.36.3"}`)
		return
	}
	path, namespace, name := split(r.URL.Path)
	st := s.stores[resources[path]]
	switch {
	case strings.HasSuffix(path, "/events") && r.Method == http.MethodPost:
		s.takeEvent(w, r, c)
	case strings.HasSuffix(path, "/events") && r.Method == http.MethodPatch:
		// A recorder counts up an event that it believes is here. It posts it whole when not.
		c.fail(w, apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, name))
	case st == nil:
		c.fail(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, name, "listwatch does not serve "+r.URL.Path, 0, true))
	case r.Method != http.MethodGet:
		c.fail(w, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: path}, r.Method))
	default:
		s.read(w, r, c, st, namespace, name)
	}
}

// split takes the namespace and the object's name out of a path:
// PREFIX[/namespaces/NAMESPACE]/COLLECTION[/NAME] gives PREFIX/COLLECTION. The prefix is
// /api/VERSION or /apis/GROUP/VERSION.
func split(path string) (collection, namespace, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	prefix := 2
	if parts[0] == "apis" {
		prefix = 3
	}
	if len(parts) <= prefix {
		return path, "", ""
	}
	rest := parts[prefix:]
	if rest[0] == "namespaces" && len(rest) > 2 {
		namespace, rest = rest[1], rest[2:]
	}
	if len(rest) > 1 {
		name = strings.Join(rest[1:], "/")
	}
	return "/" + strings.Join(parts[:prefix], "/") + "/" + rest[0], namespace, name
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, c *codec, st *store, namespace, name string) {
	sel := selection{namespace: namespace, labels: labels.Everything(), fields: fields.Everything()}
	q := r.URL.Query()
	var err error
	if name != "" {
		sel.fields = fields.OneTermEqualSelector("metadata.name", name)
	} else if sel.fields, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		c.fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if sel.labels, err = labels.Parse(q.Get("labelSelector")); err != nil {
		c.fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if on, _ := strconv.ParseBool(q.Get("watch")); on {
		s.watch(w, r, c, st, sel)
		return
	}
	objects, version := st.list(sel)
	if name != "" {
		if len(objects) == 0 {
			c.fail(w, apierrors.NewNotFound(schema.GroupResource{Group: st.kind.Group, Resource: st.kind.Kind}, name))
			return
		}
		c.write(w, http.StatusOK, objects[0].Object)
		return
	}
	list, err := newList(st.kind, objects, version)
	if err != nil {
		c.fail(w, apierrors.NewInternalError(err))
		return
	}
	c.write(w, http.StatusOK, list)
}

func newList(kind schema.GroupVersionKind, objects []*object, version uint64) (runtime.Object, error) {
	kind.Kind += "List"
	list, err := scheme.Scheme.New(kind)
	if err != nil {
		return nil, err
	}
	list.GetObjectKind().SetGroupVersionKind(kind)
	items := make([]runtime.Object, len(objects))
	for i, o := range objects {
		items[i] = o.Object
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	m.SetResourceVersion(strconv.FormatUint(version, 10))
	return list, nil
}

func (c *codec) write(w http.ResponseWriter, code int, o runtime.Object) {
	b, err := runtime.Encode(c.info.Serializer, o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", c.info.MediaType)
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone: nothing to tell it
}

var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

func (c *codec) fail(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.SetGroupVersionKind(statusKind)
	c.write(w, int(status.Code), &status)
}

// keptEvents bounds the memory that a chatty client can take.
const keptEvents = 1000

func (s *Server) takeEvent(w http.ResponseWriter, r *http.Request, c *codec) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the client is gone
	}
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		c.fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	s.mu.Lock()
	if len(s.events) < keptEvents {
		s.events = append(s.events, o)
	}
	s.mu.Unlock()
	c.write(w, http.StatusCreated, o)
}

// A stream writes watch events to one client.
type stream struct {
	c    *codec
	w    io.Writer
	http http.ResponseWriter
}

func (st *stream) send(kind watch.EventType, raw []byte) error {
	e := &metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}
	return st.c.info.StreamSerializer.Encode(e, st.w)
}

func (st *stream) sendObject(kind watch.EventType, o *object) error {
	raw, err := st.c.encode(o)
	if err != nil {
		return err
	}
	return st.send(kind, raw)
}

// sendChange translates a change of the store to what the client's selection sees of it.
func (st *stream) sendChange(sel selection, c change) error {
	before, after := sel.has(c.prev), !c.gone && sel.has(c.obj)
	switch {
	case before && after:
		return st.sendObject(watch.Modified, c.obj)
	case after:
		return st.sendObject(watch.Added, c.obj)
	case before:
		return st.sendObject(watch.Deleted, c.obj)
	}
	return nil
}

// watch streams changes until the client leaves, its time-out passes or the server hangs up.
// Without a version to start from, or when the client asks for it, the present objects come
// first (KEP-3157).
func (s *Server) watch(w http.ResponseWriter, r *http.Request, c *codec, st *store, sel selection) {
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	q := r.URL.Query()
	ctx := r.Context()
	if n, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil && n > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(n)*time.Second)
		defer cancel()
	}
	out := &stream{c: c, w: c.info.StreamSerializer.Framer.NewFrameWriter(w), http: w}
	w.Header().Set("Content-Type", c.info.MediaType+";stream=watch")
	version, err := out.begin(st, sel, q)
	for err == nil {
		changes, more, ok := st.since(version)
		if !ok {
			_ = out.gone(version)
			return
		}
		for _, ch := range changes {
			if err = out.sendChange(sel, ch); err != nil {
				return
			}
			version = ch.version
		}
		if err = http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		case <-live.Done():
			return
		}
	}
}

// begin sends what comes before the changes and returns the version to go on from.
func (st *stream) begin(from *store, sel selection, q url.Values) (uint64, error) {
	version, err := strconv.ParseUint(q.Get("resourceVersion"), 10, 64)
	streamed, _ := strconv.ParseBool(q.Get("sendInitialEvents"))
	if !streamed && err == nil && version > 0 {
		return version, nil
	}
	objects, version := from.list(sel)
	for _, o := range objects {
		if err := st.sendObject(watch.Added, o); err != nil {
			return 0, err
		}
	}
	if !streamed {
		return version, nil
	}
	mark, err := scheme.Scheme.New(from.kind)
	if err != nil {
		return 0, err
	}
	o := newObject(mark, from.kind, version)
	o.meta.SetUID("")
	o.meta.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return version, st.sendObject(watch.Bookmark, o)
}

// gone tells the client to list again.
func (st *stream) gone(version uint64) error {
	status := apierrors.NewResourceExpired(fmt.Sprintf("too old or unknown resource version: %d", version)).Status()
	status.SetGroupVersionKind(statusKind)
	raw, err := runtime.Encode(st.c.info.Serializer, &status)
	if err != nil {
		return err
	}
	if err := st.send(watch.Error, raw); err != nil {
		return err
	}
	return http.NewResponseController(st.http).Flush()
}
