package plugin_test

import (
	"context"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
	"github.com/fairway-lb/fairway/dns/wire"
)

// sees is a plugin behind others. It notes whether it got the very query that came in, and its reply
// is one that nobody may change.
type sees struct {
	request *plugin.Request
	reply   plugin.Reply
	alike   bool
}

func (s *sees) Serve(_ context.Context, r *plugin.Request) plugin.Reply {
	s.alike = r == s.request
	return s.reply
}

// TestPasses has all plugins that say that a query passes hand it on, and leave its reply alone.
func TestPasses(t *testing.T) {
	text := strings.Replace(everything, "rewrite continue ttl regex .* 10-20\n\trewrite edns0 local set 0xffee {client_ip}",
		"rewrite name exact one.rw.net www.example.org\nrewrite name prefix pre. post.\nrewrite name substring .mid. .center.\nrewrite name regex ^re[0-9]+[.] www.example.org.\nrewrite type MX A\nrewrite class CH IN\nrewrite ttl exact ttl.net 5\nrewrite rcode suffix rc.net. NXDOMAIN NOERROR", 1)
	text = strings.Replace(text, "10.1.1.1 a.hosts.net", "10.1.1.1 a.hosts.net *.wild.hosts.net", 1)
	plugins, _ := buildPlugins(t, text)
	passers := 0
	for _, p := range plugins {
		if _, ok := p.(plugin.Passer); ok {
			passers++
		}
	}
	if passers != 10 {
		t.Errorf("%d plugins are passers", passers)
	}
	reply := plugintest.Answers(t, 0, "a. 60 IN A 192.0.2.1", "a. 60 IN AAAA 2001:db8::1")
	passed := 0
	rapid.Check(t, func(rt *rapid.T) {
		name := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"www", "example", "org", "net", "t", "hosts", "a", "wild", "x", "one", "rw", "pre", "mid", "re7", "ttl",
			"rc", "renamed", "shut", "localhost", "127", "in-addr", "arpa", "1", "10", "2", "svc", "cluster", "local", "ip-7", "UP", "sp\\ ace"}), 0, 6).Draw(rt, "labels"), ".")
		qtype := rapid.SampledFrom([]string{"A", "AAAA", "MX", "PTR", "ANY", "AXFR", "TXT", "SOA", "NS"}).Draw(rt, "type")
		r := plugintest.Ask(t, strings.ReplaceAll(dnswire.Fqdn(name), " ", "032")+" "+qtype)
		msg, err := r.Msg.Pack()
		if err != nil {
			rt.Fatal(err)
		}
		var q wire.Query
		if v := q.Parse(msg); v != wire.OK && v != wire.Slow {
			rt.Fatalf("verdict %v", v)
		}
		for _, p := range plugins {
			passer, ok := p.(plugin.Passer)
			if !ok || !passer.Passes(&q) {
				continue
			}
			passed++
			behind := &sees{request: r, reply: reply}
			if got := p.Wrap(behind).Serve(t.Context(), r); !behind.alike || got.Msg != reply.Msg || got.Code() != 0 {
				rt.Fatalf("%s does not pass %s %s: %s", p.Name(), name, qtype, plugintest.Show(got))
			}
		}
	})
	if passed < 100 {
		t.Errorf("only %d times something passed", passed)
	}
}

// TestPassesOften has what plugins with common rules see of a cluster's queries pass, without
// allocation.
func TestPassesOften(t *testing.T) {
	plugins, _ := buildPlugins(t, `. {
		hosts HOSTS {
			10.1.1.1 node-1 *.nodes.net
			fallthrough
		}
		rewrite name exact registry.example.org registry.infra.svc.cluster.local
		rewrite name suffix .old.net .new.net answer auto
		template IN A apps.net {
			answer "{{ .Name }} 60 IN A 10.0.0.1"
		}
		any
		local
	}`)
	r := plugintest.Ask(t, "web.prod.svc.cluster.local. A")
	msg, err := r.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	q.Parse(msg)
	for _, p := range plugins {
		if !p.(plugin.Passer).Passes(&q) {
			t.Errorf("%s does not pass it", p.Name())
		}
	}
	n := testing.AllocsPerRun(1000, func() {
		for _, p := range plugins {
			p.(plugin.Passer).Passes(&q)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
