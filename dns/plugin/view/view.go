package view

import (
	"fmt"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// View tells whether a query is for its server block. It is safe for concurrent use.
type View struct {
	name  string
	exprs []expr
}

// New returns the view of a directive.
func New(d *corefile.View) (*View, error) {
	v := &View{name: d.Name}
	for _, text := range d.Exprs {
		e, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("expression %q: %w", text, err)
		}
		v.exprs = append(v.exprs, e)
	}
	return v, nil
}

// Label returns the name of the view, for metrics.
func (v *View) Label() string { return v.name }

// Match reports whether all expressions hold for a query.
func (v *View) Match(r *plugin.Request) bool {
	for _, e := range v.exprs {
		if !e.eval(r).truth {
			return false
		}
	}
	return true
}
