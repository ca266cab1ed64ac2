package server

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/metrics"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/serve"
	"github.com/fairway-lb/fairway/dns/wire"
)

// TestRouting: the block of the longest zone answers, label by label.
func TestRouting(t *testing.T) {
	block := func(zone, text string) string {
		return fmt.Sprintf("%s:0 {\n bind 127.0.0.1\n template IN ANY {\n  answer \"{{ .Name }} 60 IN TXT %s\"\n }\n}\n", zone, text)
	}
	f := start(t, block("example.org", "org")+block("sub.example.org", "sub")+"empty.example.org:0 {\n bind 127.0.0.1\n}\n"+
		"errors.example.org:0 {\n bind 127.0.0.1\n errors\n}\n"+
		"v.example.org:0 {\n bind 127.0.0.1\n view nobody {\n  expr type() == 'MX'\n }\n whoami\n}\n", newCluster())
	for query, want := range map[string]string{
		"example.org. TXT":         `NOERROR "org"`,
		"EXAMPLE.org. TXT":         `NOERROR "org"`,
		"a.example.org. TXT":       `NOERROR "org"`,
		"sub.example.org. TXT":     `NOERROR "sub"`,
		"x.y.Sub.example.org. TXT": `NOERROR "sub"`,
		"asub.example.org. TXT":    `NOERROR "org"`,
		"badexample.org. TXT":      "REFUSED",
		"org. TXT":                 "REFUSED",
		". TXT":                    "REFUSED",
		"empty.example.org. TXT":   "REFUSED",
		"errors.example.org. TXT":  "SERVFAIL",
		"sub.example.org. DS":      `NOERROR "org"`, // the parent's
		"x.sub.example.org. DS":    `NOERROR "sub"`,
		"example.org. DS":          `NOERROR "org"`, // no parent here
		"v.example.org. TXT":       `NOERROR "org"`, // the view does not want it
		"v.example.org. MX":        "NOERROR",
		`a\.sub.example.org. TXT`:  `NOERROR "org"`, // the dot belongs to the label
	} {
		name, typ, _ := strings.Cut(query, " ")
		if got := answer(f.ask(name, dnswire.StringToType[typ])); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	f = start(t, block(".", "root")+block("example.org", "org"), newCluster())
	if got := answer(f.ask("example.org.", dnswire.TypeDS)); got != `NOERROR "org"` { // the root is no parent
		t.Errorf("DS with a root block: %s", got)
	}
	if got := answer(f.ask("other.example.", dnswire.TypeDS)); got != `NOERROR "root"` {
		t.Errorf("DS of a name of the root block: %s", got)
	}
	m := question("example.org.", dnswire.TypeTXT)
	m.Question[0].Qclass = dnswire.ClassCHAOS
	if got := answer(f.exchange(m, "udp")); got != "REFUSED" {
		t.Errorf("class CH: %s", got)
	}
	for query, want := range map[string]string{"version.bind. CH": `NOERROR "x"`, "whoami.example. CH": "REFUSED", "whoami.example. IN": "NOERROR"} {
		f := start(t, ".:0 {\n bind 127.0.0.1\n chaos x\n whoami\n}\n", newCluster())
		name, class, _ := strings.Cut(query, " ")
		m := question(name, dnswire.TypeTXT)
		m.Question[0].Qclass = dnswire.StringToClass[class]
		if got := answer(f.exchange(m, "udp")); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// TestReplySize: what a client says of EDNS bounds a reply, and so does the server.
func TestReplySize(t *testing.T) {
	long := strings.Repeat("{{ .Name }} 60 IN TXT "+strings.Repeat("x", 200)+"\n", 1)
	var answers strings.Builder
	for i := range 10 {
		fmt.Fprintf(&answers, "  answer \"%s%d\"\n", strings.TrimSpace(long), i)
	}
	text := "%s:0 {\n bind 127.0.0.1\n %s\n template IN ANY {\n" + answers.String() + " }\n}\n"
	f := start(t, fmt.Sprintf(text, "a", "")+fmt.Sprintf(text, "b", "bufsize 512"), newCluster())
	for _, tc := range []struct {
		name  string
		size  uint16 // 0: no OPT
		proto string
		atMost,
		says int // in the reply's OPT
		cut bool
	}{
		{"a.", 0, "udp", 512, 0, true},
		{"a.", 100, "udp", 512, 100, true},
		{"a.", 4096, "udp", 1232, 4096, true},
		{"b.", 4096, "udp", 512, 512, true},
		{"a.", 4096, "tcp", 65535, 4096, false},
		{"a.", 0, "tcp", 65535, 0, false},
	} {
		m := question(tc.name, dnswire.TypeTXT)
		if tc.size > 0 {
			m.SetEdns0(tc.size, true)
		}
		r := f.exchange(m, tc.proto)
		r.Compress = true
		if r.Len() > tc.atMost || r.Truncated != tc.cut {
			t.Errorf("%v: %d bytes, TC %v", tc, r.Len(), r.Truncated)
		}
		switch o := r.IsEdns0(); {
		case o == nil && tc.says > 0, o != nil && (int(o.UDPSize()) != tc.says || !o.Do()):
			t.Errorf("%v: OPT %v", tc, o)
		}
	}
}

// minimal has the least that each directive can say; those that have no part in a chain are empty.
var minimal = map[string]string{
	"acl": "acl {\n block type ANY\n}", "any": "any", "autopath": "autopath @kubernetes", "bufsize": "bufsize", "cache": "cache", "cancel": "cancel",
	"chaos": "chaos", "dns64": "dns64", "errors": "errors", "file": "file %s {\n fallthrough\n}", "forward": "forward . 127.0.0.1:1", "header": "header {\n response set ra\n}",
	"hosts": "hosts {\n fallthrough\n}", "kubernetes": "kubernetes cluster.local {\n pods verified\n}", "loadbalance": "loadbalance", "local": "local", "log": "log", "loop": "loop",
	"minimal": "minimal", "nsid": "nsid", "rewrite": "rewrite name a.example b.example", "template": "template IN A no.example {\n rcode NXDOMAIN\n}",
	"transfer": "transfer {\n to *\n}", "whoami": "whoami",
	"bind": "", "debug": "debug", "health": "health 127.0.0.1:0", "metadata": "metadata", "multisocket": "multisocket", "pprof": "pprof 127.0.0.4:0",
	"prometheus": "prometheus 127.0.0.3:0", "ready": "ready 127.0.0.2:0", "reload": "reload", "root": "root /", "timeouts": "timeouts {\n idle 5s\n}",
	"view": "view all {\n expr type() != 'MX'\n}",
}

// TestEveryPlugin starts a server with all directives that a Corefile may have.
func TestEveryPlugin(t *testing.T) {
	zone, err := filepath.Abs(filepath.Join(recordings, "db.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	text := ".:0 {\n bind 127.0.0.1\n"
	for _, name := range corefile.Supported() {
		d, ok := minimal[name]
		if !ok {
			t.Errorf("this test does not know %s", name)
		}
		text += strings.Replace(d, "%s", zone+" example.com", 1) + "\n"
	}
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	f := start(t, text+"}\n", c)
	if got := answer(f.ask("web.prod.svc.cluster.local.", dnswire.TypeA)); got != "NOERROR 10.96.0.1" {
		t.Errorf("web is %s", got)
	}
	if code, _ := f.fetch("127.0.0.4:0", "/debug/pprof/"); code != 200 {
		t.Errorf("profiles: code %d", code)
	}
}

// TestFastBesideOthers: with plugins before the zone that have their own answers for some names, the
// others still take the short path, and those names do not.
func TestFastBesideOthers(t *testing.T) {
	c := newCluster()
	c.set(state(service("web", "10.96.0.1"), service("till", "10.96.0.2")))
	f := start(t, `.:0 {
		bind 127.0.0.1
		log . {
			class error
		}
		hosts {
			192.0.2.7 till.prod.svc.cluster.local
			fallthrough
		}
		rewrite name alias.prod.svc.cluster.local web.prod.svc.cluster.local
		kubernetes cluster.local
	}
	`, c)
	w := &worker{l: (*f.served.Load())[0], proto: metrics.UDP}
	for _, tc := range []struct {
		name, want string
		short      bool
	}{
		{"web.prod.svc.cluster.local.", "NOERROR 10.96.0.1", true},
		{"TILL.prod.svc.cluster.local.", "NOERROR 192.0.2.7", false},
		{"alias.prod.svc.cluster.local.", "NOERROR 10.96.0.1", false},
		{"none.prod.svc.cluster.local.", "NXDOMAIN", true},
	} {
		packed, err := question(tc.name, dnswire.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q wire.Query
		q.Parse(packed)
		_, short := w.Answer(&q, 1232, make([]byte, 4096))
		if got := answer(f.ask(tc.name, dnswire.TypeA)); got != tc.want || short != tc.short {
			t.Errorf("%s: %s, by the short path %v; want %s, %v", tc.name, got, short, tc.want, tc.short)
		}
	}
}

// TestFast: queries for the zone and for what the cache holds are answered without an allocation,
// and counted for the plugin that answered.
func TestFast(t *testing.T) {
	upstream := serveExample(t)
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	second := "example.net:0 {\n bind 127.0.0.1\n whoami\n}\n"
	for name, text := range map[string]string{"one zone": "", "two zones": second} {
		t.Run(name, func(t *testing.T) {
			f := start(t, fmt.Sprintf(cornerstone, "forward . "+upstream)+text, c)
			f.ask("www.example.com.", dnswire.TypeA) // fills the cache
			w := &worker{l: (*f.served.Load())[0], proto: metrics.UDP}
			for name, want := range map[string]bool{"web.prod.svc.cluster.local.": true, "none.prod.svc.cluster.local.": true, "www.example.com.": true, "v4only.example.com.": false} {
				packed, err := question(name, dnswire.TypeA).Pack()
				if err != nil {
					t.Fatal(err)
				}
				var q wire.Query
				out := make([]byte, 4096)
				ok := false
				if n := testing.AllocsPerRun(100, func() {
					q.Parse(packed)
					_, ok = w.Answer(&q, 1232, out)
					w.Done(1000)
				}); n != 0 || ok != want {
					t.Errorf("%s: %v allocations, answered %v", name, n, ok)
				}
			}
			page := f.scrape()
			for _, want := range []string{`plugin="kubernetes",rcode="NOERROR"`, `plugin="kubernetes",rcode="NXDOMAIN"`, `plugin="cache",rcode="NOERROR"`} {
				if !strings.Contains(page, want) {
					t.Errorf("the metrics lack %s", want)
				}
			}
		})
	}
}

func (f *fixture) scrape() string {
	_, page := f.fetch(metricsPage, "/metrics")
	return page
}

// TestPanic: a plugin that panics costs its own query an answer, and is counted.
func TestPanic(t *testing.T) {
	c := newCluster()
	c.set(state())
	f := start(t, fmt.Sprintf(cornerstone, ""), c)
	l := (*f.served.Load())[0]
	r := *l.router.Load()
	r.any = &site{zone: ".", maxUDP: defaultUDP, slow: r.any.slow, chain: plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
		panic("at the disco")
	})}
	l.router.Store(&r)
	if got := answer(f.ask("www.example.com.", dnswire.TypeA)); got != "SERVFAIL" {
		t.Errorf("the query that panics: %s", got)
	}
	if page := f.scrape(); !strings.Contains(page, "coredns_panics_total 1\n") {
		t.Error("the panic is not counted")
	}
	if !strings.Contains(f.out.String(), "at the disco") {
		t.Error("the panic is not logged")
	}
}

// TestLookupEnds: blocks whose names lead to each other do not ask for ever.
func TestLookupEnds(t *testing.T) {
	var asked atomic.Int64
	s := New(Options{})
	r := &router{label: "dns://:53", running: new(atomic.Int64)}
	chain := plugin.HandlerFunc(func(ctx context.Context, req *plugin.Request) plugin.Reply {
		asked.Add(1)
		return s.Lookup(ctx, req, "again.example.", dnswire.TypeA)
	})
	r.any = &site{zone: ".", chain: chain}
	req := &plugin.Request{Msg: question("first.example.", dnswire.TypeA), Client: netip.MustParseAddrPort("127.0.0.1:1"), Proto: serve.UDP.String(), Server: r.label}
	var q wire.Query
	packed, err := req.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q.Parse(packed)
	_, reply := r.ask(t.Context(), &q, req)
	if reply.Code() != dnswire.RcodeServerFailure || asked.Load() != maxDepth+1 {
		t.Errorf("code %d after %d lookups", reply.Code(), asked.Load())
	}
}
