package autopath

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// maxPath bounds how many names one query can make.
const maxPath = 16

// A Searcher knows the search paths of clients: the plugin kubernetes.
type Searcher interface {
	// SearchPath returns the domains that a client searches because of the cluster, in lower case
	// with their final dots, and nil if it is not known what the client is.
	SearchPath(client netip.Addr) []string
}

// Metrics returns the counter of all instances of the plugin in a process.
func Metrics() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "coredns", Subsystem: "autopath", Name: "success_total",
		Help: "Counter of requests that did autopath."}, []string{"server"})
}

// Autopath is the plugin.
type Autopath struct {
	zones    []string
	search   []string
	searcher Searcher
	found    *prometheus.CounterVec
}

// New returns the plugin. searcher is the plugin that the directive names, and nil if it names a
// file. own are the domains of this host's resolv.conf, which pods search after those of the
// cluster; see [Own]. The counter is that of [Metrics].
func New(d *corefile.Autopath, searcher Searcher, own []string, found *prometheus.CounterVec) *Autopath {
	a := &Autopath{zones: d.Zones, search: d.Search, searcher: searcher, found: found}
	if searcher != nil {
		a.search = own
	}
	return a
}

// Own returns the search domains of a resolv.conf. A file that cannot be read has none.
func Own(path string) (out []string) {
	conf, err := dnswire.ClientConfigFromFile(path)
	if err != nil {
		return nil
	}
	for _, s := range conf.Search {
		out = append(out, plugin.Canonical(s))
	}
	return out
}

// Name returns "autopath".
func (*Autopath) Name() string { return "autopath" }

// Wrap returns the plugin in front of next.
func (a *Autopath) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		names := a.names(r)
		first := next.Serve(ctx, r)
		if names == nil || first.Drop {
			return first
		}
		if !unknown(first) {
			if first.Err == nil {
				a.found.WithLabelValues(r.Server).Inc()
			}
			return first
		}
		for _, name := range names {
			reply := next.Serve(ctx, r.Ask(name, r.Type()))
			if reply.Drop {
				return reply
			}
			if unknown(reply) {
				continue
			}
			a.found.WithLabelValues(r.Server).Inc()
			return a.rename(reply, r, name)
		}
		return first
	})
}

// unknown reports whether a reply says that there is no such name. One with an alias says that of the
// alias's target: the name itself exists.
func unknown(p plugin.Reply) bool {
	return p.Code() == dnswire.RcodeNameError && (p.Msg == nil || len(p.Msg.Answer) == 0)
}

// names returns the names of the walk after the first, and nil if there is nothing to walk.
func (a *Autopath) names(r *plugin.Request) (out []string) {
	name := r.Name()
	if plugin.Longest(a.zones, name) == "" {
		return nil
	}
	path := a.path(r)
	// The domain itself is no name that a search would make.
	if len(path) == 0 || name == path[0] || !plugin.Under(path[0], name) {
		return nil
	}
	spelled := r.Spelled()
	base := spelled[:len(spelled)-len(path[0])]
	if path[0] == "." {
		base = spelled
	}
	for _, domain := range append(slices.Clip(path[1:]), ".") {
		full := base + domain
		if domain == "." {
			full = base
		}
		if _, ok := dnswire.IsDomainName(full); ok && len(out) < maxPath && !strings.EqualFold(full, spelled) {
			out = append(out, full)
		}
	}
	return out
}

// path returns the domains that the client searches.
func (a *Autopath) path(r *plugin.Request) []string {
	path := slices.DeleteFunc(slices.Clone(a.search), func(s string) bool { return s == "" })
	if a.searcher == nil {
		return path
	}
	cluster := a.searcher.SearchPath(r.Client.Addr().WithZone("").Unmap())
	if len(cluster) == 0 {
		return nil
	}
	return append(slices.Clip(cluster), path...)
}

// rename makes a reply for another name one for the name that was asked.
func (a *Autopath) rename(p plugin.Reply, r *plugin.Request, name string) plugin.Reply {
	p = p.Shallow(r)
	p.Msg.Question = slices.Clone(r.Msg.Question)
	p.Msg.Id = r.Msg.Id
	if len(p.Msg.Answer) > 0 {
		alias := &dnswire.CNAME{
			Hdr:    dnswire.RR_Header{Name: r.Spelled(), Rrtype: dnswire.TypeCNAME, Class: dnswire.ClassINET, Ttl: p.Msg.Answer[0].Header().Ttl},
			Target: dnswire.Fqdn(name),
		}
		p.Msg.Answer = slices.Insert(p.Msg.Answer, 0, dnswire.RR(alias))
	}
	return p
}
