package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestQuantile(t *testing.T) {
	s := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.99: 3.97} {
		if got := Quantile(s, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if s[0] != 4 {
		t.Error("the samples were sorted in place")
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
}

// The interval must hold the true ratio about as often as it says, and rounds must cancel out.
func TestRatio(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	held := 0
	for range 200 {
		var a, b []float64
		for range 15 {
			round := 1 + 5*random.Float64() // other work on the machine
			a = append(a, round*2*(1+0.05*random.NormFloat64()))
			b = append(b, round*(1+0.05*random.NormFloat64()))
		}
		r := Ratio(a, b)
		if math.Abs(r.Value-2) > 0.2 || r.High-r.Low > 0.5 {
			t.Fatalf("got %+v", r)
		}
		if r.Low <= 2 && 2 <= r.High {
			held++
		}
	}
	if held < 175 {
		t.Errorf("the true ratio was in %d of 200 intervals", held)
	}
	if r := Ratio([]float64{2, 4, 6}, []float64{1, 2}); math.Abs(r.Value-4/1.5) > 1e-9 {
		t.Errorf("unpaired: %+v", r)
	}
	if r := Ratio([]float64{2}, []float64{1}); r.Value != 2 || !math.IsInf(r.High, 1) {
		t.Errorf("one sample: %+v", r)
	}
}
