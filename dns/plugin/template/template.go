package template

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	gotemplate "text/template"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// maxRecord is how many bytes a template may write: more than the text of any useful record.
const maxRecord = 16 << 10

// Metrics are those of all instances of the plugin in a process.
type Metrics struct {
	matches, failures, badRecords *prometheus.CounterVec
}

// NewMetrics returns the metrics of a process.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		labels = append([]string{"server", "zone", "view", "class", "type"}, labels...)
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "template", Name: name, Help: help}, labels)
	}
	return &Metrics{
		matches:    counter("matches_total", "Counter of template regex matches."),
		failures:   counter("template_failures_total", "Counter of go template failures.", "section", "template"),
		badRecords: counter("rr_failures_total", "Counter of mis-templated RRs.", "section", "template"),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []*prometheus.CounterVec{m.matches, m.failures, m.badRecords} {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []*prometheus.CounterVec{m.matches, m.failures, m.badRecords} {
		c.Collect(ch)
	}
}

// Template is the plugin, with all templates of a block.
type Template struct {
	rules    []rule
	resolver plugin.Resolver
	metrics  *Metrics
}

type rule struct {
	class, qtype uint16
	zones        []string
	set          plugin.ZoneSet // of the zones
	match        []*regexp.Regexp
	sections     []section
	rcode        int
	ede          *corefile.ExtendedError
	fall         plugin.Fall
}

// A section is the templates of one section of a reply.
type section struct {
	name    string
	records []*gotemplate.Template
	of      func(*dnswire.Msg) *[]dnswire.RR
}

// New returns the plugin. resolver looks up targets of aliases.
func New(d *corefile.Template, resolver plugin.Resolver, m *Metrics) (*Template, error) {
	t := &Template{resolver: resolver, metrics: m}
	for _, c := range d.Templates {
		u := rule{
			class: c.Class, qtype: c.Type, zones: c.Zones, set: plugin.NewZoneSet(c.Zones), match: c.Match, rcode: c.Rcode, ede: c.EDE,
			fall: plugin.NewFall(c.Fallthrough),
		}
		for _, s := range []struct {
			name  string
			texts []string
			of    func(*dnswire.Msg) *[]dnswire.RR
		}{
			{"answer", c.Answer, func(m *dnswire.Msg) *[]dnswire.RR { return &m.Answer }},
			{"additional", c.Additional, func(m *dnswire.Msg) *[]dnswire.RR { return &m.Extra }},
			{"authority", c.Authority, func(m *dnswire.Msg) *[]dnswire.RR { return &m.Ns }},
		} {
			sec := section{name: s.name, of: s.of}
			for _, text := range s.texts {
				g, err := gotemplate.New(s.name).Funcs(gotemplate.FuncMap{"parseInt": strconv.ParseUint}).Parse(text)
				if err != nil {
					return nil, fmt.Errorf("line %d: %w", c.Line, err)
				}
				sec.records = append(sec.records, g)
			}
			u.sections = append(u.sections, sec)
		}
		t.rules = append(t.rules, u)
	}
	return t, nil
}

// Name returns "template".
func (*Template) Name() string { return "template" }

// Passes implements plugin.Passer.
func (t *Template) Passes(q *wire.Query) bool {
	for i := range t.rules {
		u := &t.rules[i]
		ofClass := u.class == dnswire.ClassANY || u.class == dnswire.ClassINET
		ofType := u.qtype == dnswire.TypeANY || q.Type == dnswire.TypeANY || u.qtype == q.Type
		if ofClass && ofType && u.set.Holds(q) {
			return false
		}
	}
	return true
}

// Wrap returns the plugin in front of next.
func (t *Template) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		for i := range t.rules {
			u := &t.rules[i]
			d := u.concerns(r)
			switch {
			case d == nil:
			case d.Match != nil:
				return t.answer(ctx, r, u, d)
			case !u.fall.Through(d.Name):
				return plugin.Fail("template", dnswire.RcodeServerFailure, nil)
			}
		}
		return next.Serve(ctx, r)
	})
}

