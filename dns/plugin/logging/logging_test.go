package logging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
	"github.com/fairway-lb/fairway/dns/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged returns what the chain that build makes logs for requests. Time stands still in it.
func logged(t *testing.T, build func(*Sink) plugin.Handler, requests ...*plugin.Request) (text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		sink := NewSink(&b, 100)
		h := build(sink)
		for _, r := range requests {
			h.Serve(t.Context(), r)
		}
		_ = sink.Close()
		text = b.String()
	})
	return text
}

func rules(r ...corefile.LogRule) *corefile.Log { return &corefile.Log{Rules: r} }

func TestLogFormat(t *testing.T) {
	const soa = "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"
	next := &plugintest.Next{Replies: map[string]plugin.Reply{
		"a.example.org. A":    plugintest.Answers(t, dnswire.RcodeSuccess, "a.example.org. 60 IN A 192.0.2.1"),
		"none.example.org. A": plugintest.Answers(t, dnswire.RcodeNameError, "--", soa),
		"drop.example.org. A": {Drop: true},
		"odd.example.org. A":  {Rcode: 3000},
	}}
	common := corefile.LogRule{Zone: ".", Format: corefile.CommonLogFormat, Classes: []string{"all"}}
	format := func(f string) corefile.LogRule {
		return corefile.LogRule{Zone: ".", Format: f, Classes: []string{"all"}}
	}
	tests := []struct {
		name string
		rule corefile.LogRule
		ask  string
		want string
	}{
		{"common", common, "A.Example.org. A", `[INFO] 10.244.1.5:40212 - 7 "A IN a.example.org. udp 31 false 512" NOERROR qr,rd 60 0s`},
		{"EDNS", common, "a.example.org. A do", `[INFO] 10.244.1.5:40212 - 7 "A IN a.example.org. udp 42 true 1232" NOERROR qr,rd 60 0s`},
		{"tiny EDNS", common, "a.example.org. A buf=100", `[INFO] 10.244.1.5:40212 - 7 "A IN a.example.org. udp 42 false 512" NOERROR qr,rd 60 0s`},
		{"TCP and IPv6", common, "a.example.org. A tcp from=fd00::1", `[INFO] [fd00::1]:40212 - 7 "A IN a.example.org. tcp 31 false 65535" NOERROR qr,rd 60 0s`},
		{"no message", common, "refused.example.org. A", `[INFO] 10.244.1.5:40212 - 7 "A IN refused.example.org. udp 37 false 512" REFUSED qr,rd 37 0s`},
		{"dropped", common, "drop.example.org. A", `[INFO] 10.244.1.5:40212 - 7 "A IN drop.example.org. udp 34 false 512" NOERROR - 0 0s`},
		{"odd code", format("{rcode}"), "odd.example.org. A", "[INFO] 3000"},
		{"combined", format("{name}" + corefile.CombinedLogFormat[len(corefile.CommonLogFormat):]), "a.example.org. A", `[INFO] a.example.org. "0"`},
		{"braces", format("{ {nothing} {name} {unclosed"), "a.example.org. A", "[INFO] { {nothing} a.example.org. {unclosed"},
		{"metadata", format("{/log/type} {/log/class} {/other/label} {/view/name}"), "none.example.org. A", "[INFO] NXDOMAIN denial - -"},
		{"server", format("{local} {type} {class}"), "x.example.org. MX class=CH", "[INFO] 10.96.0.10 MX CH"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := plugintest.Ask(t, tc.ask)
			r.Msg.Id = 7
			got := logged(t, func(s *Sink) plugin.Handler { return NewLog(rules(tc.rule), s).Wrap(next) }, r)
			if diff := cmp.Diff(tc.want+"\n", got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLogClasses has a name of each class, and rules that want some of them.
func TestLogClasses(t *testing.T) {
	const soa = "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"
	next := &plugintest.Next{Replies: map[string]plugin.Reply{
		"ok.example.org. A":    plugintest.Answers(t, dnswire.RcodeSuccess, "ok.example.org. 60 IN A 192.0.2.1"),
		"none.example.org. A":  plugintest.Answers(t, dnswire.RcodeNameError, "--", soa),
		"empty.example.org. A": plugintest.Answers(t, dnswire.RcodeSuccess, "--", soa),
		"bad.example.org. A":   plugintest.Answers(t, dnswire.RcodeServerFailure),
		"sub.example.org. A":   plugintest.Answers(t, dnswire.RcodeSuccess, "--", "sub.example.org. 60 IN NS ns.example.org."),
		"drop.example.org. A":  {Drop: true},
		"ok.example.net. A":    plugintest.Answers(t, dnswire.RcodeSuccess),
		"ok.badexample.org. A": plugintest.Answers(t, dnswire.RcodeSuccess),
	}}
	tests := []struct {
		zone    string
		classes []string
		want    string
	}{
		{".", []string{"all"}, "ok none empty bad sub drop ok ok"},
		{"example.org.", []string{"success"}, "ok sub"},
		{"example.org.", []string{"denial"}, "none empty"},
		{"example.org.", []string{"error"}, "bad drop"},
		{"example.org.", []string{"denial", "error"}, "none empty bad drop"},
		{"example.org.", []string{"denial", "all"}, "ok none empty bad sub drop"},
		{"net.", []string{"all"}, "ok"},
	}
	for _, tc := range tests {
		t.Run(tc.zone+" "+strings.Join(tc.classes, " "), func(t *testing.T) {
			var requests []*plugin.Request
			for _, n := range []string{"ok.example.org", "none.example.org", "empty.example.org", "bad.example.org", "sub.example.org",
				"drop.example.org", "ok.example.net", "ok.badexample.org"} {
				requests = append(requests, plugintest.Ask(t, n+" A"))
			}
			rule := corefile.LogRule{Zone: tc.zone, Format: "{name}", Classes: tc.classes}
			text := logged(t, func(s *Sink) plugin.Handler { return NewLog(rules(rule), s).Wrap(next) }, requests...)
			var got []string
			for l := range strings.Lines(text) {
				first, _, _ := strings.Cut(strings.TrimPrefix(l, "[INFO] "), ".")
				got = append(got, first)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLogInjection has names and errors that try to begin a line of their own.
func TestLogInjection(t *testing.T) {
	r := plugintest.Ask(t, "a. A")
	wire := []byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x11a\n[ERROR] b\"\x1b[31m\x00\x00\x01\x00\x01")
	if err := r.Msg.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	next := plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
		return plugin.Fail("x", dnswire.RcodeServerFailure, errors.New("upstream said\n[INFO] all is well"))
	})
	got := logged(t, func(s *Sink) plugin.Handler {
		l := NewLog(rules(corefile.LogRule{Zone: ".", Format: "{name}", Classes: []string{"all"}}), s)
		return l.Wrap(NewErrors(&corefile.Errors{}, s).Wrap(next))
	}, r)
	want := "[ERROR] plugin/errors: 2 a\\010[error]\\ b\\\"\\027[31m. A: upstream said\\010[INFO] all is well\n[INFO] a\\010[error]\\ b\\\"\\027[31m.\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func failing(text string) plugin.Handler {
	return plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
		return plugin.Fail("x", dnswire.RcodeServerFailure, errors.New(text))
	})
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name   string
		kinds  []corefile.Consolidate
		errors []string
		want   string
	}{
		{"plain", nil, []string{"i/o timeout"}, "[ERROR] plugin/errors: 2 a.example.org. AAAA: i/o timeout\n"},
		{"summed up", []corefile.Consolidate{{Period: 30 * time.Second, Pattern: regexp.MustCompile(" timeout$"), Level: "warning"}},
			[]string{"read: timeout", "dial: timeout", "other"},
			"[ERROR] plugin/errors: 2 a.example.org. AAAA: other\n[WARNING] plugin/errors: 2 errors like ' timeout$' occurred in last 30s\n"},
		{"first and sum", []corefile.Consolidate{{Period: time.Minute, Pattern: regexp.MustCompile("^x"), Level: "info", ShowFirst: true}},
			[]string{"x1", "x2", "x3"}, "[INFO] plugin/errors: 2 a.example.org. AAAA: x1\n[INFO] plugin/errors: 3 errors like '^x' occurred in last 1m0s\n"},
		{"first alone", []corefile.Consolidate{{Period: time.Minute, Pattern: regexp.MustCompile("^x"), Level: "error", ShowFirst: true}},
			[]string{"x1"}, "[ERROR] plugin/errors: 2 a.example.org. AAAA: x1\n"},
		{"first pattern counts", []corefile.Consolidate{{Period: time.Minute, Pattern: regexp.MustCompile("^x"), Level: "error"},
			{Period: time.Second, Pattern: regexp.MustCompile("."), Level: "warning"}}, []string{"x1", "y"},
			"[WARNING] plugin/errors: 1 errors like '.' occurred in last 1s\n[ERROR] plugin/errors: 1 errors like '^x' occurred in last 1m0s\n"},
		{"debug is silent", []corefile.Consolidate{{Period: time.Minute, Pattern: regexp.MustCompile("^x"), Level: "debug"}}, []string{"x1"}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b bytes.Buffer
				sink := NewSink(&b, 100)
				e := NewErrors(&corefile.Errors{Consolidate: tc.kinds}, sink)
				for _, text := range tc.errors {
					e.Wrap(failing(text)).Serve(t.Context(), plugintest.Ask(t, "A.example.org. AAAA"))
				}
				time.Sleep(time.Hour)
				_ = e.Close()
				_ = sink.Close()
				if diff := cmp.Diff(tc.want, b.String()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestErrorsClose writes a sum whose period is not over.
func TestErrorsClose(t *testing.T) {
	var b bytes.Buffer
	sink := NewSink(&b, 100)
	e := NewErrors(&corefile.Errors{Consolidate: []corefile.Consolidate{{Period: time.Hour, Pattern: regexp.MustCompile("^x"), Level: "error"}}}, sink)
	h := e.Wrap(failing("x"))
	h.Serve(t.Context(), plugintest.Ask(t, "a. A"))
	_ = e.Close()
	h.Serve(t.Context(), plugintest.Ask(t, "b. A"))
	_ = sink.Close()
	want := "[ERROR] plugin/errors: 1 errors like '^x' occurred in last 1h0m0s\n[ERROR] plugin/errors: 2 b. A: x\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// A stuck is a writer that waits until it is let go.
type stuck struct {
	entered chan struct{}
	release chan struct{}
	once    sync.Once
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.release
	return s.Buffer.Write(p)
}

// TestSinkDrops fills a Sink whose writer is stuck. Nobody waits, and the loss is told.
func TestSinkDrops(t *testing.T) {
	w := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
	s := NewSink(w, 10)
	s.Line(Info, "first")
	<-w.entered
	for i := range 25 {
		s.Line(Info, fmt.Sprint(i))
	}
	if got := testutil.ToFloat64(s); got != 15 {
		t.Errorf("%v lines are dropped, want 15", got)
	}
	close(w.release)
	_ = s.Close()
	text := w.String()
	if n := strings.Count(text, "[INFO]"); n != 11 {
		t.Errorf("%d lines were written, want 11: %s", n, text)
	}
}

// TestSinkTells says in the log itself how much of it is missing.
func TestSinkTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
		s := NewSink(w, 1)
		s.Line(Info, "first")
		<-w.entered
		s.Line(Info, "second")
		s.Line(Info, "third")
		close(w.release)
		synctest.Wait()
		_ = s.Close()
		if want := "[WARNING] plugin/log: 1 lines were dropped\n"; !strings.Contains(w.String(), want) {
			t.Errorf("%q does not tell what was dropped", w.String())
		}
	})
}

// TestSinkHammer has many goroutines log while the Sink is closed.
func TestSinkHammer(t *testing.T) {
	s := NewSink(io.Discard, 16)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				s.Line(Error, "x")
			}
		})
	}
	_ = s.Close()
	wg.Wait()
}

// TestPasses tells which queries a log has nothing to say about.
func TestPasses(t *testing.T) {
	rule := func(zone string, classes ...string) corefile.LogRule {
		return corefile.LogRule{Zone: zone, Classes: classes}
	}
	for _, tc := range []struct {
		rules []corefile.LogRule
		name  string
		want  bool
	}{
		{[]corefile.LogRule{rule(".", "all")}, "a.example.org.", false},
		{[]corefile.LogRule{rule(".", "error")}, "a.example.org.", true},
		{[]corefile.LogRule{rule(".", "error", "denial")}, "a.example.org.", false},
		{[]corefile.LogRule{rule(".", "error", "all")}, "a.example.org.", false},
		{[]corefile.LogRule{rule("example.org.", "all")}, "a.EXAMPLE.org.", false},
		{[]corefile.LogRule{rule("example.org.", "all")}, "a.badexample.org.", true},
		{[]corefile.LogRule{rule("example.org.", "error"), rule("example.net.", "success")}, "a.example.org.", false},
	} {
		msg, err := plugintest.Ask(t, tc.name+" A").Msg.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q wire.Query
		q.Parse(msg)
		if got := NewLog(rules(tc.rules...), nil).Passes(&q); got != tc.want {
			t.Errorf("%v: %s passes: %v", tc.rules, tc.name, got)
		}
	}
}
