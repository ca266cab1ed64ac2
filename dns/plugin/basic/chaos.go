package basic

import (
	"context"
	"math/rand/v2"
	"os"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// Chaos answers TXT questions of class CH about the server: its version, its authors, its host.
type Chaos struct {
	version string
	authors []string
}

// NewChaos returns the plugin. version and authors are the server's own, for a directive that does
// not say.
func NewChaos(d *corefile.Chaos, version string, authors []string) Chaos {
	c := Chaos{version, authors}
	if d.Version != "" {
		c.version = d.Version
	}
	if d.Authors != nil {
		c.authors = d.Authors
	}
	return c
}

// Name returns "chaos".
func (Chaos) Name() string { return "chaos" }

// Passes implements plugin.Passer: queries of class IN are none of its business.
func (Chaos) Passes(*wire.Query) bool { return true }

// Wrap returns the plugin in front of next.
func (c Chaos) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if r.Class() != dnswire.ClassCHAOS || r.Type() != dnswire.TypeTXT {
			return next.Serve(ctx, r)
		}
		var texts []string
		switch r.Name() {
		case "authors.bind.":
			for _, i := range rand.Perm(len(c.authors)) {
				texts = append(texts, c.authors[i])
			}
		case "version.bind.", "version.server.":
			texts = []string{c.version}
		case "hostname.bind.", "id.server.":
			host, err := os.Hostname()
			if err != nil {
				host = "localhost"
			}
			texts = []string{host}
		default:
			return next.Serve(ctx, r)
		}
		m := r.Answer()
		m.Authoritative = false
		for _, t := range texts {
			m.Answer = append(m.Answer, &dnswire.TXT{
				Hdr: dnswire.RR_Header{Name: r.Spelled(), Rrtype: dnswire.TypeTXT, Class: dnswire.ClassCHAOS},
				Txt: []string{t[:min(len(t), 255)]}, // one character string
			})
		}
		return plugin.Answered("chaos", m)
	})
}
