package nameserver

import (
	"fmt"
	"net"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"
)

// world is what an [Internet] knows. A host under servfail.example.com. is answered with SERVFAIL,
// one under refused.example.com. with REFUSED, and one under silent.example.com. not at all.
const world = `
$ORIGIN example.com.
@        3600 IN SOA   ns1 admin 2026010101 7200 3600 1209600 300
@        3600 IN NS    ns1
@        3600 IN MX    10 mail
@        3600 IN TXT   "v=spf1 -all"
@        3600 IN A     192.0.2.10
ns1      3600 IN A     192.0.2.53
mail      300 IN A     192.0.2.25
mail      300 IN AAAA  2001:db8::25
www       300 IN A     192.0.2.80
www       300 IN AAAA  2001:db8::80
v4only    300 IN A     192.0.2.81
v6only    300 IN AAAA  2001:db8::81
alias     120 IN CNAME www
chain      60 IN CNAME alias
away       60 IN CNAME www.example.net.
dangling   60 IN CNAME nobody
_sip._tcp 300 IN SRV   10 60 5060 mail
short       3 IN A     192.0.2.3
a.b.deep  300 IN A     192.0.2.90
$ORIGIN example.net.
@        3600 IN SOA   ns1 admin 7 7200 3600 1209600 60
www       300 IN A     192.0.2.180
$ORIGIN 2.0.192.in-addr.arpa.
@        3600 IN SOA   ns1.example.com. admin.example.com. 7 7200 3600 1209600 60
80       3600 IN PTR   www.example.com.
`

// An Internet is an authoritative server for some names outside of the cluster, which stands in
// for the resolver that a cluster forwards to. It answers over UDP and TCP until it is closed.
type Internet struct {
	names   map[string][]dnswire.RR // by lower-case name; an empty non-terminal has none
	soas    map[string]*dnswire.SOA
	servers []*dnswire.Server
}

// NewInternet returns an Internet that listens nowhere.
func NewInternet() (*Internet, error) {
	n := &Internet{names: map[string][]dnswire.RR{}, soas: map[string]*dnswire.SOA{}}
	text := &strings.Builder{}
	text.WriteString(world)
	text.WriteString("$ORIGIN example.com.\n")
	for i := range 60 {
		fmt.Fprintf(text, "big 300 IN A 198.51.100.%d\n", i)
	}
	for i := range 1000 {
		fmt.Fprintf(text, "host-%d 300 IN A 203.0.113.%d\n", i, i%250)
	}
	zp := dnswire.NewZoneParser(strings.NewReader(text.String()), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		name := rr.Header().Name
		n.names[name] = append(n.names[name], rr)
		if soa, ok := rr.(*dnswire.SOA); ok {
			n.soas[name] = soa
		}
	}
	if err := zp.Err(); err != nil {
		return nil, fmt.Errorf("internet: %w", err)
	}
	for name := range n.names {
		for at, end := dnswire.NextLabel(name, 0); !end; at, end = dnswire.NextLabel(name, at) {
			if parent := name[at:]; n.zone(parent) != nil && n.names[parent] == nil {
				n.names[parent] = []dnswire.RR{}
			}
		}
	}
	return n, nil
}

// TestInternet makes an Internet that listens at an address of each of the spaces, for a test,
// which ends it.
func TestInternet(t testing.TB, address string, spaces ...*Space) {
	t.Helper()
	n, err := NewInternet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	for _, s := range spaces {
		if err := n.Listen(s, address); err != nil {
			t.Fatal(err)
		}
	}
}

// Listen makes the Internet answer at an address of a space as well.
func (n *Internet) Listen(space *Space, address string) error {
	l, err := space.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("internet: %w", err)
	}
	c, err := space.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("internet: %w", err)
	}
	for _, server := range []*dnswire.Server{{Listener: l, Handler: n}, {PacketConn: c, Handler: n}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }() // ends when it is shut down
		<-started
		n.servers = append(n.servers, server)
	}
	return nil
}

// Close ends all servers.
func (n *Internet) Close() {
	for _, s := range n.servers {
		_ = s.Shutdown() // fails only if it does not run
	}
}

// zone returns the start of authority for a name, or nil.
func (n *Internet) zone(name string) *dnswire.SOA {
	for at, end := 0, false; !end; at, end = dnswire.NextLabel(name, at) {
		if soa := n.soas[name[at:]]; soa != nil {
			return soa
		}
	}
	return nil
}

// ServeDNS answers a query.
func (n *Internet) ServeDNS(w dnswire.ResponseWriter, r *dnswire.Msg) {
	if reply := n.reply(r); reply != nil {
		size := dnswire.MaxMsgSize
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			size = dnswire.MinMsgSize
			if opt := r.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
		}
		reply.Truncate(size)
		_ = w.WriteMsg(reply) // the client is gone
	}
}

func (n *Internet) reply(r *dnswire.Msg) *dnswire.Msg {
	m := new(dnswire.Msg).SetReply(r)
	m.RecursionAvailable = true
	if opt := r.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	if len(r.Question) != 1 {
		m.Rcode = dnswire.RcodeFormatError
		return m
	}
	q := r.Question[0]
	name := strings.ToLower(q.Name)
	switch {
	case dnswire.IsSubDomain("silent.example.com.", name):
		return nil
	case dnswire.IsSubDomain("servfail.example.com.", name):
		m.Rcode = dnswire.RcodeServerFailure
		return m
	case dnswire.IsSubDomain("refused.example.com.", name):
		m.Rcode = dnswire.RcodeRefused
		return m
	}
	n.answer(m, q, name)
	return m
}

// answer fills in the records that a name has, following its aliases.
func (n *Internet) answer(m *dnswire.Msg, q dnswire.Question, name string) {
	owner := q.Name
	for range 8 {
		soa := n.zone(name)
		records, exists := n.names[name]
		if soa == nil || !exists {
			m.Rcode = dnswire.RcodeNameError
			if soa != nil {
				m.Ns = append(m.Ns, negative(soa))
			}
			return
		}
		next := ""
		found := false
		for _, rr := range records {
			cname, alias := rr.(*dnswire.CNAME)
			if rr.Header().Rrtype != q.Qtype && !alias && q.Qtype != dnswire.TypeANY {
				continue
			}
			rr = dnswire.Copy(rr)
			rr.Header().Name = owner
			m.Answer = append(m.Answer, rr)
			found = true
			if alias && q.Qtype != dnswire.TypeCNAME {
				next = cname.Target
			}
		}
		if next == "" {
			if !found {
				m.Ns = append(m.Ns, negative(soa))
			}
			return
		}
		owner, name = next, strings.ToLower(next)
	}
}

// negative is a start of authority as negative answers carry it (RFC 2308, 3).
func negative(soa *dnswire.SOA) dnswire.RR {
	c := dnswire.Copy(soa)
	c.Header().Ttl = min(c.Header().Ttl, soa.Minttl)
	return c
}
