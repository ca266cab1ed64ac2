package plugin

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"
)

// A Request is one query on its way through a chain. It is read by many and changed by nobody:
// a plugin that wants another question makes a new Request with [Request.Copy].
type Request struct {
	Msg    *dnswire.Msg // the query as received, with exactly one question
	Client netip.AddrPort
	Local  netip.AddrPort // the address that was asked
	Proto  string         // "udp" or "tcp"
	Size   int            // bytes of the query as received
	Zone   string         // zone of the server block, lower case, final dot
	Server string         // label of metrics, such as dns://:53
	View   string         // label of metrics: the view that chose the block, usually ""

	// Send are EDNS options for upstreams, which plugins of the block want them to have. Options of
	// the client's own are not passed on. Requests with different Send have different answers.
	Send []dnswire.EDNS0

	// From is the request that this one was made from, and nil for what a client sent. Policy must
	// hold for every request in that line: a name that was rewritten was still asked for.
	From *Request
}

// Question returns the question, or the zero Question if the message has none.
func (r *Request) Question() dnswire.Question {
	if r.Msg == nil || len(r.Msg.Question) == 0 {
		return dnswire.Question{}
	}
	return r.Msg.Question[0]
}

// Name returns the name of the question in lower case, with its final dot.
func (r *Request) Name() string { return Canonical(r.Question().Name) }

// Spelled returns the name of the question as the client wrote it.
func (r *Request) Spelled() string { return r.Question().Name }

// Type returns the type of the question.
func (r *Request) Type() uint16 { return r.Question().Qtype }

// Class returns the class of the question.
func (r *Request) Class() uint16 { return r.Question().Qclass }

// TCP reports whether the reply may be as long as a message can be.
func (r *Request) TCP() bool { return r.Proto == "tcp" }

// Bufsize returns the size in bytes of the largest reply that the client takes.
func (r *Request) Bufsize() int {
	if r.TCP() {
		return dnswire.MaxMsgSize
	}
	if opt := r.Msg.IsEdns0(); opt != nil {
		return max(int(opt.UDPSize()), dnswire.MinMsgSize)
	}
	return dnswire.MinMsgSize
}

// First returns what the client sent: the request at the start of the line of From.
func (r *Request) First() *Request {
	for r.From != nil {
		r = r.From
	}
	return r
}

// Copy returns a request with a message of its own, which the caller may change. Its From is r.
func (r *Request) Copy() *Request {
	c := *r
	c.Msg = r.Msg.Copy()
	c.From = r
	return &c
}

// Ask returns a copy of the request with another question, in the same class.
func (r *Request) Ask(name string, qtype uint16) *Request {
	c := r.Copy()
	c.Msg.Question = []dnswire.Question{{Name: dnswire.Fqdn(name), Qtype: qtype, Qclass: r.Class()}}
	return c
}

// Answer returns an empty authoritative answer to the request: NOERROR, with the question, the id
// and the flags RD and CD of the query. EDNS is added by the server, see [Reply].
func (r *Request) Answer() *dnswire.Msg {
	m := new(dnswire.Msg)
	m.SetReply(r.Msg)
	m.CheckingDisabled = r.Msg.CheckingDisabled
	m.Authoritative = true
	return m
}

// A Reply is what a chain says to a request.
//
// The message may be shared with a cache or with other clients that asked the same, so nobody
// changes the Msg of a Reply that it did not make: see [Reply.Own]. An OPT record in it carries
// options only (an extended error, an NSID). Its size and DO bit are for the server to fill in,
// which also takes the whole record away if the query had none.
type Reply struct {
	Msg    *dnswire.Msg // nil: an answer with Rcode and nothing else
	Rcode  int          // only if Msg is nil, see Code
	Drop   bool         // send nothing at all
	Plugin string       // who answered, by its name in the Corefile
	Err    error        // for errors and log, nil if all went well

	// More is what follows Msg on the same connection: the rest of a zone transfer. It is nil for
	// all but those, and only ever set for requests over TCP. Messages are at most 64 KiB packed.
	More iter.Seq[*dnswire.Msg]
}

// Code returns the response code that the client will see.
func (p Reply) Code() int {
	if p.Msg != nil {
		return p.Msg.Rcode
	}
	return p.Rcode
}

// Shallow returns the reply with a message and sections that belong to the caller, but records
// that do not: enough to put records in another order, to leave some out or to change a flag.
func (p Reply) Shallow(r *Request) Reply {
	if p.Msg == nil {
		return p.Own(r)
	}
	m := *p.Msg
	m.Question = slices.Clone(m.Question)
	m.Answer = slices.Clone(m.Answer)
	m.Ns = slices.Clone(m.Ns)
	m.Extra = slices.Clone(m.Extra)
	p.Msg = &m
	return p
}

// Own returns the reply with a message that belongs to the caller. A reply without a message
// gets one that says the same.
func (p Reply) Own(r *Request) Reply {
	if p.Msg != nil {
		p.Msg = p.Msg.Copy()
		return p
	}
	p.Msg = new(dnswire.Msg)
	p.Msg.SetRcode(r.Msg, p.Rcode)
	p.Msg.CheckingDisabled = r.Msg.CheckingDisabled
	return p
}

// Fail returns a reply without records.
func Fail(plugin string, rcode int, err error) Reply {
	return Reply{Rcode: rcode, Plugin: plugin, Err: err}
}

// Answered returns a reply with a message.
func Answered(plugin string, m *dnswire.Msg) Reply {
	return Reply{Msg: m, Rcode: m.Rcode, Plugin: plugin}
}

