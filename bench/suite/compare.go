package suite

import (
	"fmt"
	"maps"
	"slices"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A Difference is a figure that two results do not agree on.
type Difference struct {
	What  string         // cell, subject, path, measure
	Ratio stats.Interval // of the second to the first; over 1 is worse
}

func (d Difference) String() string {
	verdict := "slower"
	if d.Ratio.Value < 1 {
		verdict = "faster"
	}
	return fmt.Sprintf("%s: %s, %.2f times (%.2f to %.2f)", d.What, verdict, d.Ratio.Value, d.Ratio.Low, d.Ratio.High)
}

// noise is how far from 1 the whole interval of a ratio must be to count: two results are of two
// runs, between which the machine changes by more than within one.
const noise = 0.10

// Compare returns the figures in which b differs from a beyond noise, and how many it compared.
// Data-path figures are compared as ratios over the direct connection of the same round, so that
// a slower machine is no difference.
func Compare(a, b map[string]File) (out []Difference, compared int) {
	one, two := figures(a), figures(b)
	for _, what := range slices.Sorted(maps.Keys(one)) {
		x, y := one[what], two[what]
		if len(x) < 3 || len(y) < 3 {
			continue
		}
		compared++
		r := unpaired(y, x)
		if r.Low > 1+noise || r.High < 1/(1+noise) {
			out = append(out, Difference{what, r})
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

// figures flattens results to samples by name. Less is better in all of them.
func figures(files map[string]File) map[string][]float64 {
	out := map[string][]float64{}
	for cell, f := range files {
		if f.Data != nil {
			dataFigures(out, cell, *f.Data)
		}
		if f.Scale != nil {
			scaleFigures(out, cell, f.Scale.Samples)
		}
	}
	return out
}

func dataFigures(out map[string][]float64, cell string, r datapath.Result) {
	for _, s := range r.Series {
		if s.Subject == stage.Direct.Name {
			continue
		}
		for _, m := range []string{datapath.Connect50, datapath.Cycles, datapath.Trip50, datapath.Bulk, datapath.Datagram50} {
			direct := r.Values(stage.Direct.Name, s.Path, m)
			if len(direct) != len(s.Rounds[m]) {
				continue
			}
			ratios := make([]float64, len(direct))
			for i := range direct {
				ratios[i] = s.Rounds[m][i] / direct[i]
				if datapath.MoreIsBetter(m) {
					ratios[i] = 1 / ratios[i]
				}
			}
			out[cell+": "+s.Subject+", "+s.Path+", "+m] = ratios
		}
	}
}

func scaleFigures(out map[string][]float64, cell string, samples []scale.Sample) {
	for _, s := range samples {
		add := func(what string, values ...float64) {
			key := cell + ": " + s.Subject + ", " + what
			out[key] = append(out[key], values...)
		}
		if s.FirstSync > 0 {
			add("first sync", s.FirstSync.Seconds())
		}
		for _, c := range s.Changes {
			add("change", c.Seconds())
		}
		if s.Over == "" {
			add("memory", float64(s.RSS))
		}
	}
}
