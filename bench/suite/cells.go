package suite

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
)

// A cell is one measurement.
type cell struct {
	name  string
	about time.Duration // that it takes on two cores
	run   func(ctx context.Context, o Options, f *File) error
}

// endpoints are those of each Service, in all cells.
const endpoints = 5

// The kinds of cells, and what their names begin with.
const (
	programmingCell = "programming"
	dataCell        = "data-path"
	namesCell       = "dns"
)

// cells are those of a plan, the most telling first: what there is no time for is the last.
func (o Options) cells() []cell {
	switch o.Plan {
	case Quick:
		return []cell{
			programming{services: 1000, runs: 3, changes: 3, churn: 5 * time.Second, limit: time.Minute}.cell(220 * time.Second),
			names{rounds: 3, duration: 700 * time.Millisecond, only: "cluster A|NXDOMAIN|cached"}.cell(110 * time.Second),
			data{services: 1000, rounds: 6, limit: time.Minute}.cell(75 * time.Second),
			data{services: 10, rounds: 5, limit: time.Minute}.cell(60 * time.Second),
			data{services: 1000, v6: true, rounds: 5, limit: time.Minute}.cell(65 * time.Second),
		}
	case Rehearsal:
		const limit = 20 * time.Second
		return whole(programming{runs: 1, changes: 3, churn: 3 * time.Second, limit: limit}, data{rounds: 2, limit: limit},
			names{rounds: 3, duration: 150 * time.Millisecond, services: 1000}, 8)
	}
	const limit = 2 * time.Minute
	return whole(programming{runs: 3, changes: 5, churn: time.Minute, limit: limit}, data{rounds: 12, limit: limit},
		names{rounds: 5, duration: 600 * time.Millisecond, services: 10_000}, 1)
}

// tooLarge are the subjects that are not run with 30,000 Services and more.
var tooLarge = map[string]string{
	nftables: "not run: one nft of its first sync holds a processor in the kernel for over 100 s and cannot be ended",
}

// whole are the cells of a whole plan, done with the given effort; fraction is how many times
// quicker they are than with the full one.
func whole(p programming, d data, n names, fraction int) []cell {
	minutes := func(x float64) time.Duration { return time.Duration(x*60) * time.Second / time.Duration(fraction) }
	sized := func(services int) programming { p.services = services; return p }
	path := func(services int) data { d.services = services; return d }
	six := func(d data) data { d.v6, d.rounds = true, max(2, d.rounds*2/3); return d }
	large := func(services int) programming {
		p := sized(services)
		p.runs, p.changes, p.churn, p.skip = 1, 3, 0, tooLarge
		return p
	}
	twice, control := sized(1000), path(1000)
	twice.control, control.control = stage.Proxies[0].Name, stage.Proxies[0].Name
	small, few := sized(10), path(30_000)
	small.churn /= 3 // of eight Services
	few.rounds = max(2, d.rounds/2)
	return []cell{
		twice.cell(minutes(11)), n.cell(minutes(8)), control.cell(minutes(3)),
		sized(10_000).cell(minutes(13)), path(10_000).cell(minutes(3)),
		small.cell(minutes(5)), path(10).cell(minutes(2.5)),
		six(path(1000)).cell(minutes(2)), six(path(10_000)).cell(minutes(2.5)), six(path(10)).cell(minutes(1.5)),
		large(30_000).cell(minutes(4)), few.cell(minutes(3)), large(100_000).cell(minutes(7)),
	}
}

// A gap is what is not measured, on purpose.
type gap struct {
	cells     []string // by name
	what, why string
}

// gaps are those of the full plan.
var gaps = []gap{
	{[]string{name(dataCell, 100_000, false)}, "data path, 100,000 Services",
		"all subjects stand side by side in one cell, and at this size their first syncs alone would take most of the time of the whole run; programming is measured"},
	{[]string{name(dataCell, 30_000, true), name(dataCell, 100_000, true)}, "data path, IPv6, over 10,000 Services",
		"measured in IPv4, in which rules and chains have the same shape"},
	{[]string{name(programmingCell, 10, true), name(programmingCell, 1000, true), name(programmingCell, 10_000, true), name(programmingCell, 30_000, true), name(programmingCell, 100_000, true)},
		"programming, IPv6", "the agents do the same as for IPv4, with longer addresses"},
	{nil, "many changes with over 10,000 Services", "a rolling update and 100 changes a second are measured up to there; single changes are measured at every size"},
}

func name(kind string, services int, v6 bool) string {
	out := kind
	if services > 0 {
		out += fmt.Sprintf("-%d", services)
	}
	if v6 {
		out += "-ipv6"
	}
	return out
}

// place is where a cell stands in a report: its kind, its size, its family.
func place(cell string) []int {
	for i, kind := range []string{programmingCell, dataCell, namesCell} {
		if rest, ok := strings.CutPrefix(cell, kind); ok {
			size, family, _ := strings.Cut(strings.TrimPrefix(rest, "-"), "-")
			n, _ := strconv.Atoi(size) // names have no size
			return []int{i, n, len(family)}
		}
	}
	return []int{3} // of another program
}

