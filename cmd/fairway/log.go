package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"k8s.io/klog/v2"
)

// newLogger returns a logger that writes lines of format "text" or "json", and makes the
// libraries that log through klog use it. From verbosity 4 on, it writes debug lines too, as
// kube-proxy's -v does.
func newLogger(w io.Writer, format string, verbosity int) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbosity >= 4 {
		o.Level = slog.LevelDebug
	}
	var h slog.Handler
	switch format {
	case "", "text":
		h = slog.NewTextHandler(w, o)
	case "json":
		h = slog.NewJSONHandler(w, o)
	default:
		return nil, fmt.Errorf("logging format %q: want text or json", format)
	}
	log := slog.New(h)
	var level klog.Level
	if err := level.Set(strconv.Itoa(verbosity)); err != nil {
		return nil, fmt.Errorf("verbosity: %w", err)
	}
	klog.SetSlogLogger(log)
	return log, nil
}