// concerns returns what a rule knows of a request, nil if it is for other zones, classes or types.
// Match is nil if no pattern matches.
func (u *rule) concerns(r *plugin.Request) *data {
	name := r.Name()
	zone := plugin.Longest(u.zones, name)
	class, qtype := r.Class(), r.Type()
	if zone == "" || u.class != dnswire.ClassANY && class != dnswire.ClassANY && class != u.class ||
		u.qtype != dnswire.TypeANY && qtype != dnswire.TypeANY && qtype != u.qtype {
		return nil
	}
	d := &data{Zone: zone, Name: name, Class: dnswire.Class(class).String(), Type: dnswire.Type(qtype).String(),
		Remote: r.Client.Addr().Unmap().String(), request: r}
	for _, re := range u.match {
		groups := re.FindStringSubmatch(name)
		if groups == nil {
			continue
		}
		d.Regex, d.Match, d.Group = re.String(), groups, map[string]string{}
		for i, g := range groups {
			d.Group[strconv.Itoa(i)] = g
			if n := re.SubexpNames()[i]; n != "" {
				d.Group[n] = g
			}
		}
		break
	}
	return d
}

// data is what a template sees.
type data struct {
	Zone, Name, Regex string
	Match             []string
	Group             map[string]string // by number and by name
	Class, Type       string
	Remote            string // the client's address

	request *plugin.Request
}

// Message returns the query, for the template to do with as it likes.
func (d *data) Message() *dnswire.Msg { return d.request.Msg.Copy() }

// Question returns the question as the client spelled it.
func (d *data) Question() *dnswire.Question {
	q := d.request.Question()
	return &q
}

// Meta returns metadata of other plugins, of which there is only the view.
func (d *data) Meta(name string) string {
	if name == "view/name" {
		return d.request.View
	}
	return ""
}

func (t *Template) answer(ctx context.Context, r *plugin.Request, u *rule, d *data) plugin.Reply {
	t.metrics.matches.WithLabelValues(r.Server, d.Zone, r.View, d.Class, d.Type).Inc()
	m := r.Answer()
	m.Rcode = u.rcode
	m.Authoritative = u.rcode != dnswire.RcodeServerFailure
	reply := plugin.Reply{Msg: m, Plugin: "template"}
	for _, s := range u.sections {
		records := s.of(m)
		for _, g := range s.records {
			rr, err := t.record(r, s.name, g, d)
			if err != nil {
				return plugin.Fail("template", dnswire.RcodeServerFailure, err)
			}
			*records = append(*records, rr)
			alias, ok := rr.(*dnswire.CNAME)
			if s.name != "answer" || !ok || r.Type() != dnswire.TypeA && r.Type() != dnswire.TypeAAAA {
				continue
			}
			if reply = reply.Chase(ctx, t.resolver, r, alias.Target); reply.Drop {
				return reply
			}
			if u.rcode != dnswire.RcodeSuccess {
				m.Rcode = u.rcode
			}
		}
	}
	if u.ede != nil {
		plugin.Option(m, &dnswire.EDNS0_EDE{InfoCode: u.ede.Code, ExtraText: u.ede.Reason})
	}
	return reply
}

var errTooLong = errors.New("a template wrote too much")

// limited is a strings.Builder that is full at some point.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxRecord {
		return 0, errTooLong
	}
	return l.Builder.Write(p)
}

// record fills a template and parses the record that it wrote.
func (t *Template) record(r *plugin.Request, section string, g *gotemplate.Template, d *data) (dnswire.RR, error) {
	labels := []string{r.Server, d.Zone, r.View, d.Class, d.Type, section, g.Root.String()}
	var text limited
	if err := g.Execute(&text, d); err != nil {
		t.metrics.failures.WithLabelValues(labels...).Inc()
		return nil, err
	}
	p := dnswire.NewZoneParser(strings.NewReader(text.String()), ".", "")
	p.SetDefaultTTL(3600)
	rr, ok := p.Next()
	err := p.Err()
	if err == nil && !ok {
		err = errors.New("a template wrote no record")
	}
	if err == nil {
		if _, more := p.Next(); more || p.Err() != nil {
			err = errors.New("a template wrote more than one record")
		}
	}
	if err != nil {
		t.metrics.badRecords.WithLabelValues(labels...).Inc()
		return nil, err
	}
	return rr, nil
}
