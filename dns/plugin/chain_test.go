package plugin_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/cache"
	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/acl"
	"github.com/fairway-lb/fairway/dns/plugin/autopath"
	"github.com/fairway-lb/fairway/dns/plugin/basic"
	"github.com/fairway-lb/fairway/dns/plugin/dns64"
	"github.com/fairway-lb/fairway/dns/plugin/file"
	"github.com/fairway-lb/fairway/dns/plugin/hosts"
	"github.com/fairway-lb/fairway/dns/plugin/loadbalance"
	"github.com/fairway-lb/fairway/dns/plugin/logging"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
	"github.com/fairway-lb/fairway/dns/plugin/rewrite"
	"github.com/fairway-lb/fairway/dns/plugin/template"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
	"github.com/fairway-lb/fairway/dns/wire"
)

// everything is a block with all plugins, in no order.
const everything = `. {
	whoami
	file DB example.org
	transfer example.org {
		to *
	}
	template IN A t.example.net {
		match ^ip-(?P<n>[0-9]+)[.]t[.]
		answer "{{ .Name }} 60 IN A 10.0.0.{{ .Group.n }}"
		fallthrough
	}
	hosts HOSTS hosts.net {
		10.1.1.1 a.hosts.net
		10.1.1.2 a.hosts.net
		fallthrough
	}
	cache 30
	acl shut.net {
		block net 10.0.0.0/8
	}
	autopath SEARCH
	rewrite name suffix .renamed.net .example.org answer auto
	rewrite continue ttl regex .* 10-20
	rewrite edns0 local set 0xffee {client_ip}
	loadbalance
	dns64 {
		allow_ipv4
	}
	minimal
	header {
		response set ra
	}
	any
	chaos
	local
	nsid server
	bufsize 1000
	cancel 5s
	log
	errors
}`

const db = `$ORIGIN example.org.
@ 60 SOA ns host 1 2 3 4 60
@ 60 NS ns
ns 60 A 192.0.2.1
www 60 A 192.0.2.2
www 60 A 192.0.2.3
out 60 CNAME a.hosts.net.
`

// build makes a chain of a Corefile.
func build(t testing.TB, text string) (plugin.Handler, *logging.Sink) {
	t.Helper()
	plugins, sink := buildPlugins(t, text)
	return plugin.Chain(plugins...), sink
}

// buildPlugins makes the plugins of a Corefile, and what answers their own lookups.
func buildPlugins(t testing.TB, text string) (plugins []plugin.Plugin, sink *logging.Sink) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"DB": db, "HOSTS": "", "SEARCH": "nameserver 192.0.2.1\nsearch prod.example.org example.org\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, name, path)
	}
	c, err := corefile.Parse("Corefile", []byte(text), corefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var chain plugin.Handler
	resolver := plugin.ResolverFunc(func(ctx context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
		return chain.Serve(ctx, r.Ask(name, qtype))
	})
	sink = logging.NewSink(io.Discard, 64)
	t.Cleanup(func() { _ = sink.Close() })
	log := slog.New(slog.DiscardHandler)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var zones []transfer.Transferer
	for _, d := range c.Blocks[0].Plugins {
		var p plugin.Plugin
		switch d := d.(type) {
		case *corefile.Errors:
			p = logging.NewErrors(d, sink)
		case *corefile.Log:
			p = logging.NewLog(d, sink)
		case *corefile.Any:
			p = basic.Any{}
		case *corefile.Bufsize:
			p = basic.NewBufsize(d)
		case *corefile.Cancel:
			p = basic.NewCancel(d)
		case *corefile.Chaos:
			p = basic.NewChaos(d, "Fairway-test", nil)
		case *corefile.Header:
			p = basic.NewHeader(d)
		case *corefile.Local:
			p = basic.NewLocal(d, basic.LocalRequests())
		case *corefile.Minimal:
			p = basic.Minimal{}
		case *corefile.NSID:
			p = basic.NewNSID(d)
		case *corefile.Whoami:
			p = basic.Whoami{}
		case *corefile.ACL:
			p = acl.New(d, acl.NewMetrics())
		case *corefile.Autopath:
			p = autopath.New(d, nil, nil, autopath.Metrics())
		case *corefile.DNS64:
			p = dns64.New(d, resolver, dns64.Metrics())
		case *corefile.Loadbalance:
			p, err = loadbalance.New(d, log)
		case *corefile.Hosts:
			p, err = hosts.New(d, hosts.NewMetrics(), log)
		case *corefile.Rewrite:
			p = rewrite.New(d, resolver)
		case *corefile.Template:
			p, err = template.New(d, resolver, template.NewMetrics())
		case *corefile.File:
			var f *file.File
			f, err = file.New(d, resolver, log)
			zones = append(zones, f)
			p = f
		case *corefile.Transfer:
			p, err = transfer.New(d, []transfer.Transferer{lazy{&zones}})
		case *corefile.Cache:
			var c *cache.Cache
			c, err = cache.New(d, cache.Options{Metrics: cache.NewMetrics()})
			t.Cleanup(func() { _ = c.Close() })
			p = c
		default:
			t.Fatalf("no plugin for %s", d.Plugin())
		}
		check(err)
		plugins = append(plugins, p)
	}
	chain = plugin.Chain(plugins...)
	return plugins, sink
}

