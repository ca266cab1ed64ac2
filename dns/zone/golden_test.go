package zone

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

const recordings = "../testdata/coredns"

// upstream answers as the server that was forwarded to while CoreDNS was recorded.
type upstream struct{ records []dnswire.RR }

func newUpstream(t testing.TB, ttl int) *upstream {
	t.Helper()
	u := &upstream{}
	for _, text := range []string{
		"www.example.com. %d IN A 192.0.2.1", "www.example.com. %d IN A 192.0.2.2",
		"www.example.com. %d IN AAAA 2001:db8::1",
		"chain.example.com. %d IN CNAME www.example.com.",
		"v4only.example.com. %d IN A 192.0.2.9",
	} {
		rr, err := dnswire.NewRR(fmt.Sprintf(text, ttl))
		if err != nil {
			t.Fatal(err)
		}
		u.records = append(u.records, rr)
	}
	return u
}

func (u *upstream) Lookup(_ context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
	m := r.Ask(name, qtype).Answer()
	exists := false
	for follow := true; follow; {
		follow = false
		for _, rr := range u.records {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			exists = true
			if c, ok := rr.(*dnswire.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				name, follow = c.Target, true
				break
			}
			if rr.Header().Rrtype == qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	switch {
	case strings.HasSuffix(name, ".test."):
		m.Rcode = dnswire.RcodeRefused
	case !exists:
		m.Rcode = dnswire.RcodeNameError
	}
	return plugin.Answered("forward", m)
}

// blocks are the options of the recorded Corefiles, as far as they concern the plugin.
func blocks() map[string]corefile.Kubernetes {
	base := func(f func(*corefile.Kubernetes)) corefile.Kubernetes {
		k := corefile.Kubernetes{
			Zones: []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}, PrimaryZone: "cluster.local.",
			TTL: 5, Pods: corefile.PodsDisabled, Fallthrough: []string{"in-addr.arpa.", "ip6.arpa."},
		}
		f(&k)
		return k
	}
	return map[string]corefile.Kubernetes{
		"plain":           base(func(k *corefile.Kubernetes) {}),
		"transfer":        base(func(k *corefile.Kubernetes) {}),
		"kubeadm":         base(func(k *corefile.Kubernetes) { k.Pods, k.TTL = corefile.PodsInsecure, 30 }),
		"verified":        base(func(k *corefile.Kubernetes) { k.Pods = corefile.PodsVerified }),
		"podnames":        base(func(k *corefile.Kubernetes) { k.EndpointPodNames = true }),
		"noendpoints":     base(func(k *corefile.Kubernetes) { k.NoEndpoints = true }),
		"disabled_nofall": base(func(k *corefile.Kubernetes) { k.Fallthrough = nil }),
		"ttl3600":         base(func(k *corefile.Kubernetes) { k.TTL = 3600 }),
		"multicluster": base(func(k *corefile.Kubernetes) {
			k.Zones = []string{"cluster.local.", "clusterset.local.", "in-addr.arpa.", "ip6.arpa."}
			k.MulticlusterZones = []string{"clusterset.local."}
		}),
	}
}

// fixtures returns the recorded cluster.
func fixtures(t testing.TB, keep names.Keep) names.Inputs {
	t.Helper()
	c, err := dnstest.Objects(recordings)
	if err != nil {
		t.Fatal(err)
	}
	return c.Inputs(keep)
}

func newZone(t testing.TB, d corefile.Kubernetes, o Options) *Zone {
	t.Helper()
	z, err := New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// request makes a request of a message.
func request(m *dnswire.Msg, proto string) *plugin.Request {
	return &plugin.Request{Msg: m, Proto: proto, Client: netip.MustParseAddrPort("127.0.0.1:4000"), Zone: ".", Server: "dns://:53"}
}

// fast asks the fast path, and returns nil if it has no answer.
func fast(t testing.TB, z *Zone, m *dnswire.Msg, limit int) *dnswire.Msg {
	t.Helper()
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if v := q.Parse(packed); v != wire.OK {
		return nil
	}
	out := make([]byte, limit)
	n, ok := z.Answer(&q, limit, out)
	if !ok {
		return nil
	}
	if n > limit {
		t.Fatalf("%v: %d bytes, the limit is %d", m.Question, n, limit)
	}
	reply := new(dnswire.Msg)
	if err := reply.Unpack(out[:n]); err != nil {
		t.Fatalf("%v: %v", m.Question, err)
	}
	return reply
}

// limitOf is how much a client takes, without a limit of the server's own.
func limitOf(m *dnswire.Msg, proto string) int {
	if o := m.IsEdns0(); proto == "udp" && o != nil {
		return max(512, int(o.UDPSize()))
	} else if proto == "udp" {
		return 512
	}
	return 65535
}

// Every recorded answer that is the plugin's comes out of the fast path, and out of the slow one.
func TestRecorded(t *testing.T) {
	inputs := fixtures(t, names.Keep{Pods: true, Zones: true})
	for name, directive := range blocks() {
		t.Run(name, func(t *testing.T) {
			answers, err := dnstest.Load(recordings, name)
			if err != nil {
				t.Fatal(err)
			}
			options := Options{Rotate: name == "kubeadm"}
			switch name {
			case "disabled_nofall": // has nobody to ask
			case "kubeadm": // has a cache before it
				options.Resolver = newUpstream(t, 30)
			default:
				options.Resolver = newUpstream(t, 300)
			}
			z := newZone(t, directive, options)
			z.Update(inputs)
			fasts, slows, differences := 0, 0, map[string]int{}
			for _, want := range answers {
				if dnstest.Flag(want.Q, "q0") || dnstest.Flag(want.Q, "q2") || strings.Contains(want.Q, "opcode=") ||
					strings.Contains(want.Q, "opt=ver1") {
					continue // the server's
				}
				m, proto, err := dnstest.Parse(want.Q)
				if err != nil {
					t.Fatal(err)
				}
				if plugin.Longest(directive.Zones, m.Question[0].Name) == "" {
					continue // forwarded
				}
				reply := fast(t, z, m, limitOf(m, proto))
				if reply != nil {
					fasts++
					check(t, want, reply, differences, dnstest.Options{})
				}
				reply = slow(t, z, m, proto)
				slows++
				check(t, want, reply, differences, dnstest.Options{IgnoreOPT: true})
			}
			t.Logf("%d fast, %d slow, differences: %v", fasts, slows, differences)
			if fasts < 120 || slows < 120 {
				t.Errorf("only %d answers of the fast path and %d of the slow one were compared", fasts, slows)
			}
		})
	}
}

// slow asks the plugin, with a server behind it that forwards names of zones that are not its own,
// which is refused. The reply is cut as the server would.
func slow(t testing.TB, z *Zone, m *dnswire.Msg, proto string) *dnswire.Msg {
	t.Helper()
	refuse := plugin.HandlerFunc(func(_ context.Context, r *plugin.Request) plugin.Reply {
		return plugin.Fail("forward", dnswire.RcodeRefused, nil)
	})
	r := request(m, proto)
	p := z.Wrap(refuse).Serve(t.Context(), r).Own(r)
	p.Msg.Truncate(limitOf(m, proto))
	return p.Msg
}

func check(t *testing.T, want dnstest.Answer, reply *dnswire.Msg, differences map[string]int, o dnstest.Options) {
	t.Helper()
	got := dnstest.Of(want.Q, reply)
	if o.IgnoreOPT {
		want.OPT, got.OPT = "", ""
	}
	wrong := dnstest.Compare(want, got, o)
	if len(wrong) == 0 {
		if err := dnstest.Order(reply); err != nil {
			t.Errorf("%s: %v", want.Q, err)
		}
		return
	}
	if rule := dnstest.Explain(want, got); rule != nil {
		differences[rule.ID]++
		return
	}
	t.Errorf("%s:\n  %s", want.Q, strings.Join(wrong, "\n  "))
}
