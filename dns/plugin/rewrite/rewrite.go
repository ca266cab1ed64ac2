package rewrite

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"slices"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// A change is made to a reply that belongs to the plugin. The request is the rewritten one.
type change func(ctx context.Context, r *plugin.Request, p plugin.Reply) plugin.Reply

// A rule is one line of the Corefile.
type rule struct {
	next bool // later rules are tried even if this one matched

	// match tells whether the rule is for a request. edit changes the request, which is a copy, and
	// returns what has to be done to the reply.
	match func(r *plugin.Request) bool
	edit  func(r *plugin.Request) []change
}

// Rewrite is the plugin.
type Rewrite struct {
	rules      []rule
	conditions []condition      // of the rules, for Passes
	patterns   []*regexp.Regexp // of those with a pattern
}

// New returns the plugin. resolver looks up new targets of aliases.
func New(d *corefile.Rewrite, resolver plugin.Resolver) *Rewrite {
	w := &Rewrite{}
	for _, c := range d.Rules {
		u := makeRule(c, resolver)
		u.next = c.Continue
		w.rules = append(w.rules, u)
		k := conditionOf(c)
		w.conditions = append(w.conditions, k)
		if k.match != nil && k.match.Pattern != nil {
			w.patterns = append(w.patterns, k.match.Pattern)
		}
	}
	return w
}

func makeRule(c corefile.RewriteRule, resolver plugin.Resolver) rule {
	switch {
	case c.Name != nil:
		return nameRule(c.Name)
	case c.Type != nil:
		return rule{
			match: func(r *plugin.Request) bool { return r.Type() == c.Type.From },
			edit: func(r *plugin.Request) []change {
				r.Msg.Question[0].Qtype = c.Type.To
				return nil
			},
		}
	case c.Class != nil:
		return rule{
			match: func(r *plugin.Request) bool { return r.Class() == c.Class.From },
			edit: func(r *plugin.Request) []change {
				r.Msg.Question[0].Qclass = c.Class.To
				return nil
			},
		}
	case c.TTL != nil:
		return replyRule(c.TTL.Match, func(_ context.Context, _ *plugin.Request, p plugin.Reply) plugin.Reply {
			for rr := range records(p.Msg) {
				rr.Header().Ttl = min(max(rr.Header().Ttl, c.TTL.Min), c.TTL.Max)
			}
			return p
		})
	case c.Rcode != nil:
		return replyRule(c.Rcode.Match, func(_ context.Context, _ *plugin.Request, p plugin.Reply) plugin.Reply {
			if p.Msg.Rcode == c.Rcode.From {
				p.Msg.Rcode = c.Rcode.To
			}
			return p
		})
	case c.CNAME != nil:
		return cnameRule(c.CNAME, resolver)
	}
	return ednsRule(c.EDNS0)
}

// replyRule makes a rule that leaves the request as it is.
func replyRule(m corefile.NameMatch, f change) rule {
	match := matcher(m)
	return rule{
		match: func(r *plugin.Request) bool { return match(r.Name()) },
		edit:  func(*plugin.Request) []change { return []change{f} },
	}
}

// records returns all records of a message but for OPT, which is none.
func records(m *dnswire.Msg) iter.Seq[dnswire.RR] {
	return func(yield func(dnswire.RR) bool) {
		for _, section := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
			for _, rr := range section {
				if rr.Header().Rrtype != dnswire.TypeOPT && !yield(rr) {
					return
				}
			}
		}
	}
}

// Name returns "rewrite".
func (*Rewrite) Name() string { return "rewrite" }

// Wrap returns the plugin in front of next.
func (w *Rewrite) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		asked, changes := w.rewrite(r)
		if asked == r {
			return next.Serve(ctx, r)
		}
		name := asked.Spelled()
		if _, ok := dnswire.IsDomainName(name); !ok {
			return plugin.Fail("rewrite", dnswire.RcodeServerFailure, fmt.Errorf("invalid name after rewrite: %s", name))
		}
		reply := next.Serve(ctx, asked)
		if reply.Drop {
			return reply
		}
		reply = revert(ctx, r, asked, changes, reply)
		if more := reply.More; more != nil {
			reply.More = func(yield func(*dnswire.Msg) bool) {
				for m := range more {
					if !yield(revert(ctx, r, asked, changes, plugin.Answered("", m)).Msg) {
						return
					}
				}
			}
		}
		return reply
	})
}

// rewrite returns what to ask instead, r itself if no rule is for it, and the changes of the reply.
func (w *Rewrite) rewrite(r *plugin.Request) (asked *plugin.Request, changes []change) {
	asked = r
	for _, u := range w.rules {
		if !u.match(asked) {
			continue
		}
		if asked == r {
			asked = r.Copy()
		}
		changes = append(changes, u.edit(asked)...)
		if !u.next {
			break
		}
	}
	return asked, changes
}

// revert makes a reply to the rewritten request one to the client's own.
func revert(ctx context.Context, r, asked *plugin.Request, changes []change, p plugin.Reply) plugin.Reply {
	if len(changes) == 0 {
		p = p.Shallow(asked)
	} else {
		p = p.Own(asked)
	}
	for _, c := range slices.Backward(changes) {
		if p = c(ctx, asked, p); p.Drop {
			return p
		}
	}
	p.Msg.Question = slices.Clone(r.Msg.Question)
	p.Msg.Id = r.Msg.Id
	return p
}
