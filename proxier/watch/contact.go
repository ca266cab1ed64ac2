package watch

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
)

// A contact knows whether an API server is being followed. The log gets a line when a request for
// what is not being watched fails, further ones ever more rarely while that lasts, and one when all
// is watched again. The zero value is ready.
type contact struct {
	mu    sync.Mutex
	links map[*link]struct{}
	told  bool          // the loss
	last  time.Time     // when it was told
	pause time.Duration // before it is told again
}

// The loss of an API server is told once in this time at most, and at least.
const (
	toldMost  = time.Minute
	toldLeast = time.Hour
)

// A link is one resource of an API server.
type link struct {
	*contact
	log          *slog.Logger
	server, list string
	since        time.Time // not being watched since then; zero: it is
	failure      error     // of the last request that failed
}

// open adds a resource, which is not being watched yet. close takes it away.
func (c *contact) open(log *slog.Logger, server, list string) *link {
	l := &link{contact: c, log: log, server: server, list: list, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links == nil {
		c.links = map[*link]struct{}{}
	}
	c.links[l] = struct{}{}
	return l
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, l)
}

// staleness is the longest time for which a resource is not being watched.
func (c *contact) staleness() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away()
}

// watched notes that a watch has begun.
func (l *link) watched() {
	l.mu.Lock()
	defer l.mu.Unlock()
	away := l.away()
	l.since, l.failure = time.Time{}, nil
	if l.told && l.away() == 0 {
		l.log.Info("in contact with the API server again", "server", l.server, "after", away.Round(time.Millisecond))
		l.told, l.pause = false, toldMost
	}
}

// ended notes that a watch has ended, which they all do from time to time.
func (l *link) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		l.since = time.Now()
	}
}

// failed notes that a request failed, unless it was given up or the server wants another.
func (l *link) failed(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || time.Since(l.last) < l.pause {
		return
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // server and list say what was asked for, in a tenth of the space
	}
	away := l.away()
	l.log.Warn("out of contact with the API server; the last known state stays in force",
		"server", l.server, "for", away.Round(time.Millisecond), "list", l.list, "err", err)
	l.told, l.last, l.pause = true, time.Now(), min(max(away, toldMost), toldLeast)
}

// away is staleness with mu held.
func (c *contact) away() (longest time.Duration) {
	for l := range c.links {
		if !l.since.IsZero() {
			longest = max(longest, time.Since(l.since))
		}
	}
	return longest
}

// noted reports whether an error of the client library comes from a request that failed.
func (l *link) noted(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure != nil && errors.Is(err, l.failure)
}

// silence lets the client library log what it does for the link, but not what failed told.
func (l *link) silence(ctx context.Context) context.Context {
	return klog.NewContext(ctx, logr.FromSlogHandler(&library{l.log.Handler(), l.noted}))
}

// A library is a handler for what the client library logs. What it says by the way is for debugging.
type library struct {
	slog.Handler
	noted func(error) bool // that is known already; nil: nothing is
}

// LibraryLog returns the log of a client library that logs through klog, for klog.SetSlogLogger. Only
// its errors are worth a line; the rest, which it thinks of as information, helps with debugging.
func LibraryLog(log *slog.Logger) *slog.Logger {
	return slog.New(&library{Handler: log.Handler()})
}

func (h *library) level(l slog.Level) slog.Level {
	if l < slog.LevelWarn {
		l = min(l, slog.LevelDebug)
	}
	return l
}

// Enabled reports whether something of the level would be written.
func (h *library) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, h.level(l))
}

// Handle writes a record, if it is not known.
func (h *library) Handle(ctx context.Context, r slog.Record) error {
	known := false
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		known = known || ok && h.noted != nil && h.noted(err)
		return !known
	})
	if known || !h.Enabled(ctx, r.Level) {
		return nil
	}
	r.Level = h.level(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler whose records all have these.
func (h *library) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &library{h.Handler.WithAttrs(attrs), h.noted}
}

// WithGroup returns a handler whose further attributes are in a group.
func (h *library) WithGroup(name string) slog.Handler {
	return &library{h.Handler.WithGroup(name), h.noted}
}
