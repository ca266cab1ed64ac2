package suite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A Difference is a figure that two results do not agree on.
type Difference struct {
	What  string         // cell, subject, path, measure
	Ratio stats.Interval // of the second to the first; over 1 is worse
}

func (d Difference) String() string {
	verdict := "worse"
	if d.Ratio.Value < 1 {
		verdict = "better"
	}
	return fmt.Sprintf("%s: %s, %.2f times (%.2f to %.2f)", d.What, verdict, d.Ratio.Value, d.Ratio.Low, d.Ratio.High)
}

// noise is how far from 1 the whole interval of a ratio must be to count: two results are of two
// runs, between which the machine changes by more than within one.
const noise = 0.10

// Compare returns the figures in which b differs from a beyond noise, and how many it compared.
// Only medians and what is as steady are compared. Data-path figures are compared as ratios over
// the direct connection of the same round, so that a slower machine is no difference.
func Compare(a, b map[string]File) (out []Difference, compared int) {
	one, two := figuresOf(a), figuresOf(b)
	for _, f := range one.list {
		if !f.typical || strings.HasPrefix(f.subject, stage.Direct.Name) {
			continue
		}
		x, y := one.costs(f.key), two.costs(f.key)
		if len(x) < 3 || len(y) < 3 {
			continue
		}
		compared++
		r := unpaired(y, x)
		if r.Low > 1+noise || r.High < 1/(1+noise) {
			where := strings.TrimSuffix(f.cell+", "+f.where, ", ")
			out = append(out, Difference{where + ": " + f.subject + ", " + f.measure, r})
		}
	}
	return out, compared
}

// unpaired is the ratio of samples that were not measured together.
func unpaired(a, b []float64) stats.Interval {
	if len(a) == len(b) { // else Ratio would pair them
		a = append(slices.Clone(a), stats.Median(a))
	}
	return stats.Ratio(a, b)
}

// costs are the samples of a figure, turned so that less is better, and over the direct
// connection where there is one.
func (s *figures) costs(k key) []float64 {
	f := s.by[k]
	out := slices.Clone(f.samples)
	if d, ok := s.direct(f); ok && len(d.samples) == len(out) {
		for i := range out {
			out[i] /= d.samples[i]
		}
	}
	if f.more {
		for i := range out {
			out[i] = 1 / out[i]
		}
	}
	return out
}
