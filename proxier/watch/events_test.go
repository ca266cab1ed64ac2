package watch

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/wait"
)

func TestEvents(t *testing.T) {
	a := svc("a", "10.96.0.1", nil)
	a.UID = "uid-a"
	server, store := serve(t, ClusterOptions{}, a)
	synced(t, store)
	client, err := NewClient(ClientOptions{Master: "http://" + server.addr})
	if err != nil {
		t.Fatal(err)
	}
	feed := &proxier.Feed{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Events(ctx, store, client, feed, EventOptions{NodeName: "node-1", Delay: -1, Log: slog.New(slog.DiscardHandler)})
	}()
	defer func() { cancel(); <-done }()

	problem := func(kind, namespace, name, message string) proxier.Problem {
		return proxier.Problem{Kind: kind, Object: proxier.NamespacedName{Namespace: namespace, Name: name}, Reason: "BadAddress", Message: message}
	}
	publish := func(problems ...proxier.Problem) { feed.Publish(&proxier.Snapshot{Problems: problems}) }
	wantNotes := func(want ...string) {
		t.Helper()
		wait.For(t, "what is wrong", "", func() string {
			var got []string
			for _, e := range server.Events() {
				got = append(got, e.(*eventsv1.Event).Note)
			}
			return cmp.Diff(want, got)
		})
	}
	first := problem("Service", "default", "a", "one")
	publish(first, problem("Manifest", "/dir", "x.yaml", "not for the cluster"))
	wantNotes("one")
	e := server.Events()[0].(*eventsv1.Event)
	if e.Namespace != "default" || !strings.HasPrefix(e.Name, "a.") || e.Type != corev1.EventTypeWarning || e.Reason != "BadAddress" ||
		e.ReportingInstance != "node-1" || e.EventTime.IsZero() {
		t.Errorf("event %+v", e)
	}
	if want := (corev1.ObjectReference{Kind: "Service", APIVersion: "v1", Namespace: "default", Name: "a", UID: "uid-a"}); e.Regarding != want {
		t.Errorf("regarding %v, want %v", e.Regarding, want)
	}
	// It lasts: not again. A new one is told, one without a namespace in "default".
	publish(first, problem("Node", "", "node-1", "two"))
	wantNotes("one", "two")
	if e := server.Events()[1].(*eventsv1.Event); e.Namespace != "default" || e.Regarding.Namespace != "" {
		t.Errorf("event %+v", e)
	}
	// Over, and back: told again.
	publish()
	publish(first, problem("Service", "default", "b", strings.Repeat("é", 2000)))
	wait.For(t, "what is wrong", "", func() string {
		if n := len(server.Events()); n != 3 && n != 4 {
			return "too few events"
		}
		return ""
	})
}

// Events are rate limited, and a server that is away gets them later.
func TestEventsLimitAndOutage(t *testing.T) {
	server := newAPIServer(t)
	server.stop()
	client, err := NewClient(ClientOptions{Master: "http://" + server.addr, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	store := NewStore()
	r := recorder{EventOptions: EventOptions{NodeName: "n", Log: slog.New(slog.DiscardHandler)}, store: store, client: client, told: map[proxier.Problem]bool{}}
	s := &proxier.Snapshot{Problems: []proxier.Problem{{Kind: "Service", Object: proxier.NamespacedName{Namespace: "x", Name: "y"}, Reason: "R"}}}
	p, ok := r.next(s)
	if !ok || r.tell(t.Context(), p) {
		t.Fatal("told a server that is away")
	}
	server.start()
	if p, ok = r.next(s); !ok || !r.tell(t.Context(), p) {
		t.Fatal("not told after the server returned")
	}
	if _, ok = r.next(s); ok {
		t.Error("told twice")
	}
	if _, ok = r.next(&proxier.Snapshot{}); ok {
		t.Error("told nothing")
	}
	if _, ok = r.next(s); !ok {
		t.Error("a problem that returned is not told")
	}

	// 30 problems: 11 at once, then one per second.
	feed := &proxier.Feed{}
	many := &proxier.Snapshot{}
	for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz0123", "") {
		many.Problems = append(many.Problems, proxier.Problem{Kind: "Service", Object: proxier.NamespacedName{Namespace: "x", Name: name}, Reason: "R"})
	}
	feed.Publish(many)
	before := len(server.Events())
	ctx, cancel := context.WithCancel(t.Context())
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		Events(ctx, store, client, feed, EventOptions{NodeName: "n", Delay: -1, Log: slog.New(slog.DiscardHandler)})
	}()
	told := func() int { return len(server.Events()) - before }
	wait.Until(t, "the twelfth is told", func() bool { return told() >= 12 })
	cancel()
	<-done
	if n, most := told(), 11+int(time.Since(began)/time.Second); n > most {
		t.Errorf("%d events in %v, want %d at most", n, time.Since(began), most)
	}
}
