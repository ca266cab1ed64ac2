package datapath

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Options say what to measure.
type Options struct {
	stage.Cluster
	Rounds int           `json:"rounds"`   // turns of each subject on each path
	Limit  time.Duration `json:"limit_ns"` // for a first sync
	// Control is the name of a subject that is measured twice, as if it were two: what differs
	// between the two is noise. "" for none.
	Control  string          `json:"control,omitempty"`
	Bin      string          `json:"-"` // directory of the programs
	Subjects []stage.Subject `json:"-"`
	// Skip has subjects, by name, that are not to be started, and why: it goes into Over.
	Skip     map[string]string `json:"-"`
	Progress func(string)      `json:"-"`
	size     sizes             // for tests; zero: sizesOfTurn
}

// Again is what the name of the second copy of the control ends with.
const Again = " (again)"

// A Result has what was measured with one cluster.
type Result struct {
	Options Options  `json:"options"`
	Series  []Series `json:"series"`
	// Over has the subjects without figures, and why: over the limit with their first sync, or
	// failed.
	Over map[string]string `json:"over,omitempty"`
}

// Values returns what a subject measured on a path, a value a round; nil if it was not measured.
func (r Result) Values(subject, path, measure string) []float64 {
	for _, s := range r.Series {
		if s.Subject == subject && s.Path == path {
			return s.Rounds[measure]
		}
	}
	return nil
}

// A Series is what one subject did on one path: a value a round for each measure.
type Series struct {
	Subject string               `json:"subject"`
	Path    string               `json:"path"`
	Rounds  map[string][]float64 `json:"rounds"`
}

// A path is from where to what traffic goes.
type path struct {
	name, from string
	to         func(stage.Cluster) netip.AddrPort
	direct     func(stage.Cluster) netip.AddrPort
}

// paths are those measured, in the order of a report.
func paths() []path {
	service := func(last bool) func(stage.Cluster) netip.AddrPort {
		return func(c stage.Cluster) netip.AddrPort { return c.Service(end(c, last)) }
	}
	port := func(c stage.Cluster) netip.AddrPort { return c.NodePort(end(c, true)) }
	direct := func(c stage.Cluster) netip.AddrPort { return c.Direct(end(c, true), 0) }
	return []path{
		{"pod to the first Service", stage.Client, service(false), direct},
		{"pod to the last Service", stage.Client, service(true), direct},
		{"node to the last Service", netlab.Node1, service(true), direct},
		{"outside to a node port", netlab.Outside, port, direct},
		{"pod to a node port", stage.Client, port, direct},
		{"node to a node port", netlab.Node1, port, direct},
	}
}

// Paths are the names of the paths, in the order of a report.
func Paths() []string {
	var out []string
	for _, p := range paths() {
		out = append(out, p.name)
	}
	return out
}

func end(c stage.Cluster, last bool) int {
	first, end := c.Ends()
	if last {
		return end
	}
	return first
}

// sizesOfTurn make a turn about a quarter of a second.
var sizesOfTurn = sizes{warm: 20, connects: 300, cycles: 200, trips: 1000, datagrams: 500, bulk: 60 * time.Millisecond}

