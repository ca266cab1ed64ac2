package suite

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A programmed is one measure of programming.
type programmed struct {
	name string
	// of returns the figures of one run, none if it has none.
	of      func(scale.Sample) []float64
	sum     bool
	typical bool
	// once is set for what the first run measures only, and not without churn.
	once bool
	// calls is set for what needs system calls to be counted.
	calls bool
	// unit tells what the figure is, where that depends on the subject. Only figures that are the
	// same can be compared. Nil where it does not depend.
	unit func(scale.Sample) string
}

const (
	firstSync  = "first sync, s"
	changeP50  = "one change p50, ms"
	changeCPU  = "CPU of a change, ms"
	residentMB = "memory, MB"
)

// programmingMeasures are those of a cell, in the order of a report.
var programmingMeasures = []programmed{
	{name: firstSync, typical: true, of: func(s scale.Sample) []float64 { return over0(s.FirstSync.Seconds()) }},
	{name: changeP50, typical: true, of: func(s scale.Sample) (out []float64) {
		for _, c := range s.Changes {
			out = append(out, milli(c))
		}
		return out
	}},
	{name: "one change p99, ms", of: func(s scale.Sample) []float64 {
		var all []float64
		for _, c := range s.Changes {
			all = append(all, milli(c))
		}
		if len(all) == 0 {
			return nil
		}
		return []float64{stats.Quantile(all, 0.99)}
	}},
	{name: changeCPU, typical: true, of: ofChange(func(c process.Cost) float64 { return milli(c.CPU()) })},
	{name: "CPU of a change, user, ms", of: ofChange(func(c process.Cost) float64 { return milli(c.User) })},
	{name: "CPU of a change, kernel, ms", of: ofChange(func(c process.Cost) float64 { return milli(c.System) })},
	{name: "system calls of a change", calls: true, typical: true, of: ofChange(func(c process.Cost) float64 { return float64(c.Calls) })},
	{name: "first sync: CPU, s", typical: true, of: ofSync(func(c process.Cost) float64 { return c.CPU().Seconds() })},
	{name: "first sync: CPU, kernel, s", of: ofSync(func(c process.Cost) float64 { return c.System.Seconds() })},
	{name: "first sync: system calls", calls: true, of: ofSync(func(c process.Cost) float64 { return float64(c.Calls) })},
	{name: "rules", of: func(s scale.Sample) []float64 {
		if s.Rules == nil {
			return nil
		}
		return over0(float64(s.Rules.Rules))
	}},
	{name: "in the kernel, kB", unit: func(s scale.Sample) string { return s.Rules.Unit }, of: func(s scale.Sample) []float64 {
		if s.Rules == nil {
			return nil
		}
		return over0(float64(s.Rules.Bytes) / 1e3)
	}},
	{name: residentMB, typical: true, of: func(s scale.Sample) []float64 { return over0(float64(s.RSS) / 1e6) }},
	{name: "peak memory, MB", typical: true, of: func(s scale.Sample) []float64 { return over0(float64(s.HWM) / 1e6) }},
	{name: "peak memory of its largest tool, MB", of: func(s scale.Sample) []float64 { return over0(float64(s.ToolHWM) / 1e6) }},
	{name: "rolling update of 100: lag, ms", once: true, of: ofChurn(rolling, func(c scale.Churn) float64 { return milli(c.Lag) })},
	{name: "rolling update of 100: CPU per change, ms", once: true, of: ofChurn(rolling, perChange)},
	{name: "rolling update of 100: failed connections", once: true, sum: true, of: ofChurn(rolling, func(c scale.Churn) float64 { return float64(c.Failed) })},
	{name: "100 changes/s: lag, ms", once: true, of: ofChurn(churn, func(c scale.Churn) float64 { return milli(c.Lag) })},
	{name: "100 changes/s: CPU per change, ms", once: true, of: ofChurn(churn, perChange)},
	{name: "100 changes/s: slowest connection, ms", once: true, of: ofChurn(churn, func(c scale.Churn) float64 { return milli(c.Longest) })},
	{name: "100 changes/s: failed connections", once: true, sum: true, of: ofChurn(churn, func(c scale.Churn) float64 { return float64(c.Failed) })},
}