func inOrder(cells []string) []string {
	slices.SortFunc(cells, func(a, b string) int { return slices.Compare(place(a), place(b)) })
	return cells
}

// label is how a report calls a cell.
func label(cell string) string {
	at := place(cell)
	if at[0] == 2 || len(at) < 3 {
		return "names"
	}
	out := []string{"programming", "data path"}[at[0]] + ", " + thousands(at[1]) + " Services"
	if at[2] > 0 {
		out += ", IPv6"
	}
	return out
}

// thousands is a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// withTwin are subjects with a copy of one of them right after it.
func withTwin(all []stage.Subject, control string) (out []stage.Subject) {
	for _, s := range all {
		out = append(out, s)
		if s.Name == control {
			s.Name, s.Peer = s.Name+again, ""
			out = append(out, s)
		}
	}
	return out
}

// data is a cell of the data path. The direct connection is always measured twice, and control as
// well, if it is not "".
type data struct {
	services int
	v6       bool
	rounds   int
	limit    time.Duration
	control  string
}

func (d data) cell(about time.Duration) cell {
	c := stage.Cluster{Services: d.services, Endpoints: endpoints, V6: d.v6}
	return cell{name(dataCell, d.services, d.v6), about, func(ctx context.Context, o Options, f *File) error {
		r, err := datapath.Run(ctx, datapath.Options{
			Cluster: c, Rounds: d.rounds, Limit: d.limit, Control: stage.Direct.Name, Bin: o.Bin, Progress: o.Progress,
			Subjects: withTwin(append([]stage.Subject{stage.Direct}, stage.Proxies...), d.control), Skip: o.hopeless(d.services),
		})
		f.Data = &r
		return err
	}}
}

// hopeless are the subjects that were over the limit of programming with as many Services, with
// what to say of it.
func (o Options) hopeless(services int) map[string]string {
	out := map[string]string{}
	f, err := load(filepath.Join(o.Dir, name(programmingCell, services, false)+".json"))
	if err != nil || f.Scale == nil {
		return out // so they are tried
	}
	for _, s := range stage.Proxies {
		synced := false
		why := ""
		for _, x := range f.Scale.Samples {
			if x.Subject == s.Name {
				synced = synced || x.FirstSync > 0
				why = cmp.Or(x.Err, fmt.Sprintf("its first sync takes over %.0f s", f.Scale.Options.Limit.Seconds()))
			}
		}
		if why != "" && !synced {
			out[s.Name] = why
		}
	}
	return out
}

// known are the subjects that were over the limit of programming with fewer Services.
func (o Options) known(services int) map[string]scale.Known {
	out := map[string]scale.Known{}
	for _, c := range o.cells() { // a smaller size stands before a larger one, or does not matter
		if at := place(c.name); at[0] != 0 || at[1] >= services {
			continue
		}
		if f, err := load(o.path(c)); err == nil && f.Scale != nil {
			scale.KnownOver(out, f.Scale.Options, f.Scale.Samples)
		}
	}
	return out
}

// programming is a cell of programming. Control is a subject to measure twice, "" for none; skip
// has subjects not to run, and why.
type programming struct {
	services, runs, changes int
	churn, limit            time.Duration
	control                 string
	skip                    map[string]string
}

func (p programming) cell(about time.Duration) cell {
	return cell{name(programmingCell, p.services, false), about, func(ctx context.Context, o Options, f *File) error {
		r := &Programming{Options: scale.Options{
			Known: o.known(p.services), Services: p.services, Endpoints: endpoints, Runs: p.runs, Changes: p.changes, ChurnFor: p.churn, Limit: p.limit,
			Bin: o.Bin, Subjects: withTwin(stage.Proxies, p.control), Skip: p.skip, Progress: o.Progress,
		}}
		var err error
		r.Samples, err = scale.Run(ctx, r.Options)
		f.Scale = r
		return err
	}}
}

// names is the cell of the resolvers. Only is a regular expression of the loads to measure, ""
// for all; no Services: no measurement of a large cluster.
type names struct {
	rounds   int
	duration time.Duration
	services int
	only     string
}

func (n names) cell(about time.Duration) cell {
	return cell{namesCell, about, func(ctx context.Context, o Options, f *File) (err error) {
		d := dnsbench.Options{
			Subjects: dnsbench.Subjects, Control: nameserver.Fairway, Rounds: n.rounds, Duration: n.duration,
			Services: n.services, Endpoints: 10, Changes: 100, Settle: 5 * time.Second,
			Only: n.only, Bin: o.Bin, Progress: o.Progress,
		}
		r := &dnsbench.Result{Date: f.Date, Command: f.Command, Machine: dnsbench.Machine(o.Bin), Options: d}
		if r.Samples, err = d.Run(ctx); err == nil && n.services > 0 {
			d.Rounds = min(3, d.Rounds)
			r.Sizes, err = d.RunSize(ctx)
		}
		f.Names = r
		return err
	}}
}
