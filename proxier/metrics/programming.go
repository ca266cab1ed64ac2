package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/proxier"
)

// A programming is the metric network_programming_duration_seconds: the time from a change of
// endpoints, as the endpoint controller noted it, until the kernel does what follows from it. It
// is one of Kubernetes' objectives: 30 s at most for 99 of 100.
type programming struct {
	took     *prometheus.HistogramVec // ip_family
	families []string

	waiting  []waiting
	revision uint64    // the newest that the kernel has
	since    time.Time // when it got it
}

// A waiting is a change that the kernel does not have yet.
type waiting struct {
	proxier.Trigger
	revision uint64 // of the first snapshot with it
}

// maxWaiting bounds what is remembered while nothing can be applied. The oldest stay: they took
// longest.
const maxWaiting = 1 << 14

// programmingBuckets are kube-proxy's: 0.25 s to 5 min, finest where the objective is.
var programmingBuckets = slices.Concat(
	[]float64{0.25, 0.5},
	prometheus.LinearBuckets(1, 1, 59),
	prometheus.LinearBuckets(60, 5, 12),
	prometheus.LinearBuckets(120, 30, 7),
)

// published notes the changes that a snapshot is the first to have. It may have been applied
// already.
func (p *programming) published(s *proxier.Snapshot, triggers []proxier.Trigger) {
	for _, t := range triggers {
		if len(p.waiting) < maxWaiting {
			p.waiting = append(p.waiting, waiting{t, s.Revision})
		}
	}
	p.settle()
}

// applied notes that the kernel has had a snapshot since then.
func (p *programming) applied(revision uint64, since time.Time) {
	p.revision, p.since = revision, since
	p.settle()
}

// settle observes the changes that the kernel has.
func (p *programming) settle() {
	p.waiting = slices.DeleteFunc(p.waiting, func(w waiting) bool {
		if w.revision > p.revision {
			return false
		}
		family := "IPv4"
		if w.IPv6 {
			family = "IPv6"
		}
		if slices.Contains(p.families, family) {
			// The clocks of two machines differ: no time is less than none.
			p.took.WithLabelValues(family).Observe(max(0, p.since.Sub(w.At).Seconds()))
		}
		return true
	})
	if len(p.waiting) == 0 {
		p.waiting = nil // as large as it was in the worst hour
	}
}
