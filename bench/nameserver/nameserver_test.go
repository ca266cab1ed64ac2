package nameserver

import (
	"net/netip"
	"testing"

	dnswire "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/peerbin"
)

func query(name string, qtype uint16) Query {
	return Query{Msg: new(dnswire.Msg).SetQuestion(name, qtype)}
}

// Real CoreDNS in a space of its own sees the objects of the list and watch server, and forwards
// to the Internet.
func TestCoreDNS(t *testing.T) {
	space := TestSpace(t, netip.MustParseAddr("10.0.0.53"))
	TestInternet(t, "127.0.0.2:5300", space)
	api := listwatch.New()
	l, err := space.Listen("tcp", "127.0.0.1:8001")
	if err != nil {
		t.Fatal(err)
	}
	url, stop := api.Start(l)
	t.Cleanup(stop)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "10.96.0.7", []string{"10.96.0.7"}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := api.Set(ns, svc); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("10.0.0.53:53")
	s := StartTest(t, Options{
		Kind: CoreDNS, Space: space, Addr: addr, Ready: "127.0.0.1:8181",
		Corefile: Expand(Kubeadm, map[string]string{"API": "endpoint " + url, "UPSTREAM": "127.0.0.2:5300"}),
	})
	c := NewClient(space, addr)
	t.Cleanup(c.Close)
	for name, want := range map[string]string{
		"web.default.svc.cluster.local.": "web.default.svc.cluster.local.\t30\tIN\tA\t10.96.0.7",
		"www.example.com.":               "www.example.com.\t30\tIN\tA\t192.0.2.80",
	} {
		for _, tcp := range []bool{false, true} {
			q := query(name, dnswire.TypeA)
			q.TCP = tcp
			m, err := c.Ask(q)
			if err != nil {
				t.Fatal(err, s.Output())
			}
			if len(m.Answer) != 1 || m.Answer[0].String() != want {
				t.Errorf("%s: %v, want %s", name, m, want)
			}
		}
	}
}

func TestInternetAnswers(t *testing.T) {
	n, err := NewInternet()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name            string
		qtype           uint16
		rcode, ans, aut int
	}{
		{"www.example.com.", dnswire.TypeA, dnswire.RcodeSuccess, 1, 0},
		{"WWW.example.com.", dnswire.TypeAAAA, dnswire.RcodeSuccess, 1, 0},
		{"www.example.com.", dnswire.TypeMX, dnswire.RcodeSuccess, 0, 1},
		{"chain.example.com.", dnswire.TypeA, dnswire.RcodeSuccess, 3, 0},
		{"chain.example.com.", dnswire.TypeCNAME, dnswire.RcodeSuccess, 1, 0},
		{"away.example.com.", dnswire.TypeA, dnswire.RcodeSuccess, 2, 0},
		{"dangling.example.com.", dnswire.TypeA, dnswire.RcodeNameError, 1, 1},
		{"b.deep.example.com.", dnswire.TypeA, dnswire.RcodeSuccess, 0, 1},
		{"nobody.example.com.", dnswire.TypeA, dnswire.RcodeNameError, 0, 1},
		{"big.example.com.", dnswire.TypeA, dnswire.RcodeSuccess, 60, 0},
		{"x.servfail.example.com.", dnswire.TypeA, dnswire.RcodeServerFailure, 0, 0},
		{"x.refused.example.com.", dnswire.TypeA, dnswire.RcodeRefused, 0, 0},
		{"org.", dnswire.TypeA, dnswire.RcodeNameError, 0, 0},
	}
	for _, test := range tests {
		m := n.reply(query(test.name, test.qtype).Msg)
		if m.Rcode != test.rcode || len(m.Answer) != test.ans || len(m.Ns) != test.aut {
			t.Errorf("%s %d: %v", test.name, test.qtype, m)
		}
	}
	if m := n.reply(query("x.silent.example.com.", dnswire.TypeA).Msg); m != nil {
		t.Errorf("silent: %v", m)
	}
}

func TestStatic(t *testing.T) {
	for _, kind := range []string{NSD, Unbound} {
		t.Run(kind, func(t *testing.T) {
			peerbin.NeedProgram(t, kind)
			space := TestSpace(t, netip.MustParseAddr("10.0.0.53"))
			TestInternet(t, "127.0.0.2:5300", space)
			s, err := StartStatic(t.Context(), Static{
				Kind: kind, Space: space, Addr: netip.MustParseAddrPort("10.0.0.53:53"), Zone: "cluster.local",
				ZoneFile: "$ORIGIN cluster.local.\n@ 30 IN SOA ns.dns hostmaster 1 2 3 4 5\n@ 30 IN NS ns.dns\nweb.default.svc 30 IN A 10.96.0.7\n",
				Upstream: "127.0.0.2:5300", Threads: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			c := NewClient(space, s.Addr)
			t.Cleanup(c.Close)
			names := []string{"web.default.svc.cluster.local."}
			if kind == Unbound {
				names = append(names, "www.example.com.")
			}
			for _, name := range names {
				m, err := c.Ask(query(name, dnswire.TypeA))
				if err != nil || len(m.Answer) != 1 {
					t.Errorf("%s: %v, %v", name, m, err)
				}
			}
		})
	}
}
