package metrics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/proxier"
)

// TestProgramming: each change is observed once, when the first snapshot with it is in the kernel.
func TestProgramming(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(1000+int64(second), 0) }
	v4 := func(second int) proxier.Trigger { return proxier.Trigger{At: at(second)} }
	v6 := func(second int) proxier.Trigger { return proxier.Trigger{At: at(second), IPv6: true} }
	type step = func(*Metrics)
	published := func(revision uint64, triggers ...proxier.Trigger) step {
		return func(m *Metrics) { m.Published(snapshot(revision), triggers) }
	}
	applied := func(revision uint64, from, to int) step {
		return func(m *Metrics) {
			m.Applied(proxier.Applied{Now: snapshot(revision), Start: at(from), Took: at(to).Sub(at(from))})
		}
	}
	failed := func(m *Metrics) { m.Applied(proxier.Applied{Now: snapshot(1), Err: errors.New("no")}) }
	for _, c := range []struct {
		name  string
		steps []step
		want  string // count and sum of IPv4, and of IPv6
	}{
		{"nothing", nil, "0 0 0 0"},
		{"the first state", []step{published(1), applied(1, 0, 9)}, "0 0 0 0"},
		{"published, not applied", []step{published(1), applied(1, 0, 1), published(2, v4(5))}, "0 0 0 0"},
		{"until the end of the apply", []step{published(1, v4(5)), applied(1, 7, 9)}, "1 4 0 0"},
		{"only once", []step{published(1, v4(5)), applied(1, 7, 9), applied(1, 30, 31), published(2), applied(2, 40, 41)}, "1 4 0 0"},
		{"by family", []step{published(1, v4(5), v6(6), v6(8)), applied(1, 7, 9)}, "1 4 2 4"},
		{"a snapshot that was skipped", []step{published(1, v4(1)), published(2, v4(2)), applied(2, 3, 4)}, "2 5 0 0"},
		{"a newer one waits", []step{published(1, v4(1)), published(2, v4(2)), applied(1, 3, 4)}, "1 3 0 0"},
		{"a failure first", []step{published(1, v4(1)), failed, applied(1, 8, 9)}, "1 8 0 0"},
		{"told after the apply", []step{applied(1, 8, 9), published(1, v4(2))}, "1 7 0 0"},
		{"a clock that is ahead", []step{published(1, v4(60)), applied(1, 8, 9)}, "1 0 0 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New("v1", "iptables", []string{"IPv4", "IPv6"})
			for _, s := range c.steps {
				s(m)
			}
			var got []string
			for _, line := range values(t, m, "kubeproxy_network_programming") {
				_, value, _ := strings.Cut(line, " ")
				got = append(got, value)
			}
			// In order of name: counts of both families, then sums.
			if len(got) != 4 {
				t.Fatalf("%d values: %v", len(got), got)
			}
			if diff := cmp.Diff(c.want, strings.Join([]string{got[0], got[2], got[1], got[3]}, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestProgrammingFamilies: a family that this node does not program has no series.
func TestProgrammingFamilies(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	m.Published(snapshot(1), []proxier.Trigger{{At: time.Unix(1000, 0), IPv6: true}})
	m.Applied(proxier.Applied{Now: snapshot(1), Start: time.Unix(1001, 0)})
	if n, err := testutil.GatherAndCount(m.Registry(), "kubeproxy_network_programming_duration_seconds"); err != nil || n != 1 {
		t.Errorf("%d series, %v", n, err)
	}
}

// TestProgrammingIsBounded: a node that cannot apply for hours remembers so much, and the oldest.
func TestProgrammingIsBounded(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	for i := 0; i < maxWaiting+10; {
		var some []proxier.Trigger
		for range 1000 { // at once: all that wait are looked at each time
			some = append(some, proxier.Trigger{At: time.Unix(int64(i), 0)})
			i++
		}
		m.Published(snapshot(1), some)
	}
	if n := len(m.programming.waiting); n != maxWaiting || m.programming.waiting[0].At != time.Unix(0, 0) {
		t.Errorf("%d are remembered", n)
	}
	m.Applied(proxier.Applied{Now: snapshot(1), Start: time.Unix(maxWaiting, 0)})
	if m.programming.waiting != nil {
		t.Error("memory is kept")
	}
}

// TestProgrammingBuckets: recording rules ask for these.
func TestProgrammingBuckets(t *testing.T) {
	b := programmingBuckets
	if len(b) != 80 || b[0] != 0.25 || b[2] != 1 || b[60] != 59 || b[61] != 60 || b[72] != 115 || b[73] != 120 || b[79] != 300 {
		t.Errorf("%d buckets: %v", len(b), b)
	}
}
