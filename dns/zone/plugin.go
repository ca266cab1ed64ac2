package zone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// Wrap puts the zone before next: the slow path. It writes the same answers as the fast path and
// unpacks them.
func (z *Zone) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		p := z.ask(r.Question())
		switch {
		case p.err != nil:
			return plugin.Fail(z.Name(), dnswire.RcodeServerFailure, p.err)
		case p.outcome == outside, p.outcome == falls:
			return next.Serve(ctx, r)
		case p.outcome == refused:
			return plugin.Fail(z.Name(), dnswire.RcodeRefused, nil)
		}
		m := r.Answer()
		if p.outcome == chase {
			return z.follow(ctx, r, m)
		}
		m.Rcode, m.Truncated = p.msg.Rcode, p.msg.Truncated
		m.Answer, m.Ns, m.Extra = p.msg.Answer, p.msg.Ns, p.msg.Extra
		return plugin.Answered(z.Name(), m)
	})
}

// A page is what the index says to a question, as a message.
type page struct {
	outcome outcome
	msg     *dnswire.Msg // if answered
	err     error
}

var buffers = sync.Pool{New: func() any { b := make([]byte, dnswire.MaxMsgSize); return &b }}

// ask asks the index as the fast path does.
func (z *Zone) ask(question dnswire.Question) page {
	m := dnswire.Msg{Question: []dnswire.Question{question}}
	packed, err := m.Pack()
	if err != nil {
		return page{err: fmt.Errorf("pack question %s: %w", question.Name, err)}
	}
	var q wire.Query
	if v := q.Parse(packed); v != wire.OK {
		return page{err: fmt.Errorf("question %s: not answerable", question.Name)}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, o := z.answer(&q, len(*buf)-1, *buf)
	p := page{outcome: o}
	if o == answered {
		p.msg = new(dnswire.Msg)
		if err := p.msg.Unpack((*buf)[:n]); err != nil {
			p.err = fmt.Errorf("unpack answer to %s: %w", question.Name, err)
		}
	}
	return p
}

// maxChain is how many names may stand for one another in a row, as for CoreDNS.
const maxChain = 10

// follow answers for an address of a name that stands for others: it adds what those lead to.
func (z *Zone) follow(ctx context.Context, r *plugin.Request, m *dnswire.Msg) plugin.Reply {
	f := follower{z: z, r: r, m: m, qtype: r.Type()}
	records := f.chain(ctx, r.Spelled(), nil)
	switch {
	case f.err != nil:
		return plugin.Reply{Rcode: dnswire.RcodeServerFailure, Plugin: z.Name(), Err: f.err}
	case len(records) == 0:
		p := z.ask(dnswire.Question{Name: r.Spelled(), Qtype: dnswire.TypeTXT, Qclass: dnswire.ClassINET})
		if p.err != nil || p.outcome != answered {
			return plugin.Fail(z.Name(), dnswire.RcodeServerFailure, p.err)
		}
		m.Ns = p.msg.Ns // the name exists, but no such record
	default:
		m.Answer, m.Ns, m.Rcode = records, f.denial, f.rcode
	}
	return plugin.Answered(z.Name(), m)
}

// A follower walks from name to name.
type follower struct {
	z     *Zone
	r     *plugin.Request
	m     *dnswire.Msg
	qtype uint16

	// Of the last link outside of the zone: its code, and the SOA if there is nothing at its end.
	rcode  int
	denial []dnswire.RR

	err error // a link that could not be resolved
}

// chain returns the records that a name of the zone leads to. Within the zone, a name that leads
// nowhere takes the CNAME before it with it (CoreDNS).
func (f *follower) chain(ctx context.Context, name string, path []string) (out []dnswire.RR) {
	p := f.z.ask(dnswire.Question{Name: name, Qtype: f.qtype, Qclass: dnswire.ClassINET})
	if p.outcome == answered && p.err == nil {
		return p.msg.Answer
	}
	if p.outcome != chase || len(path) > maxChain {
		return nil
	}
	zone := plugin.Longest(f.z.directive.Zones, name)
	path = append(path, plugin.Canonical(name))
	for _, target := range f.z.targetsOf(name) {
		cname := &dnswire.CNAME{Hdr: dnswire.RR_Header{Name: name, Rrtype: dnswire.TypeCNAME,
			Class: dnswire.ClassINET, Ttl: f.z.ttl.address}, Target: target}
		switch {
		case slices.Contains(path, plugin.Canonical(target)): // a loop
		case plugin.Under(zone, target):
			if more := f.chain(ctx, target, path); len(more) > 0 {
				out = append(append(out, cname), more...)
			}
		default:
			out = append(append(out, cname), f.lookup(ctx, target)...)
		}
	}
	return out
}

// lookup asks the whole server for a name outside of the zone. An answer that fails is a failure
// here too, so that the client tries again (RFC 6604), and a denial is one (RFC 2308, 2.1). Where
// nobody can be asked the CNAME is all there is to say.
func (f *follower) lookup(ctx context.Context, target string) []dnswire.RR {
	if f.z.opts.Resolver == nil {
		return nil
	}
	p := f.z.opts.Resolver.Lookup(ctx, f.r, target, f.qtype)
	switch code := p.Code(); {
	case errors.Is(p.Err, plugin.ErrNoNext):
		return nil
	case p.Drop, code != dnswire.RcodeSuccess && code != dnswire.RcodeNameError:
		f.err = fmt.Errorf("resolve %s: answered %s", target, dnswire.RcodeToString[code])
		if p.Err != nil {
			f.err = fmt.Errorf("resolve %s: %w", target, p.Err)
		}
		return nil
	case p.Msg == nil:
		f.rcode = code
		return nil
	}
	f.rcode = p.Msg.Rcode
	f.m.Truncated = f.m.Truncated || p.Msg.Truncated
	if plugin.Denied(p.Msg) {
		f.denial = slices.Clone(p.Msg.Ns)
	}
	return p.Msg.Answer
}

// targetsOf returns the names that a name stands for, with final dots.
func (z *Zone) targetsOf(name string) (out []string) {
	p := z.ask(dnswire.Question{Name: name, Qtype: dnswire.TypeCNAME, Qclass: dnswire.ClassINET})
	if p.err != nil || p.outcome != answered {
		return nil
	}
	for _, rr := range p.msg.Answer {
		if c, ok := rr.(*dnswire.CNAME); ok {
			out = append(out, c.Target)
		}
	}
	return out
}

// Apex returns the zones of the directive in lower case with final dots, the primary one first.
func (z *Zone) Apex() []string {
	out := []string{plugin.Canonical(z.directive.PrimaryZone)}
	for _, text := range z.directive.Zones {
		if text = plugin.Canonical(text); !strings.EqualFold(text, out[0]) {
			out = append(out, text)
		}
	}
	return out
}
