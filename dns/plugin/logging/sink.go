package logging

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// The levels of lines, as CoreDNS spells them.
const (
	Error   = "ERROR"
	Warning = "WARNING"
	Info    = "INFO"
	Debug   = "DEBUG"
)

// A Sink writes lines of many goroutines in the order in which they came. It never blocks them: at
// most so many lines wait, and more are dropped and counted. It is a prometheus.Collector and safe
// for concurrent use.
type Sink struct {
	w       *bufio.Writer
	lines   chan string
	quit    chan struct{}
	done    chan struct{}
	once    sync.Once
	debug   atomic.Bool
	dropped atomic.Uint64
	count   prometheus.CounterFunc
}

// NewSink returns a Sink that writes to w and lets at most so many lines wait. Close ends it.
func NewSink(w io.Writer, lines int) *Sink {
	s := &Sink{w: bufio.NewWriter(w), lines: make(chan string, lines), quit: make(chan struct{}), done: make(chan struct{})}
	s.count = prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "fairway", Subsystem: "dns", Name: "log_lines_dropped_total",
		Help: "Lines of the plugins errors and log that were not written because too many were waiting.",
	}, func() float64 { return float64(s.Dropped()) })
	go s.run()
	return s
}

// SetDebug says whether lines of level Debug are written. They are not at first.
func (s *Sink) SetDebug(on bool) { s.debug.Store(on) }

// Dropped returns how many lines were dropped so far.
func (s *Sink) Dropped() uint64 { return s.dropped.Load() }

// Describe implements prometheus.Collector.
func (s *Sink) Describe(ch chan<- *prometheus.Desc) { s.count.Describe(ch) }

// Collect implements prometheus.Collector.
func (s *Sink) Collect(ch chan<- prometheus.Metric) { s.count.Collect(ch) }

// Line takes a line of a level. Control characters in it are made visible: what a client sends
// must not begin a line of its own.
func (s *Sink) Line(level, text string) {
	if level == Debug && !s.debug.Load() {
		return
	}
	select {
	case s.lines <- "[" + level + "] " + visible(text) + "\n":
	default:
		s.dropped.Add(1)
	}
}

// Close writes the lines that wait and ends the Sink. Later lines are not written.
func (s *Sink) Close() error {
	s.once.Do(func() { close(s.quit) })
	<-s.done
	return nil
}

func (s *Sink) run() {
	defer close(s.done)
	var told uint64
	for {
		select {
		case l := <-s.lines:
			_, _ = s.w.WriteString(l) // there is nowhere to say that the log is gone
			continue
		default:
		}
		if n := s.Dropped(); n != told {
			fmt.Fprintf(s.w, "[%s] plugin/log: %d lines were dropped\n", Warning, n-told)
			told = n
		}
		_ = s.w.Flush()
		select {
		case l := <-s.lines:
			_, _ = s.w.WriteString(l)
		case <-s.quit:
			for {
				select {
				case l := <-s.lines:
					_, _ = s.w.WriteString(l)
				default:
					_ = s.w.Flush()
					return
				}
			}
		}
	}
}

// visible replaces control characters by escapes.
func visible(text string) string {
	if strings.IndexFunc(text, isControl) < 0 {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		if isControl(c) {
			fmt.Fprintf(&b, "\\%03d", c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }
