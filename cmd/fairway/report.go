package main

import (
	"context"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// lookInterval is how often the parts are asked for what goes on in them.
const lookInterval = 5 * time.Second

// reportProgress logs how far the first complete state has come, until it is there: ever more rarely,
// up to once a minute.
func (p *proxy) reportProgress(ctx context.Context) {
	for pause := lookInterval; ; pause = min(2*pause, time.Minute) {
		select {
		case <-ctx.Done():
			return
		case <-p.store.Synced():
			return
		case <-time.After(pause):
			at := p.store.Progress()
			p.log.Info("waiting for the cluster's state", "services", at.Services,
				"endpointSlices", at.EndpointSlices, "incomplete", at.Waiting)
		}
	}
}

// reportProblems gives every problem a line of log when it comes up, and hands all of them to
// metrics, admin and the API server: those of the snapshot, and those that parts of this process
// have with it.
func (p *proxy) reportProblems(ctx context.Context) {
	told := map[proxier.Problem]bool{}
	var last *proxier.Snapshot
	var problems []proxier.Problem
	for {
		s, changed := p.feed.Current()
		if s != nil {
			now := slices.Concat(s.Problems, p.ports.Problems(), p.local.Problems())
			if s != last || !slices.Equal(now, problems) {
				last, problems = s, now
				p.metrics.Problems(now)
				told = p.logProblems(now, told)
				out := *s
				out.Problems = now
				p.status.Publish(&out)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(lookInterval):
		}
	}
}

// logProblems logs those of the problems that were not told before, and returns what is told now.
func (p *proxy) logProblems(problems []proxier.Problem, before map[proxier.Problem]bool) map[proxier.Problem]bool {
	now := make(map[proxier.Problem]bool, len(problems))
	for _, q := range problems {
		if !before[q] && !now[q] {
			p.log.Warn("problem", "kind", q.Kind, "object", q.Object.String(), "reason", q.Reason, "message", q.Message)
		}
		now[q] = true
	}
	return now
}