// Run measures all subjects in turns. What one fails with goes into Over; it is an error only if
// no subject is left.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	if o.size == (sizes{}) {
		o.size = sizesOfTurn
	}
	r := Result{Options: o, Over: map[string]string{}}
	if err := o.Validate(); err != nil {
		return r, fmt.Errorf("data path: %w", err)
	}
	api := listwatch.New()
	if err := api.Set(o.Objects()...); err != nil {
		return r, err
	}
	var all []*subject
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, s := range o.subjects() {
		if why := o.Skip[s.Name]; why != "" {
			r.Over[s.Name] = why
			continue
		}
		o.Progress(s.Name + ": first sync")
		up, why, err := o.up(ctx, s, api)
		if ctx.Err() != nil {
			return r, errors.Join(ctx.Err(), err)
		}
		if err != nil {
			why = failed(err)
		}
		if why != "" {
			r.Over[s.Name] = why
			continue
		}
		all = append(all, up)
	}
	random := rand.New(rand.NewPCG(uint64(o.Services), 7))
	for round := range o.Rounds {
		for _, p := range paths() {
			// By chance, so that nobody is always measured after the same one.
			for _, i := range random.Perm(len(all)) {
				s := all[i]
				if ctx.Err() != nil {
					return r, ctx.Err()
				}
				if r.Over[s.name] != "" {
					continue
				}
				o.Progress(fmt.Sprintf("round %d of %d, %s, %s", round+1, o.Rounds, p.name, s.name))
				if err := s.turn(p, o.size); err != nil {
					r.Over[s.name] = failed(fmt.Errorf("%s: %w", p.name, err))
				}
			}
		}
	}
	if len(r.Over) == len(o.subjects()) {
		return r, fmt.Errorf("data path: no subject is left: %v", r.Over)
	}
	for _, s := range all {
		if r.Over[s.name] != "" {
			continue
		}
		for _, p := range paths() {
			r.Series = append(r.Series, Series{Subject: s.name, Path: p.name, Rounds: s.values[p.name]})
		}
	}
	return r, nil
}

// failed is what the result says of a subject that failed.
func failed(err error) string { return "failed: " + err.Error() }

// subjects are those asked for, and the copy of the control right after it.
func (o Options) subjects() []stage.Subject {
	var out []stage.Subject
	for _, s := range o.Subjects {
		out = append(out, s)
		if s.Name == o.Control {
			s.Name += Again
			out = append(out, s)
		}
	}
	return out
}

// A subject is one that is up.
type subject struct {
	*stage.Stage
	name   string
	values map[string]map[string][]float64 // by path and measure, a value a round
}

// up builds a stage and waits until all of its Services work, but at most for the limit: else why
// says so.
func (o Options) up(outer context.Context, s stage.Subject, api *listwatch.Server) (_ *subject, why string, err error) {
	st, err := stage.Build(stage.Options{Cluster: o.Cluster, Subject: s, API: api, Bin: o.Bin})
	if err != nil {
		return nil, "", err
	}
	up := &subject{Stage: st, name: s.Name, values: map[string]map[string][]float64{}}
	if st.Proxy == nil {
		return up, "", nil
	}
	ctx, cancel := context.WithTimeout(outer, o.Limit)
	defer cancel()
	go func() {
		select {
		case <-st.Proxy.Done(): // so that nobody waits for what has ended
			cancel()
		case <-ctx.Done():
		}
	}()
	err = st.Await(ctx, st.Spread(), func(netip.Addr) bool { return true })
	if err == nil {
		return up, "", nil
	}
	err = errors.Join(outer.Err(), st.Proxy.Err())
	return nil, fmt.Sprintf("over %.0f s", o.Limit.Seconds()), errors.Join(err, st.Close())
}

// turn measures one path once. If something other than single connections fails, it starts again,
// once, and that counts as a failed connection.
func (s *subject) turn(p path, size sizes) error {
	got, err := s.measure(p, size)
	if err != nil {
		again, e := s.measure(p, size)
		if e != nil {
			return errors.Join(err, e)
		}
		got = again
		got[Failed]++
	}
	if s.values[p.name] == nil {
		s.values[p.name] = map[string][]float64{}
	}
	for measure, v := range got {
		s.values[p.name][measure] = append(s.values[p.name][measure], v)
	}
	return nil
}

func (s *subject) measure(p path, size sizes) (got map[string]float64, err error) {
	if s.Proxy != nil && s.Proxy.Err() != nil {
		return nil, s.Proxy.Err()
	}
	to := p.to(s.Cluster)
	if s.Proxy == nil {
		to = p.direct(s.Cluster)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		if err := stage.Pin(0); err != nil {
			done <- err
			return
		}
		done <- s.Lab.In(p.from, func() (err error) {
			got, err = client{to, size}.turn()
			return err
		})
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	for measure, v := range got {
		if math.IsNaN(v) {
			return nil, fmt.Errorf("%s: no value", measure)
		}
	}
	return got, nil
}
