package proxiertest

import (
	"math"
	"testing"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// How connections spread over endpoints. Everywhere else, a scenario only asks who is in the set.
var balanceScenarios = []Scenario{
	{Name: "balance/every endpoint gets its share",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "b", "c", "f", "g")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "c", "f", "g")}},
			Check: func(t testing.TB, r *Running) {
				evenly(t, r.Count(t, client, "10.96.0.10:80", proxier.TCP, 1000), 5)
			},
		}}},
}

// Count opens n connections and returns how often each endpoint answered.
func (r *Running) Count(t testing.TB, from Place, to string, proto proxier.Protocol, n int) map[string]int {
	t.Helper()
	addr, err := r.tale.address(to)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, a := range r.Lab.Probes(netlab.Probe{From: from.ns, To: addr, Protocol: proto, Wait: answerWait}, n) {
		if a.Verdict != netlab.Reached {
			t.Fatalf("%s to %s: %s", from, to, a)
		}
		seen[a.Name]++
	}
	return seen
}

// evenly checks that n endpoints were chosen with equal probability, by Pearson's χ² test. A fair
// choice fails once in some million runs.
func evenly(t testing.TB, seen map[string]int, n int) {
	t.Helper()
	total := 0
	for _, k := range seen {
		total += k
	}
	want := float64(total) / float64(n)
	chi2 := float64(n-len(seen)) * want // those that were never chosen
	for _, k := range seen {
		chi2 += (float64(k) - want) * (float64(k) - want) / want
	}
	// Wilson and Hilferty: the cube root of χ²/d is nearly normal; 5σ.
	d := float64(n - 1)
	limit := d * math.Pow(1-2/(9*d)+5*math.Sqrt(2/(9*d)), 3)
	if chi2 > limit {
		t.Errorf("connections are not spread evenly: %v, χ² is %.1f, at most %.1f is chance", seen, chi2, limit)
	}
}
