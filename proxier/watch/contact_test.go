package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"github.com/fairway-lb/fairway/proxier/wait"
)

// A logbook keeps lines of log without their times.
type logbook struct{ logBuffer }

func (b *logbook) log(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (b *logbook) lines() []string {
	return slices.Collect(strings.Lines(b.String()))
}

const (
	lostLine = `level=WARN msg="out of contact with the API server; the last known state stays in force"`
	backLine = `level=INFO msg="in contact with the API server again"`
)

// TestContact: a line when an API server is lost, further ones ever more rarely, one when it is back;
// and no more than that when it comes and goes all the time, or when watches end as they do.
func TestContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logbook
		var c contact
		ctx := t.Context()
		a, b := c.open(book.log(slog.LevelInfo), "api:6443", "Services"), c.open(book.log(slog.LevelInfo), "api:6443", "Node")
		oops := errors.New("no route")
		want := func(lines ...string) {
			t.Helper()
			if diff := cmp.Diff(lines, book.lines()); diff != "" {
				t.Errorf("after %v (-want +got):\n%s", c.staleness(), diff)
			}
			book.b.Reset()
		}
		retry := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(10 * time.Second)
				a.failed(ctx, oops)
				b.failed(ctx, oops)
			}
		}
		lost := func(after time.Duration) string {
			return fmt.Sprintf("%s server=api:6443 for=%v list=Services err=\"no route\"\n", lostLine, after)
		}
		a.watched()
		b.watched()
		for range 3 { // as every few minutes
			time.Sleep(time.Minute)
			a.ended()
			a.failed(ctx, apierrors.NewResourceExpired("too old"))
			a.watched()
		}
		want()

		a.ended()
		b.ended()
		retry(10 * time.Minute)
		if d := c.staleness(); d != 10*time.Minute {
			t.Errorf("staleness %v", d)
		}
		want(lost(10*time.Second), lost(70*time.Second), lost(140*time.Second), lost(280*time.Second), lost(560*time.Second))
		a.watched()
		want() // not all of it
		b.watched()
		want(backLine + " server=api:6443 after=10m0s\n")
		a.watched()
		want()

		for range 600 { // of seconds
			a.ended()
			a.failed(ctx, oops)
			a.watched()
			time.Sleep(time.Second)
		}
		if n := len(book.lines()); n < 18 || n > 22 {
			t.Errorf("%d lines in ten minutes of coming and going", n)
		}
		book.b.Reset()

		time.Sleep(time.Hour)
		a.ended()
		retry(24 * time.Hour)
		if n := len(book.lines()); n < 24 || n > 34 {
			t.Errorf("%d lines in a day", n)
		}
		a.close() // not wanted any more
		if d := c.staleness(); d != 0 {
			t.Errorf("staleness %v of what is not wanted", d)
		}
		book.b.Reset()
		done, cancel := context.WithCancel(ctx)
		cancel()
		b.ended()
		time.Sleep(time.Hour)
		b.failed(done, context.Canceled)
		want()
	})
}

// TestContactLog: whatever it is that keeps a Cluster from its API server, the log says so in lines of
// one kind, and the client library does not say it again. The store is stale meanwhile.
func TestContactLog(t *testing.T) {
	for name, lose := range map[string]func(*apiServer){
		"refused": func(*apiServer) {},
		"closed": func(s *apiServer) { // each connection, before an answer
			l, err := net.Listen("tcp", s.addr)
			if err != nil {
				s.t.Fatal(err)
			}
			hs := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}
			done := make(chan struct{})
			go func() { defer close(done); _ = hs.Serve(l) }()
			s.stop = func() { _ = hs.Close(); <-done }
		},
		"unavailable": func(s *apiServer) {
			for _, path := range []string{"/api/v1/services", "/api/v1/nodes", "/apis/discovery.k8s.io/v1/endpointslices"} {
				s.setRefuse(path, http.StatusServiceUnavailable)
			}
			s.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			var book logbook
			server, s := serve(t, ClusterOptions{Log: book.log(slog.LevelInfo)}, node("node-1", "a"), svc("a", "10.96.0.1", nil))
			synced(t, s)
			wait.For(t, "staleness", 0, s.Staleness)
			server.stop()
			lose(server)
			wait.Until(t, "told of the loss", func() bool { return len(book.lines()) > 0 })
			wait.Until(t, "some attempts", func() bool { return s.Staleness() > time.Second })
			if name != "refused" {
				server.stop()
			}
			for _, path := range []string{"/api/v1/services", "/api/v1/nodes", "/apis/discovery.k8s.io/v1/endpointslices"} {
				server.setRefuse(path, 0)
			}
			server.start()
			wait.For(t, "staleness", 0, s.Staleness)
			lines := book.lines()
			last := len(lines) - 1
			for _, line := range lines[:last] { // one, unless the machine is so slow that this took a minute
				if !strings.HasPrefix(line, lostLine) || !strings.Contains(line, "server="+server.addr) || !strings.Contains(line, "err=") {
					t.Errorf("about the loss: %s", line)
				}
			}
			if !strings.HasPrefix(lines[last], backLine) {
				t.Errorf("about the return: %q", lines[last])
			}
			klog.Flush()
			for _, line := range klogged.lines() {
				if strings.Contains(line, "watch") {
					t.Errorf("the client library says: %s", line)
				}
			}
		})
	}
}

// TestLibraryLog: what client-go says that is no error is for debugging; errors are lines, but not
// those that are known.
func TestLibraryLog(t *testing.T) {
	var book logbook
	var c contact
	l := c.open(book.log(slog.LevelInfo), "api:6443", "Services")
	known := &url.Error{Op: "Get", URL: "/", Err: errors.New("no route")}
	l.failed(t.Context(), known)
	if got := book.lines()[0]; !strings.HasSuffix(got, " err=\"no route\"\n") {
		t.Errorf("the loss is told with %s", got)
	}
	book.b.Reset()
	log := slog.New(&library{book.log(slog.LevelInfo).Handler(), l.noted}).With("by", "client")
	log.Info("started")
	log.Error("unhandled", "err", fmt.Errorf("list: %w", known))
	log.Error("unhandled", "err", errors.New("odd object"))
	LibraryLog(book.log(slog.LevelInfo)).Info("Trace")
	LibraryLog(book.log(slog.LevelDebug)).Info("Trace", "took", "10s")
	want := []string{"level=ERROR msg=unhandled by=client err=\"odd object\"\n", "level=DEBUG msg=Trace took=10s\n"}
	if diff := cmp.Diff(want, book.lines()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
