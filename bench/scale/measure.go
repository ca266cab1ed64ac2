package scale

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Options say what to measure.
type Options struct {
	Services  int             `json:"services"`
	Endpoints int             `json:"endpoints"`          // of each Service
	Runs      int             `json:"runs"`               // of each subject
	Changes   int             `json:"changes"`            // measured in each run
	Limit     time.Duration   `json:"limit_ns"`           // for a first sync, and for a change
	ChurnFor  time.Duration   `json:"churn_ns,omitempty"` // of a hundred changes a second; 0 for none, nor a rolling update
	Bin       string          `json:"-"`                  // directory of fairway, kube-proxy
	Profiles  string          `json:"-"`                  // directory for a heap profile of each subject, which starts it with --profiling; "" for none
	Subjects  []stage.Subject `json:"-"`
	// Known has the subjects, by name, whose first sync was over a limit with fewer Services
	// already. They are not run: their sample says so.
	Known map[string]Known `json:"-"`
	// Skip has the subjects, by name, that are not run for another reason, which their sample has.
	Skip map[string]string `json:"-"`
	// Progress is told in a few words what is being done.
	Progress func(string) `json:"-"`
}

// Known is where a subject was over a limit.
type Known struct {
	Services int           `json:"services"`
	Limit    time.Duration `json:"limit_ns"`
}

// KnownOver adds to known what samples made with o say, so that it can be used for more Services.
func KnownOver(known map[string]Known, o Options, samples []Sample) {
	for _, s := range samples {
		if _, ok := known[s.Subject]; !ok && s.Over == firstSync && s.Known == nil {
			known[s.Subject] = Known{o.Services, o.Limit}
		}
	}
}

// A Sample is one run of one subject.
type Sample struct {
	Subject string `json:"subject"`
	Run     int    `json:"run"`
	// Err tells why figures are missing, if it was not a limit.
	Err string `json:"error,omitempty"`
	// Over is set, to "first sync" or "change", if that took longer than the limit. What comes
	// after it was not measured.
	Over string `json:"over,omitempty"`
	// Known is set if the subject was not run, because it was over the limit before.
	Known *Known `json:"known,omitempty"`
	// FirstSync is from the start of the process until Services all over the range worked. After
	// it every Service was tried, and worked.
	FirstSync time.Duration   `json:"first_sync_ns"`
	Changes   []time.Duration `json:"changes_ns"` // from the API server's event until packets follow
	// Rolling and Churn are made in the first run only.
	Rolling *Churn `json:"rolling,omitempty"`
	Churn   *Churn `json:"churn,omitempty"`
	// SyncCost is of the first sync, and ChangesCost of all Changes together.
	SyncCost    *process.Cost `json:"sync_cost,omitempty"`
	ChangesCost *process.Cost `json:"changes_cost,omitempty"`
	// NoCalls tells why system calls are not counted; "" if they are.
	NoCalls string        `json:"no_syscalls,omitempty"`
	Rules   *Rules        `json:"rules,omitempty"` // after the first sync
	RSS     int64         `json:"rss_bytes"`       // of the proxy, at the end
	HWM     int64         `json:"hwm_bytes"`       // the most it ever was
	ToolHWM int64         `json:"tool_hwm_bytes"`
	CPU     time.Duration `json:"cpu_ns"` // user and system, of the proxy and its tools
}

// Run measures all subjects, run after run, and returns a sample for each. A subject that was
// over the limit is not run again. What one fails with goes into its sample; it is an error only
// if none has a figure.
func Run(ctx context.Context, o Options) ([]Sample, error) {
	c := stage.Cluster{Services: o.Services, Endpoints: o.Endpoints}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	api := listwatch.New()
	if err := api.Set(c.Objects()...); err != nil {
		return nil, err
	}
	var out []Sample
	var errs []error
	ran := 0
	hopeless := map[string]bool{}
	for _, s := range o.Subjects {
		if k, ok := o.Known[s.Name]; ok {
			hopeless[s.Name] = true
			out = append(out, Sample{Subject: s.Name, Over: firstSync, Known: &k})
		} else if why, ok := o.Skip[s.Name]; ok {
			hopeless[s.Name] = true
			out = append(out, Sample{Subject: s.Name, Err: why})
		}
	}
	for run := range o.Runs {
		for i := range o.Subjects {
			s := o.Subjects[(i+run)%len(o.Subjects)]
			if hopeless[s.Name] {
				continue
			}
			sample, err := o.one(ctx, run, c, api, s, func(what string) {
				o.Progress(fmt.Sprintf("run %d of %d, %s: %s", run+1, o.Runs, s.Name, what))
			})
			if ctx.Err() != nil {
				return out, errors.Join(ctx.Err(), err)
			}
			if err != nil {
				sample.Err = err.Error()
				errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
			}
			ran++
			hopeless[s.Name] = sample.Over == firstSync
			out = append(out, sample)
		}
	}
	if ran == 0 || len(errs) < ran {
		return out, nil
	}
	return out, errors.Join(errs...)
}