// lazy asks for zones of plugins that are made later, as a transfer's are.
type lazy struct{ zones *[]transfer.Transferer }

func (l lazy) Transfer(zone string, serial uint32) (iter.Seq[dnswire.RR], error) {
	for _, z := range *l.zones {
		if rrs, err := z.Transfer(zone, serial); err == nil {
			return rrs, nil
		}
	}
	return nil, transfer.ErrNotAuthoritative
}

// summary says in a line what a reply is: code, and the data of all answers in order.
func summary(p plugin.Reply) string {
	if p.Drop {
		return "dropped"
	}
	out := []string{}
	if p.Msg != nil {
		for _, rr := range p.Msg.Answer {
			data := strings.TrimPrefix(rr.String(), rr.Header().String())
			out = append(out, dnswire.TypeToString[rr.Header().Rrtype]+" "+data)
		}
	}
	slices.Sort(out)
	return dnswire.RcodeToString[p.Code()] + " " + strings.Join(out, ", ")
}

// TestHammer asks a chain of all plugins from many goroutines at once.
func TestHammer(t *testing.T) {
	h, sink := build(t, everything)
	tests := map[string]string{
		"www.example.org. A":               "NOERROR A 192.0.2.2, A 192.0.2.3",
		"WWW.renamed.net. A":               "NOERROR A 192.0.2.2, A 192.0.2.3",
		"www.prod.example.org. A":          "NOERROR A 192.0.2.2, A 192.0.2.3, CNAME www.example.org.",
		"nobody.example.org. A":            "NXDOMAIN ",
		"out.example.org. A":               "NOERROR A 10.1.1.1, A 10.1.1.2, CNAME a.hosts.net.",
		"a.hosts.net. A tcp":               "NOERROR A 10.1.1.1, A 10.1.1.2",
		"a.hosts.net. AAAA do":             "NOERROR AAAA 64:ff9b::a01:101, AAAA 64:ff9b::a01:102",
		"ip-7.t.example.net. A":            "NOERROR A 10.0.0.7",
		"x.shut.net. A":                    "REFUSED ",
		"x.shut.net. A from=192.168.1.1":   "NOERROR ",
		"localhost. A":                     "NOERROR A 127.0.0.1",
		"x. ANY":                           `NOERROR HINFO "ANY obsoleted" "See RFC 8482"`,
		"version.bind. TXT class=CH":       `NOERROR TXT "Fairway-test"`,
		"example.org. AXFR":                "REFUSED ",
		"example.org. AXFR tcp":            "NOERROR A 192.0.2.1, A 192.0.2.2, A 192.0.2.3, CNAME a.hosts.net., NS ns.example.org., SOA ns.example.org. host.example.org. 1 2 3 4 60, SOA ns.example.org. host.example.org. 1 2 3 4 60",
		"2.1.1.10.in-addr.arpa. PTR buf=9": "NOERROR PTR a.hosts.net.",
		"who.am.i. A":                      "NOERROR ",
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for ask, want := range tests {
					r := plugintest.Ask(t, ask)
					before := r.Msg.String()
					p := h.Serve(t.Context(), r)
					if got := summary(p); got != want {
						t.Errorf("%s: %s, want %s", ask, got, want)
					}
					if r.Msg.String() != before {
						t.Errorf("%s: the query was changed", ask)
					}
					if p.Msg != nil && !slices.Equal(p.Msg.Question, r.Msg.Question) {
						t.Errorf("%s: the reply is to %v", ask, p.Msg.Question)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
}

// TestACLBeforeCache has a client cause an answer that another one must not get.
func TestACLBeforeCache(t *testing.T) {
	h, _ := build(t, ". {\nhosts HOSTS {\n10.1.1.1 a.hosts.net\n}\ncache 30\nacl {\nallow net 192.168.0.0/16\nblock\n}\n}")
	for i, tc := range []struct{ from, want string }{
		{"192.168.1.1", "NOERROR A 10.1.1.1"}, {"10.0.0.1", "REFUSED "}, {"192.168.1.2", "NOERROR A 10.1.1.1"}, {"10.0.0.1", "REFUSED "},
	} {
		if got := summary(h.Serve(t.Context(), plugintest.Ask(t, "a.hosts.net. A from="+tc.from))); got != tc.want {
			t.Errorf("query %d, from %s: %s, want %s", i, tc.from, got, tc.want)
		}
	}
}

// TestOrder has the plugins that policy depends on in the only order in which it holds, whatever
// the order of the file.
func TestOrder(t *testing.T) {
	lines := []string{"acl {\nblock net 10.0.0.0/8\n}", "cache", "rewrite name a b", "whoami", "autopath SEARCH"}
	want := "rewrite autopath acl cache whoami"
	search := filepath.Join(t.TempDir(), "SEARCH")
	if err := os.WriteFile(search, []byte("search example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range len(lines) {
		lines = append(lines[1:], lines[0])
		text := fmt.Sprintf(". {\n%s\n}", strings.ReplaceAll(strings.Join(lines, "\n"), "SEARCH", search))
		c, err := corefile.Parse("Corefile", []byte(text), corefile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range c.Blocks[0].Plugins {
			got = append(got, d.Plugin())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// FuzzChain sends anything that unpacks to a query through all plugins. Whatever comes back can be
// packed, and is about the question.
func FuzzChain(f *testing.F) {
	for _, ask := range []string{
		"www.example.org. A", "www.renamed.net. MX", "www.prod.example.org. A do", "out.example.org. AAAA", "a.hosts.net. A tcp", "ip-7.t.example.net. A",
		"x.shut.net. A", "x.localhost. SOA", "x. ANY", "id.server. TXT class=CH", "example.org. AXFR tcp", "2.1.1.10.in-addr.arpa. PTR buf=9", ". NS", strings.Repeat(strings.Repeat("a", 49)+".", 5) + "b. A", "1.127.in-addr.arpa. NS",
	} {
		r := plugintest.Ask(f, ask)
		wire, err := r.Msg.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, r.TCP(), []byte{10, 0, 0, 1})
	}
	h, _ := build(f, everything)
	f.Fuzz(func(t *testing.T, wire []byte, tcp bool, client []byte) {
		r := plugintest.Ask(t, ". A")
		if r.Msg.Unpack(wire) != nil || len(r.Msg.Question) != 1 || r.Msg.Response {
			return
		}
		if tcp {
			r.Proto = "tcp"
		}
		if a, ok := netip.AddrFromSlice(client); ok {
			r.Client = netip.AddrPortFrom(a, 1)
		}
		p := h.Serve(t.Context(), r)
		if p.Msg == nil {
			return
		}
		if _, err := p.Msg.Pack(); err != nil {
			t.Errorf("%v to %v", err, r.Msg.Question)
		}
		if !slices.Equal(p.Msg.Question, r.Msg.Question) || p.Msg.Id != r.Msg.Id {
			t.Errorf("a reply to %v for %v", p.Msg.Question, r.Msg.Question)
		}
	})
}

// BenchmarkPasses is what a rule with a pattern costs a query that it is not for.
func BenchmarkPasses(b *testing.B) {
	plugins, _ := buildPlugins(b, ". {\nrewrite name regex (.*)[.]legacy[.]net {1}.new.net\n}")
	msg, err := plugintest.Ask(b, "web.prod.svc.cluster.local. A").Msg.Pack()
	if err != nil {
		b.Fatal(err)
	}
	var q wire.Query
	q.Parse(msg)
	b.ReportAllocs()
	for b.Loop() {
		plugins[0].(plugin.Passer).Passes(&q)
	}
}

func BenchmarkChain(b *testing.B) {
	h, _ := build(b, everything)
	for _, ask := range []string{"a.hosts.net. A", "www.renamed.net. A", "ip-7.t.example.net. A", "x.shut.net. A"} {
		b.Run(ask, func(b *testing.B) {
			r := plugintest.Ask(b, ask)
			b.ReportAllocs()
			for b.Loop() {
				h.Serve(b.Context(), r)
			}
		})
	}
}