// Chase adds to a reply, whose last record is an alias, what the chain says of its target. The code
// is that of the last name (RFC 6604), and a denial comes with its SOA. If nothing shall be sent to
// that, the reply becomes a drop. The message must be the caller's own.
func (p Reply) Chase(ctx context.Context, chain Resolver, r *Request, target string) Reply {
	end := chain.Lookup(ctx, r, target, r.Type())
	if end.Drop {
		return end
	}
	p.Msg.Rcode = end.Code()
	if end.Msg != nil {
		p.Msg.Answer = append(p.Msg.Answer, end.Msg.Answer...)
		p.Msg.Truncated = end.Msg.Truncated
	}
	switch {
	case Denied(end.Msg):
		p.Msg.Ns = slices.Clone(end.Msg.Ns)
	case KindOf(end.Msg).Error():
		p.Msg.Ns = nil
	}
	if end.Err != nil {
		p.Err = end.Err
	}
	return p
}

// Option adds an EDNS option to a message whose sections are the caller's own. The server removes
// it if the query had no OPT record.
func Option(m *dnswire.Msg, o dnswire.EDNS0) {
	for i, rr := range m.Extra {
		if old, ok := rr.(*dnswire.OPT); ok {
			opt := *old // the record may be another's
			opt.Option = append(slices.Clone(old.Option), o)
			m.Extra[i] = &opt
			return
		}
	}
	opt := &dnswire.OPT{Hdr: dnswire.RR_Header{Name: ".", Rrtype: dnswire.TypeOPT}}
	opt.Option = []dnswire.EDNS0{o}
	m.Extra = append(m.Extra, opt)
}

// A Handler answers requests. It is safe for concurrent use.
type Handler interface {
	Serve(ctx context.Context, r *Request) Reply
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(ctx context.Context, r *Request) Reply

// Serve calls the function.
func (f HandlerFunc) Serve(ctx context.Context, r *Request) Reply { return f(ctx, r) }

// A Plugin is one link of a chain. Wrap is called for each chain that the plugin is part of, before
// the first request of that chain: after a reload an unchanged plugin is part of the new chain
// while the old one still answers. So a plugin keeps no next of its own. The Handler that Wrap
// returns may ask next any number of times for one request.
type Plugin interface {
	Name() string // as in the Corefile
	Wrap(next Handler) Handler
}

// A Starter has something to start before its chain serves: a file to read, an upstream to probe.
// What it starts ends with ctx or with Close.
type Starter interface {
	Start(ctx context.Context) error
}

// A Closer has something to stop when its chain serves no more.
type Closer interface {
	Close() error
}

// A Readier says when it can answer. Readiness waits for all of them.
type Readier interface {
	Ready() bool
}

// A Resolver asks a whole chain again, from its first plugin. The server gives it to plugins whose
// answers need another name: CNAME targets, the IPv4 addresses behind dns64. Depth is bounded.
type Resolver interface {
	Lookup(ctx context.Context, r *Request, name string, qtype uint16) Reply
}

// ResolverFunc makes a Resolver of a function.
type ResolverFunc func(ctx context.Context, r *Request, name string, qtype uint16) Reply

// Lookup calls the function.
func (f ResolverFunc) Lookup(ctx context.Context, r *Request, name string, qtype uint16) Reply {
	return f(ctx, r, name, qtype)
}

// ErrNoNext is the error of a request that no plugin of its block answered.
var ErrNoNext = errors.New("no next plugin found")

// End is the last link of every chain: SERVFAIL. A plugin may compare its next with it.
var End Handler = end{}

type end struct{}

func (end) Serve(context.Context, *Request) Reply {
	return Fail("", dnswire.RcodeServerFailure, ErrNoNext)
}

// Chain puts plugins in a row, the first one outermost, with [End] behind the last.
func Chain(plugins ...Plugin) Handler {
	h := End
	for i := len(plugins) - 1; i >= 0; i-- {
		h = plugins[i].Wrap(h)
	}
	return h
}

// Canonical returns a name in lower case with its final dot. Only the letters A to Z have a lower
// case in DNS (RFC 4343).
func Canonical(name string) string {
	name = dnswire.Fqdn(name)
	for i := 0; i < len(name); i++ {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return lower(name)
		}
	}
	return name
}

func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Under reports whether a name is a zone's or below it, label by label: badexample.org. is not
// below example.org. Case does not matter.
func Under(zone, name string) bool {
	zone, name = Canonical(zone), Canonical(name)
	switch {
	case zone == ".":
		return true
	case !strings.HasSuffix(name, zone):
		return false
	case len(name) == len(zone):
		return true
	}
	at := len(name) - len(zone) - 1
	if name[at] != '.' {
		return false
	}
	// A dot that is escaped belongs to its label.
	slashes := 0
	for i := at - 1; i >= 0 && name[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 0
}

// Longest returns the zone that holds a name, the one of most labels if several do, and "" if none.
func Longest(zones []string, name string) string {
	best := ""
	for _, z := range zones {
		if len(z) > len(best) && Under(z, name) {
			best = z
		}
	}
	return best
}

// A Fall says for which names a plugin without an answer asks the next one: those in its zones. The
// zero Fall is for none.
type Fall struct {
	zones []string
}

// NewFall makes a Fall of the zones of the directive fallthrough, nil if there is none.
func NewFall(zones []string) Fall {
	f := Fall{}
	for _, z := range zones {
		f.zones = append(f.zones, Canonical(z))
	}
	return f
}

// Through reports whether the next plugin is to be asked for a name.
func (f Fall) Through(name string) bool { return Longest(f.zones, name) != "" }