func rolling(s scale.Sample) *scale.Churn { return s.Rolling }
func churn(s scale.Sample) *scale.Churn   { return s.Churn }

// perChange is CPU time.
func perChange(c scale.Churn) float64 { return milli(c.Cost.CPU()) / float64(max(1, c.Changes)) }

// ofChange is a cost of one of the single changes.
func ofChange(of func(process.Cost) float64) func(scale.Sample) []float64 {
	return func(s scale.Sample) []float64 {
		if s.ChangesCost == nil || len(s.Changes) == 0 {
			return nil
		}
		return []float64{of(*s.ChangesCost) / float64(len(s.Changes))}
	}
}

func ofSync(of func(process.Cost) float64) func(scale.Sample) []float64 {
	return func(s scale.Sample) []float64 {
		if s.SyncCost == nil {
			return nil
		}
		return []float64{of(*s.SyncCost)}
	}
}

func ofChurn(which func(scale.Sample) *scale.Churn, of func(scale.Churn) float64) func(scale.Sample) []float64 {
	return func(s scale.Sample) []float64 {
		if c := which(s); c != nil {
			return []float64{of(*c)}
		}
		return nil
	}
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func over0(x float64) []float64 {
	if x <= 0 {
		return nil
	}
	return []float64{x}
}

// ended is what figures are of that a subject had when it was over its limit.
const ended = "when it was ended"

func (s *figures) addProgramming(cell string, p *Programming) {
	for _, m := range programmingMeasures {
		for _, subject := range subjects(func(name string) bool {
			return slices.ContainsFunc(p.Samples, func(x scale.Sample) bool { return x.Subject == name })
		}) {
			s.add(programmingFigure(cell, subject, m, p))
		}
	}
}

// programmingFigure gathers the runs of a subject.
func programmingFigure(cell, subject string, m programmed, p *Programming) figure {
	f := figure{key: key{cell: cell, measure: m.name, subject: subject}, sum: m.sum, typical: m.typical}
	limit := fmt.Sprintf("over %.0f s", p.Options.Limit.Seconds())
	broken, runs := 0, 0
	for _, x := range p.Samples {
		if x.Subject != subject {
			continue
		}
		runs++
		got := m.of(x)
		if m.calls && x.NoCalls != "" {
			got = nil
		}
		f.samples = append(f.samples, got...)
		if m.unit != nil && len(got) > 0 {
			f.unit = m.unit(x)
			f.note = ", " + f.unit
		}
		why := ""
		switch {
		case x.Err != "":
			why = x.Err
		case x.Known != nil:
			why = fmt.Sprintf("not run: over %.0f s with %s Services", x.Known.Limit.Seconds(), thousands(x.Known.Services))
		case len(got) == 0 && m.calls && x.NoCalls != "":
			why = x.NoCalls
		case x.Over == "first sync" && m.name == firstSync:
			why, f.limit = limit, p.Options.Limit.Seconds()
		case x.Over == "change" && m.name == changeP50:
			why, f.limit = limit, milli(p.Options.Limit)
		case x.Over != "":
			why = x.Over + " " + limit
		}
		if x.Over != "" && len(got) > 0 {
			f.unit, f.note = ended, ", "+ended // which is no basis for a ratio
		}
		if why != "" {
			broken++
			f.reason = cmp.Or(f.reason, why)
		}
	}
	if broken > 0 && broken < runs {
		f.note += fmt.Sprintf(" (%s in %d of %d runs)", f.reason, broken, runs)
		f.limit = 0
	}
	if m.once && p.Options.ChurnFor == 0 {
		f.reason = cmp.Or(f.reason, "not at this size")
	}
	return f
}
