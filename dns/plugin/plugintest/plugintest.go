package plugintest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// Client is who asks unless a test says otherwise.
const Client = "10.244.1.5:40212"

// Ask returns a request for what text says: a name and a type, such as "a.example.org. A". What
// follows are options: tcp, do, buf=N, class=CH, from=ADDRESS.
func Ask(t testing.TB, text string) *plugin.Request {
	t.Helper()
	fields := strings.Fields(text)
	if len(fields) < 2 {
		t.Fatalf("%q has no name and type", text)
	}
	qtype, ok := dnswire.StringToType[fields[1]]
	if !ok {
		t.Fatalf("%q has no known type", text)
	}
	m := new(dnswire.Msg)
	m.SetQuestion(dnswire.Fqdn(fields[0]), qtype)
	r := &plugin.Request{
		Msg:    m,
		Client: netip.MustParseAddrPort(Client),
		Local:  netip.MustParseAddrPort("10.96.0.10:53"),
		Proto:  "udp",
		Zone:   ".",
		Server: "dns://:53",
	}
	for _, f := range fields[2:] {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "tcp":
			r.Proto = "tcp"
		case "do":
			m.SetEdns0(1232, true)
		case "buf":
			var n uint16
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			m.SetEdns0(n, false)
		case "class":
			m.Question[0].Qclass = dnswire.StringToClass[value]
		case "from":
			r.Client = netip.AddrPortFrom(netip.MustParseAddr(value), 40212)
		default:
			t.Fatalf("%q: unknown option %q", text, f)
		}
	}
	r.Size = m.Len()
	return r
}

// Nets parses networks.
func Nets(texts ...string) (out []netip.Prefix) {
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Records parses records of a zone file.
func Records(t testing.TB, texts ...string) (out []dnswire.RR) {
	t.Helper()
	for _, s := range texts {
		rr, err := dnswire.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

// Show returns a reply as text: the code and the flags, then one record a line, after the name of
// its section.
func Show(p plugin.Reply) string {
	var b strings.Builder
	if p.Drop {
		return "dropped\n"
	}
	b.WriteString(dnswire.RcodeToString[p.Code()])
	if p.Msg != nil {
		for _, f := range []struct {
			on   bool
			name string
		}{{p.Msg.Authoritative, "aa"}, {p.Msg.Truncated, "tc"}, {p.Msg.RecursionDesired, "rd"}, {p.Msg.RecursionAvailable, "ra"}} {
			if f.on {
				b.WriteString(" " + f.name)
			}
		}
	}
	if p.Err != nil {
		b.WriteString(" error: " + p.Err.Error())
	}
	b.WriteString("\n")
	if p.Msg != nil {
		section(&b, "", p.Msg.Answer)
		section(&b, "auth ", p.Msg.Ns)
		section(&b, "more ", p.Msg.Extra)
	}
	return b.String()
}

func section(b *strings.Builder, name string, rrs []dnswire.RR) {
	for _, rr := range rrs {
		if opt, ok := rr.(*dnswire.OPT); ok {
			for _, o := range opt.Option {
				fmt.Fprintf(b, "%soption %d %s\n", name, o.Option(), o)
			}
			continue
		}
		b.WriteString(name + strings.Join(strings.Fields(rr.String()), " ") + "\n")
	}
}

// Next is a handler that stands behind a plugin. It answers from a list and remembers what it was
// asked. The zero Next refuses everything.
type Next struct {
	Replies map[string]plugin.Reply // by "name type", such as "a.example.org. A"

	mu    sync.Mutex
	asked []string
	last  *plugin.Request
}

// Serve answers from the list.
func (n *Next) Serve(_ context.Context, r *plugin.Request) plugin.Reply {
	key := r.Name() + " " + dnswire.TypeToString[r.Type()]
	n.mu.Lock()
	n.asked = append(n.asked, key)
	n.last = r
	n.mu.Unlock()
	p, ok := n.Replies[key]
	if !ok {
		return plugin.Fail("next", dnswire.RcodeRefused, nil)
	}
	if p.Msg != nil {
		p = p.Own(r)
		p.Msg.SetRcode(r.Msg, p.Msg.Rcode)
	}
	p.Plugin = "next"
	return p
}

// Asked returns what was asked, in order.
func (n *Next) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// Last returns the last request.
func (n *Next) Last() *plugin.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// Lookup makes Next a plugin.Resolver as well.
func (n *Next) Lookup(ctx context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
	return n.Serve(ctx, r.Ask(name, qtype))
}

// Answers returns a reply of a code with records: those of the answer section first, after "--"
// those of authority, after another "--" the additional ones.
func Answers(t testing.TB, rcode int, texts ...string) plugin.Reply {
	t.Helper()
	m := &dnswire.Msg{}
	m.Rcode = rcode
	sections := []*[]dnswire.RR{&m.Answer, &m.Ns, &m.Extra}
	at := 0
	for _, s := range texts {
		if s == "--" {
			at++
			continue
		}
		*sections[at] = append(*sections[at], Records(t, s)...)
	}
	return plugin.Reply{Msg: m}
}
