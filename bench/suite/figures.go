package suite

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// again is what the name of the second copy of a subject ends with, in all cells.
const again = datapath.Again

// A key says what a figure is of.
type key struct {
	cell    string // the name of the file
	where   string // path or load, "" if the cell has one only
	measure string // with its unit
	subject string
}

func (k key) of(subject string) key { k.subject = subject; return k }

// A figure is what one subject measured. Everything that a report, a comparison or a test says of
// results is made of figures.
type figure struct {
	key
	more    bool      // more is better
	sum     bool      // of single events: what counts is their sum
	typical bool      // a median, or as steady as one
	unit    string    // what it is, if that is not the same for all subjects
	samples []float64 // none if there is a reason
	limit   float64   // if over 0: it took longer than this
	reason  string    // why there are no samples
	note    string    // what else is to be said of the samples
}

// value is the median of the samples, or their sum.
func (f figure) value() float64 {
	if !f.sum {
		return stats.Median(f.samples)
	}
	out := 0.0
	for _, v := range f.samples {
		out += v
	}
	return out
}

// text is the value as a table has it.
func (f figure) text() string {
	if len(f.samples) == 0 {
		return strings.NewReplacer("\n", " ", "|", "/").Replace(f.reason) // for a table
	}
	return number(f.value()) + f.note
}

// number has three digits, and no exponent for what is measured here.
func number(x float64) string {
	if x >= 999.5 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// figures are all figures of some results.
type figures struct {
	list []figure // in the order of a report
	by   map[key]figure
	// known are pairs that were asked for before: intervals take a while.
	known map[[2]key]pair
}

func (s *figures) add(f figure) {
	s.list = append(s.list, f)
	s.by[f.key] = f
}

// figuresOf flattens results.
func figuresOf(files map[string]File) figures {
	out := figures{by: map[key]figure{}, known: map[[2]key]pair{}}
	for _, name := range inOrder(slices.Collect(maps.Keys(files))) {
		f := files[name]
		switch {
		case f.Data != nil:
			out.addData(name, *f.Data)
		case f.Scale != nil:
			out.addProgramming(name, f.Scale)
		case f.Names != nil:
			out.addNames(name, *f.Names)
		}
	}
	return out
}

// subjects are the proxies, each followed by its copy if names has that.
func subjects(names func(string) bool) (out []string) {
	for _, s := range stage.Proxies {
		out = append(out, s.Name)
		if names(s.Name + again) {
			out = append(out, s.Name+again)
		}
	}
	return out
}

func (s *figures) addData(cell string, r datapath.Result) {
	has := func(name string) bool {
		return r.Over[name] != "" || slices.ContainsFunc(r.Series, func(x datapath.Series) bool { return x.Subject == name })
	}
	all := []string{stage.Direct.Name}
	if r.Options.Control == stage.Direct.Name {
		all = append(all, stage.Direct.Name+again)
	}
	all = append(all, subjects(has)...)
	for _, path := range datapath.Paths() {
		for _, m := range datapath.Measures {
			for _, subject := range all {
				s.add(figure{
					key: key{cell, path, m, subject}, samples: r.Values(subject, path, m), reason: r.Over[subject],
					more: datapath.MoreIsBetter(m), sum: m == datapath.Failed || m == datapath.Lost,
					typical: m != datapath.Failed && m != datapath.Lost && !strings.Contains(m, "p99"),
				})
			}
		}
	}
}

// direct is what the direct connection has for the same as f; none if f is not of the data path.
func (s *figures) direct(f figure) (figure, bool) {
	d, ok := s.by[f.of(stage.Direct.Name)]
	return d, ok && len(d.samples) > 0
}

func (s *figures) addNames(cell string, r dnsbench.Result) {
	title := dnsbench.Title
	for _, mix := range r.Mixes() {
		for _, m := range dnsbench.Measures {
			for _, subject := range r.Names() {
				f := figure{
					key:  key{cell, mix, withUnit(m.Name, m.Unit), title(subject)},
					more: m.More, samples: r.Values(subject, mix, m), reason: dnsbench.Reason(subject, mix),
					typical: m.Name != dnsbench.P99.Name,
				}
				if m.Name == dnsbench.OneCore.Name && r.Machine.Cores < 2 {
					f.reason = "the machine has one core"
				}
				s.add(f)
			}
		}
		for _, subject := range r.Names() {
			f := figure{key: key{cell, mix, "queries lost", title(subject)}, sum: true, reason: dnsbench.Reason(subject, mix)}
			if f.reason == "" && len(r.Values(subject, mix, dnsbench.Peak)) > 0 {
				f.samples = []float64{float64(r.Lost(subject, mix))}
			}
			s.add(f)
		}
	}
	if len(r.Sizes) == 0 {
		return
	}
	where := fmt.Sprintf("%s Services of %d endpoints", thousands(r.Options.Services), r.Options.Endpoints)
	for _, m := range dnsbench.SizeMeasures {
		for _, subject := range r.Options.Subjects {
			f := figure{key: key{cell, where, withUnit(m.Name, m.Unit), title(subject)}, samples: r.SizeValues(subject, m)}
			if !dnsbench.KnowsKubernetes(subject) {
				f.reason = "knows no Kubernetes"
			}
			s.add(f)
		}
	}
}

func withUnit(name, unit string) string {
	if unit == "" {
		return name
	}
	return name + ", " + unit
}

// nftables is the peer that every variant of ours is measured against.
const nftables = "kube-proxy nftables"

// rivals are those that a subject is measured against, by its name; none for what is not ours.
// The first is the one that it takes the place of.
func rivals(subject string) []string {
	if subject == dnsbench.Title(nameserver.Fairway) {
		return []string{dnsbench.Title(nameserver.CoreDNS), dnsbench.Title(nameserver.NSD), dnsbench.Title(nameserver.Unbound)}
	}
	for _, s := range stage.Proxies {
		if s.Name == subject && s.Peer != "" {
			return slices.Compact([]string{s.Peer, nftables})
		}
	}
	return nil
}

// holes are the figures that neither have a value nor a reason.
func (s *figures) holes() (out []string) {
	for _, f := range s.list {
		if len(f.samples) == 0 && f.reason == "" {
			out = append(out, fmt.Sprint(f.key))
		}
	}
	return out
}
