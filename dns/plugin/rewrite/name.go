package rewrite

import (
	"context"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// nameRule changes the name of the question, and names in the reply back.
func nameRule(c *corefile.RewriteName) rule {
	replace := replacer(c.Match, c.To)
	fixed := answerChanges(c)
	return rule{
		match: func(r *plugin.Request) bool {
			_, ok := replace(r.Name())
			return ok
		},
		edit: func(r *plugin.Request) []change {
			before := r.Spelled()
			after, _ := replace(r.Name())
			r.Msg.Question[0].Name = after
			if !c.Auto || c.Match.Kind == "suffix" {
				return fixed
			}
			back := func(name string) (string, bool) { return remap(name, after, before) }
			return append([]change{owners(back), values(back)}, fixed...)
		},
	}
}

// answerChanges returns the changes of replies that are the same for every question.
func answerChanges(c *corefile.RewriteName) (out []change) {
	if c.Auto && c.Match.Kind == "suffix" {
		// A suffix goes back to what it was for every name below it.
		back := func(name string) (string, bool) {
			at := len(name) - len(c.To)
			if at < 0 || plugin.Canonical(name)[at:] != c.To {
				return name, false
			}
			return name[:at] + c.Match.Text, true
		}
		out = append(out, owners(back), values(back))
	}
	for _, a := range c.Answers {
		if expand := expander(a.Pattern, a.To); a.Value {
			out = append(out, values(expand))
		} else {
			out = append(out, owners(expand))
		}
	}
	return out
}

// remap turns a name, and those below it, into another.
func remap(name, from, to string) (string, bool) {
	if !plugin.Under(from, name) || from == "." && len(name) > 1 {
		return name, false
	}
	if front := name[:len(name)-len(from)]; to != "." || front == "" {
		return front + to, true
	}
	return name[:len(name)-len(from)], true
}

// valid tells whether a name that was made can be sent.
func valid(name string) bool {
	_, ok := dnswire.IsDomainName(name)
	return ok && strings.HasSuffix(name, ".")
}

// owners changes the names that records belong to.
func owners(replace func(string) (string, bool)) change {
	return func(_ context.Context, _ *plugin.Request, p plugin.Reply) plugin.Reply {
		for rr := range records(p.Msg) {
			if name, ok := replace(rr.Header().Name); ok && valid(name) {
				rr.Header().Name = name
			}
		}
		return p
	}
}

// values changes the names inside of records.
func values(replace func(string) (string, bool)) change {
	return func(_ context.Context, _ *plugin.Request, p plugin.Reply) plugin.Reply {
		for rr := range records(p.Msg) {
			value := inside(rr)
			if value == nil {
				continue
			}
			if name, ok := replace(*value); ok && valid(name) {
				*value = name
			}
		}
		return p
	}
}

// inside returns the name that a record leads to, or nil.
func inside(rr dnswire.RR) *string {
	switch rr := rr.(type) {
	case *dnswire.CNAME:
		return &rr.Target
	case *dnswire.DNAME:
		return &rr.Target
	case *dnswire.SOA:
		return &rr.Ns
	case *dnswire.SRV:
		return &rr.Target
	case *dnswire.MX:
		return &rr.Mx
	case *dnswire.NAPTR:
		return &rr.Replacement
	case *dnswire.NS:
		return &rr.Ns
	case *dnswire.PTR:
		return &rr.Ptr
	}
	return nil
}

// cnameRule leads an alias in the reply somewhere else. What came after the alias is replaced by
// what is found at the new target; if that cannot be looked up, the old one is not given away.
func cnameRule(c *corefile.RewriteCNAME, resolver plugin.Resolver) rule {
	replace := replacer(c.Match, c.To)
	return rule{
		match: func(*plugin.Request) bool { return true },
		edit: func(*plugin.Request) []change {
			return []change{func(ctx context.Context, r *plugin.Request, p plugin.Reply) plugin.Reply {
				return redirect(ctx, r, p, replace, resolver)
			}}
		},
	}
}

func redirect(ctx context.Context, r *plugin.Request, p plugin.Reply, replace func(string) (string, bool), resolver plugin.Resolver) plugin.Reply {
	var chain []dnswire.RR
	for _, rr := range p.Msg.Answer {
		alias, ok := rr.(*dnswire.CNAME)
		if !ok {
			continue
		}
		chain = append(chain, alias)
		target, ok := replace(plugin.Canonical(alias.Target))
		if target = dnswire.Fqdn(target); !ok || !valid(target) || plugin.Canonical(alias.Target) == target {
			continue
		}
		alias.Target = target
		p.Msg.Answer = chain
		if r.Type() == dnswire.TypeCNAME {
			return p
		}
		return p.Chase(ctx, resolver, r, target)
	}
	return p
}
