package dnsbench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/process"
)

// Subjects are the servers that are measured, by what bench/nameserver calls them.
var Subjects = []string{nameserver.Fairway, nameserver.CoreDNS, nameserver.NSD, nameserver.Unbound}

// Options say what to measure.
type Options struct {
	Bin      string        `json:"-"` // the directory of the programs, see peerbin.Build
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"duration"` // of one run of dnsperf
	Subjects []string      `json:"subjects"`
	// Control is a subject that is measured twice, as if it were two: what differs between the two
	// is noise. "" for none.
	Control string `json:"control,omitempty"`
	Only    string `json:"-"` // regular expression of the mixes to measure; empty: all

	// Services and Endpoints are the size of the cluster in the measurement of memory and of
	// changes; that of the loads has 1,000 Services. No Services: no such measurement.
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"`
	Changes   int `json:"changes"`
	// Settle is how long after the first answer memory is read: garbage of the first sync goes.
	Settle time.Duration `json:"settle"`

	Env      []string     `json:"-"` // for the programs
	Progress func(string) `json:"-"`
}

// A Sample is one run of dnsperf against one subject.
type Sample struct {
	Subject string        `json:"subject"`
	Mix     string        `json:"mix"`
	Round   int           `json:"round"`
	Rate    int           `json:"rate,omitempty"`     // queries a second that were sent; 0: as many as were answered
	OneCore bool          `json:"one_core,omitempty"` // the server had one core, and the client another
	Queries int           `json:"queries"`            // that were answered
	Lost    int           `json:"lost,omitempty"`
	Seconds float64       `json:"seconds"`
	CPU     time.Duration `json:"cpu"` // of the subject meanwhile, ns
	P50     time.Duration `json:"p50,omitempty"`
	P99     time.Duration `json:"p99,omitempty"`
	Rcodes  string        `json:"rcodes"`
}

// Again is what the name of the second copy of the control ends with.
const Again = " (again)"

// A subject is a server that is up.
type subject struct {
	*nameserver.Server
	name  string
	close []func()
}

const (
	apiAddress = "127.0.0.1:8001"
	upstream   = "127.0.0.2:5300"
)

var listen = netip.MustParseAddrPort("10.0.0.53:53")

func (s *subject) end() {
	for _, f := range slices.Backward(s.close) {
		f()
	}
}

// names are the subjects and the copy of the control right after it.
func (o Options) names() (out []string) {
	for _, s := range o.Subjects {
		out = append(out, s)
		if s == o.Control {
			out = append(out, s+Again)
		}
	}
	return out
}

// start brings up a subject in a namespace of its own. net answers for what is not the cluster's.
func (o Options) start(ctx context.Context, name string, api *listwatch.Server, net *nameserver.Internet, zone string) (_ *subject, err error) {
	s, kind := &subject{name: name}, strings.TrimSuffix(name, Again)
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	space, err := nameserver.NewSpace(listen.Addr())
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, func() { _ = space.Close() })
	if err := net.Listen(space, upstream); err != nil {
		return nil, err
	}
	switch kind {
	case nameserver.NSD, nameserver.Unbound:
		s.Server, err = nameserver.StartStatic(ctx, nameserver.Static{
			Kind: kind, Space: space, Addr: listen, Zone: domain, ZoneFile: zone, Upstream: upstream, Threads: 2,
		})
	default:
		l, err := space.Listen("tcp", apiAddress)
		if err != nil {
			return nil, err
		}
		url, stop := api.Start(l)
		s.close = append(s.close, stop)
		corefile := nameserver.Expand(nameserver.Kubeadm, map[string]string{"API": "endpoint " + url, "UPSTREAM": upstream})
		s.Server, err = nameserver.Start(ctx, nameserver.Options{
			Kind: kind, Bin: o.Bin, Space: space, Addr: listen, Ready: "127.0.0.1:8181", Corefile: corefile, Env: o.Env,
		})
		if err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, s.Server.Close)
	return s, nil
}

// Run measures the loads: every subject in turn, round after round.
func (o Options) Run(ctx context.Context) (samples []Sample, err error) {
	only, err := regexp.Compile(o.Only)
	if err != nil {
		return nil, err
	}
	c := cluster{services: 1000, endpoints: 2, sets: 50}
	objects := c.objects()
	api := listwatch.New()
	if err := api.Set(objects...); err != nil {
		return nil, err
	}
	net, err := nameserver.NewInternet()
	if err != nil {
		return nil, err
	}
	defer net.Close()
	dir, err := process.TempDir("dnsbench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var up []*subject
	for _, name := range o.names() {
		s, err := o.start(ctx, name, api, net, zoneFile(objects))
		if err != nil {
			return nil, err
		}
		defer s.end()
		up = append(up, s)
	}
	for round := range o.Rounds {
		for i, m := range c.mixes() {
			if !only.MatchString(m.Name) {
				continue
			}
			file := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(file, []byte(m.Queries), 0o600); err != nil {
				return nil, err
			}
			for at := range up {
				s := up[(at+round)%len(up)] // everyone is the first now and then
				got, err := o.measure(ctx, s, m, file)
				if err != nil {
					return nil, err
				}
				for j := range got {
					got[j].Round = round
				}
				samples = append(samples, got...)
			}
		}
	}
	return samples, nil
}

// measure sends one mix to one subject: at a fixed load, then at the highest, then at the highest
// that one core answers, if there is another for the client.
func (o Options) measure(ctx context.Context, s *subject, m Mix, file string) (out []Sample, err error) {
	if !m.known(s.name) {
		return nil, nil
	}
	l := load{queries: file, edns: m.EDNS, limit: o.Duration}
	if m.Cached {
		warm := l
		warm.once = true
		if _, err := warm.run(ctx, s.Server); err != nil {
			return nil, err
		}
	}
	for _, kind := range []Sample{{Rate: m.Load}, {}, {OneCore: true}} {
		if kind.OneCore && runtime.NumCPU() < 2 {
			continue
		}
		o.Progress(fmt.Sprintf("%s, %s", m.Name, s.name))
		kind.Subject, kind.Mix = s.name, m.Name
		l.rate, l.oneCore = kind.Rate, kind.OneCore
		got, err := s.load(ctx, l, kind)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", s.name, m.Name, err)
		}
		out = append(out, got)
	}
	return out, nil
}

// load runs dnsperf and fills in what came of it.
func (s *subject) load(ctx context.Context, l load, out Sample) (_ Sample, err error) {
	if l.oneCore {
		if err := bind(s.PID(), []int{serverCore}); err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, bind(s.PID(), nil)) }()
	}
	before, err := process.CPU(s.PID())
	if err != nil {
		return out, err
	}
	r, err := l.run(ctx, s.Server)
	if err != nil {
		return out, err
	}
	after, err := process.CPU(s.PID())
	if err != nil {
		return out, errors.Join(s.Err(), err)
	}
	out.Queries, out.Lost, out.Seconds, out.Rcodes = r.completed, r.lost, r.seconds, r.rcodes
	out.CPU, out.P50, out.P99 = after-before, r.quantile(0.5), r.quantile(0.99)
	return out, nil
}

// quantile of the latencies; 0 if there are none.
func (r report) quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return time.Duration(r.latencies[int(q*float64(len(r.latencies)-1))] * float64(time.Second))
}
