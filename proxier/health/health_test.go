package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/proxier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func revision(n uint64) *proxier.Snapshot {
	return &proxier.Snapshot{Revision: n, Node: &proxier.Node{Eligible: true}}
}

// TestMonitor: each case is a story of one node; the codes are what it answers at its end.
func TestMonitor(t *testing.T) {
	const timeout = time.Minute
	ok, bad := 200, 503
	r1, r2, r3 := revision(1), revision(2), revision(3)
	leaving := revision(4)
	leaving.Node.Eligible = false
	applied := func(m *Monitor, s *proxier.Snapshot) { m.Applied(proxier.Applied{Now: s}) }
	tests := []struct {
		name           string
		story          func(m *Monitor)
		livez, healthz int
	}{
		{"before the first snapshot", func(m *Monitor) { time.Sleep(time.Hour) }, ok, ok},
		{"first apply takes long", func(m *Monitor) { m.Published(r1); time.Sleep(time.Hour) }, ok, ok},
		{"at rest", func(m *Monitor) { m.Published(r1); applied(m, r1); time.Sleep(time.Hour) }, ok, ok},
		{"applied before it was told", func(m *Monitor) { applied(m, r1); m.Published(r1); time.Sleep(time.Hour) }, ok, ok},
		{"a change waits, not too long", func(m *Monitor) {
			m.Published(r1)
			applied(m, r1)
			m.Published(r2)
			time.Sleep(timeout - time.Second)
		}, ok, ok},
		{"a change waits too long", func(m *Monitor) {
			m.Published(r1)
			applied(m, r1)
			m.Published(r2)
			time.Sleep(timeout + time.Second)
		}, bad, bad},
		{"newer changes do not hide the old one", func(m *Monitor) {
			m.Published(r1)
			applied(m, r1)
			m.Published(r2)
			time.Sleep(timeout - time.Second)
			m.Published(r3)
			time.Sleep(2 * time.Second)
		}, bad, bad},
		{"applies fail", func(m *Monitor) {
			m.Published(r1)
			applied(m, r1)
			m.Published(r2)
			for range 20 {
				m.Applied(proxier.Applied{Now: r2, Err: errors.New("no")})
				time.Sleep(10 * time.Second)
			}
		}, bad, bad},
		{"it catches up", func(m *Monitor) {
			m.Published(r1)
			applied(m, r1)
			m.Published(r2)
			time.Sleep(time.Hour)
			applied(m, r2)
		}, ok, ok},
		{"a newer one came during the apply", func(m *Monitor) {
			m.Published(r1)
			m.Published(r2)
			applied(m, r1)
			time.Sleep(timeout + time.Second)
		}, bad, bad},
		{"the node is going away", func(m *Monitor) { m.Published(leaving); applied(m, leaving) }, ok, bad},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMonitor(timeout, "IPv4", "IPv6")
				tc.story(m)
				var told []int
				h := m.Handler(func(_ string, code int) { told = append(told, code) })
				var got []int
				for _, path := range []string{"/livez", "/healthz"} {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
					got = append(got, w.Code)
				}
				want := []int{tc.livez, tc.healthz}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("codes of livez and healthz (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want, told); diff != "" {
					t.Errorf("codes that were told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestBody pins the field names that tools read from kube-proxy's answers.
func TestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock of a bubble starts at midnight UTC 2000-01-01
		m := NewMonitor(time.Minute, "IPv4", "IPv6")
		s := revision(1)
		m.Published(s)
		m.Applied(proxier.Applied{Now: s})
		time.Sleep(time.Hour)
		get := func(path string) (string, http.Header) {
			w := httptest.NewRecorder()
			m.Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w.Body.String(), w.Header()
		}
		tests := map[string]string{
			"/healthz": `{"lastUpdated":"2000-01-01T01:00:00Z","currentTime":"2000-01-01T01:00:00Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"2000-01-01T00:00:00Z","healthy":true},"IPv6":{"lastUpdated":"2000-01-01T00:00:00Z","healthy":true}}}`,
			"/livez":   `{"lastUpdated":"2000-01-01T01:00:00Z","currentTime":"2000-01-01T01:00:00Z","healthy":true,"status":{"IPv4":{"lastUpdated":"2000-01-01T00:00:00Z","healthy":true},"IPv6":{"lastUpdated":"2000-01-01T00:00:00Z","healthy":true}}}`,
		}
		for path, want := range tests {
			body, header := get(path)
			var a, b any
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(want), &b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, a); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
			if header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: headers %v", path, header)
			}
		}
	})
}
