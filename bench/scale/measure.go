package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Options say what to measure.
type Options struct {
	Services  int           `json:"services"`
	Endpoints int           `json:"endpoints"` // of each Service
	Runs      int           `json:"runs"`      // of each subject
	Changes   int           `json:"changes"`   // measured in each run
	Limit     time.Duration `json:"limit_ns"`  // for a first sync, and for a change
	Bin       string        `json:"-"`         // directory of fairway, kube-proxy
	Profiles  string        `json:"-"`         // directory for a heap profile of each subject, which starts it with --profiling; "" for none
	Subjects  []Subject     `json:"-"`
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
	RSS       int64           `json:"rss_bytes"`     // of the proxy, at the end
	HWM       int64           `json:"hwm_bytes"`     // the most it ever was
	ToolHWM   int64           `json:"tool_hwm_bytes"`
	CPU       time.Duration   `json:"cpu_ns"` // user and system, of the proxy and its tools
}

// Run measures all subjects, run after run, and returns a sample for each. A subject that was
// over the limit is not run again.
func Run(ctx context.Context, o Options) ([]Sample, error) {
	c := cluster{o.Services, o.Endpoints}
	if o.Services < 2 || o.Services > maxServices || o.Endpoints < 1 || o.Services*o.Endpoints > 500_000 {
		return nil, fmt.Errorf("scale: %d services of %d endpoints are not possible here", o.Services, o.Endpoints)
	}
	api := listwatch.New()
	if err := api.Set(c.objects()...); err != nil {
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
			sample, err := o.one(ctx, c, api, s, func(what string) {
				o.Progress(fmt.Sprintf("run %d of %d, %s: %s", run+1, o.Runs, s.Name, what))
			})
			if err != nil {
				return out, fmt.Errorf("%s: %w", s.Name, err)
			}
			sample.Run = run
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
	cluster
	api    *listwatch.Server
	lab    *netlab.Lab
	proxy  *process.Process
	sample *Sample
	say    func(string)
}

func (o Options) one(ctx context.Context, c cluster, api *listwatch.Server, s Subject, say func(string)) (_ Sample, err error) {
	say("building the lab")
	if err := api.Set(c.slice(c.last(), 0)); err != nil { // as it was before the last run's changes
		return Sample{}, err
	}
	lab, err := netlab.Build(netlab.Options{Pods: []string{client, server}})
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	stop, err := serveEndpoints(lab)
	if err != nil {
		return Sample{}, err
	}
	defer stop()
	dir, err := process.TempDir("scale")
	if err != nil {
		return Sample{}, err
	}
	defer os.RemoveAll(dir)
	e := env{bin: o.Bin, dir: dir, profile: o.Profiles != "", in: func(f func() error) error { return lab.In(netlab.Node1, f) }}
	kubeconfig, stop, err := serveAPI(e, api)
	if err != nil {
		return Sample{}, err
	}
	defer stop()
	e.kubeconfig = kubeconfig

	start := time.Now()
	proxy, end, err := s.start(e)
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, end()) }()
	t := &trial{o, c, api, lab, proxy, &Sample{Subject: s.Name}, say}
	tools := watchTools(proxy.PID())
	err = t.measure(ctx, start)
	t.sample.ToolHWM = tools()
	if err == nil && e.profile {
		err = saveHeap(ctx, e, filepath.Join(o.Profiles, strings.ReplaceAll(s.Name, " ", "-")+".heap"))
	}
	if err == nil {
		t.sample.RSS, t.sample.HWM, err = memory(proxy.PID())
	}
	if err == nil {
		err = proxy.Err() // it must not have ended by itself
	}
	proxy.Kill()
	user, system := proxy.Usage()
	t.sample.CPU = user + system
	return *t.sample, err
}

// saveHeap saves a profile of what the proxy has on its heap, which it serves at its metrics
// address.
func saveHeap(ctx context.Context, e env, file string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = e.in(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/debug/pprof/heap", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("heap profile: %s: %w", resp.Status, err)
	}
	return os.WriteFile(file, b, 0o644)
}

// serveAPI serves api in the namespace of e and writes the kubeconfig file for it.
func serveAPI(e env, api *listwatch.Server) (kubeconfig string, stop func(), err error) {
	var l net.Listener
	err = e.in(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return "", nil, err
	}
	url, stop := api.Start(l)
	kubeconfig = filepath.Join(e.dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, listwatch.Kubeconfig(url), 0o600); err != nil {
		stop()
		return "", nil, err
	}
	return kubeconfig, stop, nil
}

// pause is between a change and the next: longer than the shortest interval between two syncs of
// kube-proxy, 1 s, so that no subject is measured while it rests.
const pause = 2 * time.Second

func (t *trial) measure(ctx context.Context, start time.Time) error {
	t.say("first sync")
	err := t.within(ctx, firstSync, func(ctx context.Context) error {
		return await(ctx, t.lab, t.spread(), func(netip.Addr) bool { return true })
	})
	if err != nil || t.sample.Over != "" {
		return err
	}
	t.sample.FirstSync = time.Since(start)
	t.say("trying every Service")
	if err := t.check(ctx, t.lab); err != nil {
		return err
	}
	before, err := cpu(t.proxy.PID())
	if err != nil {
		return err
	}
	for i := range t.Options.Changes {
		t.say(fmt.Sprintf("change %d of %d", i+1, t.Options.Changes))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		start := time.Now()
		if err := t.api.Set(t.slice(t.last(), i+1)); err != nil {
			return err
		}
		want := t.endpointAddr(t.last(), 0, i+1)
		err := t.within(ctx, change, func(ctx context.Context) error {
			return await(ctx, t.lab, []int{t.last()}, func(got netip.Addr) bool { return got == want })
		})
		if err != nil || t.sample.Over != "" {
			return err
		}
		t.sample.Changes = append(t.sample.Changes, time.Since(start))
	}
	if len(t.sample.Changes) == 0 || !sleep(ctx, pause) { // what follows a change counts, too
		return ctx.Err()
	}
	after, err := cpu(t.proxy.PID())
	t.sample.ChangeCPU = (after - before) / time.Duration(len(t.sample.Changes))
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

// spread are Services from all over the range, the last one first: while that one does not work,
// few packets disturb the subject.
func (t *trial) spread() []int {
	out := []int{t.last()}
	for i := range 50 {
		out = append(out, i*t.last()/50)
	}
	return out
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
		case <-t.proxy.Done():
			cancel()
		case <-stop:
		}
	}()
	err := f(ctx)
	switch {
	case err == nil:
		return nil
	case t.proxy.Err() != nil:
		return t.proxy.Err()
	case outer.Err() != nil || timer.Stop(): // so it was not the limit
		return err
	}
	t.sample.Over = what
	return nil
}
