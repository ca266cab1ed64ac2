package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// newLineLogger returns a logger that writes lines as CoreDNS does: the level in brackets, no time.
// From verbosity 4 on, it writes debug lines too.
func newLineLogger(w io.Writer, verbosity int) *slog.Logger {
	level := slog.LevelInfo
	if verbosity >= 4 {
		level = slog.LevelDebug
	}
	return slog.New(&lineHandler{w: w, mu: new(sync.Mutex), level: level})
}

// A lineHandler writes one line per record.
type lineHandler struct {
	w     io.Writer
	mu    *sync.Mutex
	level slog.Level
	attrs string // of With, as text
	group string
}

// Enabled reports whether lines of the level are written.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle writes the line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	name := "INFO"
	switch {
	case r.Level >= slog.LevelError:
		name = "ERROR"
	case r.Level >= slog.LevelWarn:
		name = "WARNING"
	case r.Level < slog.LevelInfo:
		name = "DEBUG"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s%s", name, r.Message, h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(h.text(a))
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

// text is " key=value", with quotes around a value that has spaces or would begin a new line.
func (h *lineHandler) text(a slog.Attr) string {
	v := a.Value.Resolve().String()
	if v == "" || strings.ContainsAny(v, " \t\r\n\"=") {
		v = fmt.Sprintf("%q", v)
	}
	return " " + h.group + a.Key + "=" + v
}

// WithAttrs returns a handler whose lines all have these.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	for _, a := range attrs {
		out.attrs += h.text(a)
	}
	return &out
}

// WithGroup returns a handler whose further keys begin with a name.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	out := *h
	out.group += name + "."
	return &out
}
