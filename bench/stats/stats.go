// Package stats has the few statistics that the measurements need: medians, quantiles, and
// ratios with the interval that they are known to lie in. It knows nothing of what is measured.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// Quantile returns the q-quantile (0 to 1) of samples, in any order, interpolated between the two
// nearest; NaN if there are none.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	at := q * float64(len(s)-1)
	low := int(at)
	if low+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// Median returns the median of samples, NaN if there are none.
func Median(samples []float64) float64 { return Quantile(samples, 0.5) }

// An Interval is an estimate, and the bounds between which the true value lies with 95 %
// confidence.
type Interval struct{ Value, Low, High float64 }

// resamples is how often Ratio draws anew: enough for two stable digits of the bounds.
const resamples = 2000

// Ratio estimates how many times b is a. If both have as many samples, a[i] and b[i] are taken to
// be of the same round, measured right after each other: the estimate is the median of a[i]/b[i],
// so that what slows down a whole round does not count. Else it is the ratio of the medians. The
// bounds are by bootstrap (percentiles, with a fixed seed, so that the same samples always give
// the same interval). With fewer than three samples the bounds are infinitely wide.
func Ratio(a, b []float64) Interval {
	if len(a) == len(b) {
		ratios := make([]float64, len(a))
		for i := range a {
			ratios[i] = a[i] / b[i]
		}
		a, b = ratios, []float64{1}
	} else {
		a, b = slices.Clone(a), slices.Clone(b)
	}
	r := Interval{Median(a) / Median(b), math.Inf(-1), math.Inf(1)}
	if len(a) < 3 || len(b) == 0 {
		return r
	}
	slices.Sort(a)
	slices.Sort(b)
	again := make([]float64, resamples)
	of := medians(len(b))
	for i, m := range medians(len(a)) {
		again[i] = m.of(a) / of[i].of(b)
	}
	r.Low, r.High = Quantile(again, 0.025), Quantile(again, 0.975)
	return r
}

// A rank is the median of a sample that was drawn anew, as the mean of two of the sorted samples
// that it was drawn from.
type rank struct{ low, high int32 }

func (r rank) of(sorted []float64) float64 { return (sorted[r.low] + sorted[r.high]) / 2 }

var (
	drawing sync.Mutex
	drawn   = map[int][]rank{}
)

// medians are the ranks of the medians of as many samples, drawn anew again and again: which they
// are does not depend on the samples, so they are drawn once.
func medians(n int) []rank {
	drawing.Lock()
	defer drawing.Unlock()
	if out, ok := drawn[n]; ok {
		return out
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	out, draw := make([]rank, resamples), make([]int32, n)
	for i := range out {
		for j := range draw {
			draw[j] = int32(random.IntN(n))
		}
		slices.Sort(draw)
		out[i] = rank{draw[(n-1)/2], draw[n/2]}
	}
	drawn[n] = out
	return out
}
