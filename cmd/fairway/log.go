package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"k8s.io/klog/v2"

	"github.com/fairway-lb/fairway/proxier/watch"
)

// newLogger returns a logger that writes lines of text or JSON, and makes the libraries that log
// through klog use it. From verbosity 4 on, it writes debug lines too, as
// kube-proxy's -v does.
func newLogger(w io.Writer, json bool, verbosity int) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbosity >= 4 {
		o.Level = slog.LevelDebug
	}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if json {
		h = slog.NewJSONHandler(w, o)
	}
	log := slog.New(h)
	var level klog.Level
	if err := level.Set(strconv.Itoa(verbosity)); err != nil {
		return nil, fmt.Errorf("verbosity: %w", err)
	}
	klog.SetSlogLogger(watch.LibraryLog(log))
	return log, nil
}