// What a Sample can be over the limit with.
const (
	firstSync = "first sync"
	change    = "change"
)

// A trial is one subject at work in its lab.
type trial struct {
	Options
	*stage.Stage
	api    *listwatch.Server
	sample *Sample
	say    func(string)
	group  *process.Group // nil if there can be none
	last   int            // version of the last Service's endpoint
}

// version is the next one of the last Service's endpoint.
func (t *trial) version() int { t.last++; return t.last }

func (o Options) one(ctx context.Context, run int, c stage.Cluster, api *listwatch.Server, s stage.Subject, say func(string)) (sample Sample, err error) {
	say("building the lab")
	sample = Sample{Subject: s.Name, Run: run}
	if err := api.Set(c.Slice(c.Last(), 0)); err != nil { // as it was before the last run's changes
		return sample, err
	}
	group, err := process.NewGroup()
	if err != nil {
		sample.NoCalls = err.Error()
	} else if err := group.NoCalls(); err != nil {
		sample.NoCalls = err.Error()
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	st, err := stage.Build(stage.Options{Cluster: c, Subject: s, API: api, Bin: o.Bin, Profile: o.Profiles != "", Group: group})
	if err != nil {
		return sample, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	t := &trial{Options: o, Stage: st, api: api, sample: &sample, group: group, say: say}
	tools := watchTools(t.Proxy.PID())
	err = t.measure(ctx)
	t.sample.ToolHWM = tools()
	if err == nil && o.Profiles != "" {
		err = t.SaveHeap(ctx, filepath.Join(o.Profiles, strings.ReplaceAll(s.Name, " ", "-")+".heap"))
	}
	if err == nil {
		t.sample.RSS, t.sample.HWM, err = process.Memory(t.Proxy.PID())
	}
	if err == nil {
		err = t.Proxy.Err() // it must not have ended by itself
	}
	t.Proxy.Kill()
	if all, failed := t.total(); failed != nil {
		err = errors.Join(err, failed)
	} else {
		sample.CPU = all.CPU()
	}
	return sample, err
}

// pause is between a change and the next: longer than the shortest interval between two syncs of
// kube-proxy, 1 s, so that no subject is measured while it rests.
const pause = 2 * time.Second

func (t *trial) measure(ctx context.Context) error {
	t.say("first sync")
	err := t.within(ctx, firstSync, func(ctx context.Context) error {
		return t.Await(ctx, t.Spread(), func(netip.Addr) bool { return true })
	})
	if err != nil || t.sample.Over != "" {
		return err
	}
	t.sample.FirstSync = time.Since(t.Started)
	if t.sample.SyncCost, err = t.since(process.Cost{}); err != nil {
		return err
	}
	t.say("trying every Service")
	if err := t.Check(ctx); err != nil {
		return err
	}
	err = t.Lab.In(netlab.Node1, func() (err error) {
		t.sample.Rules, err = programmed()
		return err
	})
	if err != nil {
		return err
	}
	if err := t.changes(ctx); err != nil || t.sample.Over != "" || t.ChurnFor == 0 || t.sample.Run > 0 {
		return err
	}
	t.say("a rolling update")
	if t.sample.Rolling, err = t.rolling(ctx); err != nil || t.sample.Over != "" {
		return err
	}
	t.say("a hundred changes a second")
	t.sample.Churn, err = t.churn(ctx)
	return err
}

// changes makes one change after the other.
func (t *trial) changes(ctx context.Context) error {
	before, err := t.cost()
	if err != nil {
		return err
	}
	for i := range t.Options.Changes {
		t.say(fmt.Sprintf("change %d of %d", i+1, t.Options.Changes))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		v := t.version()
		start := time.Now()
		if err := t.api.Set(t.Slice(t.Last(), v)); err != nil {
			return err
		}
		want := t.Endpoint(t.Last(), 0, v)
		err := t.within(ctx, change, func(ctx context.Context) error {
			return t.Await(ctx, []int{t.Last()}, func(got netip.Addr) bool { return got == want })
		})
		if err != nil || t.sample.Over != "" {
			return err
		}
		t.sample.Changes = append(t.sample.Changes, time.Since(start))
	}
	if len(t.sample.Changes) == 0 || !sleep(ctx, pause) { // what follows a change counts, too
		return ctx.Err()
	}
	t.sample.ChangesCost, err = t.since(before)
	return err
}

// sleep returns false if ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// within runs f, which waits for the proxy to do something, for at most the limit, or until the
// proxy has ended. If the limit passes, that goes into the sample.
func (t *trial) within(outer context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	timer := time.AfterFunc(t.Limit, cancel)
	go func() {
		select {
		case <-t.Proxy.Done():
			cancel()
		case <-stop:
		}
	}()
	err := f(ctx)
	switch {
	case err == nil:
		return nil
	case t.Proxy.Err() != nil:
		return t.Proxy.Err()
	case outer.Err() != nil || timer.Stop(): // so it was not the limit
		return err
	}
	t.sample.Over = what
	return nil
}
