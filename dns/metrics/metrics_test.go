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
)

func page(t *testing.T, m *Metrics) string {
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
	m.Series(b).Stripe(UDP, 1).Count(&q)
	m.Series(b).Stripe(UDP, 1).Took(2, 300*time.Microsecond)
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
	if m.Series(b) != m.Series(b) || m.Series(b).Stripe(TCP, 3) != m.Series(b).Stripe(TCP, 3) {
		t.Error("the same labels got two sets of counters")
	}
	if m.Series(b).Stripe(TCP, 0) == m.Series(b).Stripe(UDP, 0) {
		t.Error("UDP and TCP share counters")
	}
}

func TestCountDoesNotAllocate(t *testing.T) {
	s := New("x").Series(Block{}).Stripe(UDP, 0)
	q := Query{Type: 28, In: 50, Out: 200}
	if n := testing.AllocsPerRun(100, func() { s.Count(&q); s.Took(1, time.Microsecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	s := New("x").Series(Block{}).Stripe(UDP, 0)
	q := Query{Type: 28, In: 50, Out: 200}
	for b.Loop() {
		s.Count(&q)
		s.Took(1, time.Microsecond)
	}
}
