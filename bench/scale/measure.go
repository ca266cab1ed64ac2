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
	// Progress is told in a few words what is being done.
	Progress func(string) `json:"-"`
}

// A Sample is one run of one subject.
type Sample struct {
	Subject string `json:"subject"`
	Run     int    `json:"run"`
	// Over is set, to "first sync" or "change", if that took longer than the limit. What comes
	// after it was not measured.
	Over string `json:"over,omitempty"`
	// FirstSync is from the start of the process until Services all over the range worked. After
	// it every Service was tried, and worked.
	FirstSync time.Duration   `json:"first_sync_ns"`
	Changes   []time.Duration `json:"changes_ns"`    // from the API server's event until packets follow
	ChangeCPU time.Duration   `json:"change_cpu_ns"` // of the proxy and its tools, mean of the changes
	Rolling   *Churn          `json:"rolling,omitempty"`
	Churn     *Churn          `json:"churn,omitempty"`
	RSS       int64           `json:"rss_bytes"` // of the proxy, at the end
	HWM       int64           `json:"hwm_bytes"` // the most it ever was
	ToolHWM   int64           `json:"tool_hwm_bytes"`
	CPU       time.Duration   `json:"cpu_ns"` // user and system, of the proxy and its tools
}

// Run measures all subjects, run after run, and returns a sample for each. A subject that was
// over the limit is not run again.
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
	hopeless := map[string]bool{}
	for run := range o.Runs {
		for i := range o.Subjects {
			s := o.Subjects[(i+run)%len(o.Subjects)]
			if hopeless[s.Name] {
				continue
			}
			sample, err := o.one(ctx, run, c, api, s, func(what string) {
				o.Progress(fmt.Sprintf("run %d of %d, %s: %s", run+1, o.Runs, s.Name, what))
			})
			if err != nil {
				return out, fmt.Errorf("%s: %w", s.Name, err)
			}
			hopeless[s.Name] = sample.Over == firstSync
			out = append(out, sample)
		}
	}
	return out, nil
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
	last   int // version of the last Service's endpoint
}

// version is the next one of the last Service's endpoint.
func (t *trial) version() int { t.last++; return t.last }

func (o Options) one(ctx context.Context, run int, c stage.Cluster, api *listwatch.Server, s stage.Subject, say func(string)) (_ Sample, err error) {
	say("building the lab")
	if err := api.Set(c.Slice(c.Last(), 0)); err != nil { // as it was before the last run's changes
		return Sample{}, err
	}
	st, err := stage.Build(stage.Options{Cluster: c, Subject: s, API: api, Bin: o.Bin, Profile: o.Profiles != ""})
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	t := &trial{Options: o, Stage: st, api: api, sample: &Sample{Subject: s.Name, Run: run}, say: say}
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
	user, system := t.Proxy.Usage()
	t.sample.CPU = user + system
	return *t.sample, err
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
	t.say("trying every Service")
	if err := t.Check(ctx); err != nil {
		return err
	}
	before, err := cpu(t.Proxy.PID())
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
	after, err := cpu(t.Proxy.PID())
	t.sample.ChangeCPU = (after - before) / time.Duration(len(t.sample.Changes))
	if err != nil || t.ChurnFor == 0 {
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
