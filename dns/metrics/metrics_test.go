package metrics

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"pgregory.net/rapid"
)

func page(t rapid.TB, m *Metrics) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(m)
	out := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if out.Code != http.StatusOK {
		t.Fatal(out.Body)
	}
	return out.Body.String()
}

// TestPage compares a page with what it should say, after two workers counted. UPDATE=1 rewrites
// the file.
func TestPage(t *testing.T) {
	m := New("1.2.3")
	b := Block{Server: "dns://:53", Zone: "."}
	m.SetEnabled([]Enabled{{b, "kubernetes"}})
	q := Query{Type: 1, In: 40, Out: 130, By: PluginOf("kubernetes")}
	m.Series(b).Stripe(UDP, 0).Count(&q)
	m.Series(b).Stripe(UDP, 0).Took(1, 300*time.Microsecond)
	var tally Tally
	tally.Count(m.Series(b).Stripe(UDP, 1), &q)
	tally.Flush(300 * time.Microsecond)
	tcp := m.Series(b).Stripe(TCP, 0)
	tcp.Count(&Query{Type: 65400, V6: true, DO: true, In: 511, Out: 65000, Rcode: 3000, By: PluginOf("nobody")})
	tcp.Took(1, time.Hour)
	var got []string
	for line := range strings.Lines(page(t, m)) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "build_info") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/page.txt", []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/page.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

// TestSeriesStay: a block that comes back after a reload goes on counting where it was.
func TestSeriesStay(t *testing.T) {
	m := New("x")
	b := Block{Server: "dns://:53", Zone: "example.org."}
	first, stripe := m.Series(b), m.Series(b).Stripe(TCP, 3)
	if m.Series(b) != first || m.Series(b).Stripe(TCP, 3) != stripe {
		t.Error("the same labels got two sets of counters")
	}
	if m.Series(b).Stripe(TCP, 0) == m.Series(b).Stripe(UDP, 0) {
		t.Error("UDP and TCP share counters")
	}
}

// TestTally: whatever is in a batch, the counters are those of counting one by one.
func TestTally(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, many := New("x"), New("x")
		blocks := []Block{{Server: "dns://:53", Zone: "."}, {Server: "dns://:53", Zone: "a."}, {Server: "dns://:54", Zone: "."}}
		tally := Tally{last: time.Millisecond} // of a batch of too many kinds, part counts as the last one
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			n := rapid.IntRange(0, 30).Draw(t, "queries")
			for range n {
				b := rapid.SampledFrom(blocks).Draw(t, "block")
				q := Query{V6: rapid.Bool().Draw(t, "v6"), Type: rapid.SampledFrom([]uint16{1, 28, 65400}).Draw(t, "type"), DO: rapid.Bool().Draw(t, "do"),
					In: rapid.IntRange(12, 700).Draw(t, "in"), Out: rapid.IntRange(0, 70000).Draw(t, "out"), Rcode: rapid.IntRange(0, 30).Draw(t, "rcode"),
					By: Plugin(rapid.IntRange(0, 3).Draw(t, "plugin"))}
				one.Series(b).Stripe(UDP, 0).Count(&q)
				one.Series(b).Stripe(UDP, 0).Took(1, time.Millisecond)
				tally.Count(many.Series(b).Stripe(UDP, 0), &q)
			}
			tally.Flush(time.Millisecond)
		}
		if diff := cmp.Diff(page(t, one), page(t, many)); diff != "" {
			t.Errorf("one by one, and in batches:\n%s", diff)
		}
	})
}

func TestCountDoesNotAllocate(t *testing.T) {
	s := New("x").Series(Block{}).Stripe(UDP, 0)
	q := Query{Type: 28, In: 50, Out: 200}
	var tally Tally
	if n := testing.AllocsPerRun(100, func() { tally.Count(s, &q); tally.Flush(time.Microsecond); s.Count(&q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCount is what a query costs in a batch of 16 of two kinds.
func BenchmarkCount(b *testing.B) {
	s := New("x").Series(Block{}).Stripe(UDP, 0)
	qs := [2]Query{{Type: 1, In: 50, Out: 200}, {Type: 28, In: 50, Out: 200}}
	var tally Tally
	n := 0
	for b.Loop() {
		tally.Count(s, &qs[n%2])
		if n++; n%16 == 0 {
			tally.Flush(time.Microsecond)
		}
	}
}
