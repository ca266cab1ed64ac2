package suite

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/bench/stats"
)

// A pair is one of ours beside a rival.
type pair struct {
	ours, theirs figure
	ratio        stats.Interval // of ours to theirs; a bound if one is over its limit; NaN without
}

// pairs are all that can be compared, in the order of a report.
func (s *figures) pairs() (out []pair) {
	for _, f := range s.list {
		for _, rival := range rivals(f.subject) {
			if p, ok := s.pair(f.key, rival); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

// pair is the figure beside that of another subject, if both have one or a limit.
func (s *figures) pair(k key, rival string) (pair, bool) {
	both := [2]key{k, k.of(rival)}
	if p, ok := s.known[both]; ok {
		return p, true
	}
	p := pair{ours: s.by[k], theirs: s.by[k.of(rival)]}
	usable := func(f figure) bool { return len(f.samples) > 0 || f.limit > 0 }
	if !usable(p.ours) || !usable(p.theirs) || p.ours.unit != p.theirs.unit || p.ours.limit > 0 && p.theirs.limit > 0 {
		return p, false
	}
	p.ratio = stats.Interval{Value: math.NaN(), Low: math.Inf(-1), High: math.Inf(1)}
	switch {
	case p.ours.sum:
	case p.theirs.limit > 0:
		p.ratio.High = p.ours.value() / p.theirs.limit
	case p.ours.limit > 0:
		p.ratio.Low = p.ours.limit / p.theirs.value()
	default:
		if p.theirs.value() == 0 {
			return p, false
		}
		p.ratio = stats.Ratio(p.ours.samples, p.theirs.samples)
	}
	s.known[both] = p
	return p, true
}

// text is the ratio as a table has it.
func (p pair) text() string {
	switch r := p.ratio; {
	case p.ours.sum:
		return fmt.Sprintf("%s against %s", number(p.ours.value()), number(p.theirs.value()))
	case math.IsNaN(r.Value) && !math.IsInf(r.High, 0):
		return fmt.Sprintf("under %.2g", r.High)
	case math.IsNaN(r.Value) && !math.IsInf(r.Low, 0):
		return fmt.Sprintf("over %.2g", r.Low)
	case math.IsInf(r.High, 0):
		return fmt.Sprintf("%.2f", r.Value)
	default:
		return fmt.Sprintf("%.2f (%.2f to %.2f)", r.Value, r.Low, r.High)
	}
}

const (
	// enough is how many samples the interval of a ratio needs for a verdict. Of fewer, all are
	// on the same side of 1 too often by chance.
	enough = 5
	// few is how far a ratio of fewer samples must be from 1 to count.
	few = 0.10
)

// behind reports whether ours is worse than theirs, beyond the interval.
func (p pair) behind() bool { return worse(p.ratio, p.ours, p.theirs) }

// ahead reports whether ours is better than theirs, beyond the interval.
func (p pair) ahead() bool {
	r := p.ratio
	return worse(stats.Interval{Value: 1 / r.Value, Low: 1 / r.High, High: 1 / r.Low}, p.theirs, p.ours)
}

func worse(r stats.Interval, a, b figure) bool {
	switch {
	case a.sum:
		return a.value() > b.value()
	case a.limit > 0:
		return true
	case b.limit > 0:
		return false
	case min(len(a.samples), len(b.samples)) < enough:
		if a.more {
			return r.Value < 1/(1+few)
		}
		return r.Value > 1+few
	case a.more:
		return r.High < 1
	default:
		return r.Low > 1
	}
}

// tolerance is how far the medians of a subject and its copy may be apart.
const tolerance = 0.05

// A twin is a subject beside its copy, in one cell.
type twin struct {
	cell, subject string
	compared      int      // typical figures
	apart         []string // those of them that differ by more than the tolerance
	beyond, all   int      // figures that differ beyond their interval, of how many
}

// twins are the subjects that were measured twice.
func (s *figures) twins() []twin {
	var out []twin
	for _, f := range s.list {
		p, ok := s.pair(f.key, f.subject+again)
		if !ok || f.sum {
			continue
		}
		at := slices.IndexFunc(out, func(t twin) bool { return t.cell == f.cell && t.subject == f.subject })
		if at < 0 {
			at = len(out)
			out = append(out, twin{cell: f.cell, subject: f.subject})
		}
		t := &out[at]
		if len(f.samples) >= enough {
			t.all++
			if p.behind() || p.ahead() {
				t.beyond++
			}
		}
		if f.typical && len(f.samples) >= 3 {
			t.compared++
			if math.Abs(p.ratio.Value-1) > tolerance {
				t.apart = append(t.apart, strings.TrimPrefix(f.where+": ", ": ")+f.measure+" "+fmt.Sprintf("%.2f", 1/p.ratio.Value))
			}
		}
	}
	return out
}
