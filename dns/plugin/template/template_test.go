package template

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

// parse reads a block as it stands in a Corefile.
func parse(t *testing.T, lines string) *corefile.Template {
	t.Helper()
	c, err := corefile.Parse("Corefile", []byte(".:53 {\n"+lines+"\nwhoami\n}\n"), corefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := corefile.Find[*corefile.Template](c.Blocks[0])
	if !ok {
		t.Fatalf("no template in %q", lines)
	}
	return d
}

func newTemplate(t *testing.T, lines string, r plugin.Resolver) (*Template, *Metrics) {
	t.Helper()
	m := NewMetrics()
	p, err := New(parse(t, lines), r, m)
	if err != nil {
		t.Fatal(err)
	}
	return p, m
}

func world(t *testing.T) *plugintest.Next {
	return &plugintest.Next{Replies: map[string]plugin.Reply{
		"google.com. A":    plugintest.Answers(t, 0, "google.com. 9 IN A 192.0.2.1", "--", "google.com. 9 IN NS ns.google.com."),
		"google.com. AAAA": plugintest.Answers(t, dnswire.RcodeNameError, "--", "google.com. 9 IN SOA ns. host. 1 2 3 4 5"),
		"chain.com. AAAA":  plugintest.Answers(t, 0, "chain.com. 9 IN CNAME end.net.", "--", "end.net. 9 IN SOA ns. host. 1 2 3 4 5"),
		"fail.com. A":      plugin.Fail("x", dnswire.RcodeServerFailure, os.ErrDeadlineExceeded),
		"drop.com. A":      {Drop: true},
		"other. A":         {Rcode: dnswire.RcodeNotImplemented},
	}}
}

const ipPattern = `template IN A example {
	match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
	answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
	%s
}`

func TestTemplate(t *testing.T) {
	ip, ipFall := strings.ReplaceAll(ipPattern, "%s", ""), strings.ReplaceAll(ipPattern, "%s", "fallthrough")
	const hex = `template IN A example {
		match "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$"
		answer "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}"
	}`
	const invalid = `template ANY ANY invalid {
		rcode NXDOMAIN
		authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"
		ederror 21 "Blocked according to RFC2606"
	}`
	const two = `template IN MX example {
		match ^ip-10-(?P<b>[0-9]*)[.]example[.]$
		answer "{{ .Name }} 60 IN MX 10 {{ .Name }}"
		additional "{{ .Name }} 60 IN A 10.0.0.{{ .Group.b }}"
		authority "example. 60 IN NS ns0.example."
		fallthrough
	}
	template IN MX example {
		match ^(?P<a>[0-9]*)[.]ext[.]example[.]$
		match ^second-(.*)[.]example[.]$
		answer "{{ .Name }} 60 IN MX 20 {{ index .Match 1 }}-{{ .Zone }}"
	}`
	tests := []struct {
		name, lines, ask, want string
	}{
		{"groups", ip, "IP-10-0-0-1.example. A", "NOERROR aa rd\nip-10-0-0-1.example. 60 IN A 10.0.0.1\n"},
		{"below it", ip, "x.y.ip-10-0-0-1.example. A", "NOERROR aa rd\nx.y.ip-10-0-0-1.example. 60 IN A 10.0.0.1\n"},
		{"no match", ip, "foo.example. A", "SERVFAIL\n"},
		{"no match falls through", ipFall, "foo.example. A", "REFUSED\n"},
		{"another type", ip, "ip-10-0-0-1.example. AAAA", "REFUSED\n"},
		{"another zone", ip, "ip-10-0-0-1.notexample. A", "REFUSED\n"},
		{"another class", ip, "ip-10-0-0-1.example. A class=CH", "REFUSED\n"},
		{"any type", ip, "ip-10-0-0-1.example. ANY", "NOERROR aa rd\nip-10-0-0-1.example. 60 IN A 10.0.0.1\n"},
		{"no address", ip, "ip-10-0-0-256.example. A", "SERVFAIL error: dns: bad A A: \"10.0.0.256\" at line: 1:41\n"},
		{"parseInt", hex, "ip0a7b7b7b.example. A", "NOERROR aa rd\nip0a7b7b7b.example. 60 IN A 10.123.123.123\n"},
		{"code and extended error", invalid, "a.invalid. MX", "NXDOMAIN aa rd\nauth invalid. 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60\n" +
			"more option 15 21 (Not Supported): (Blocked according to RFC2606)\n"},
		{"class of the query", invalid, "a.invalid. MX class=CH", "NXDOMAIN aa rd\nauth invalid. 60 CH SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60\n" +
			"more option 15 21 (Not Supported): (Blocked according to RFC2606)\n"},
		{"all sections", two, "ip-10-5.example. MX", "NOERROR aa rd\nip-10-5.example. 60 IN MX 10 ip-10-5.example.\nauth example. 60 IN NS ns0.example.\nmore ip-10-5.example. 60 IN A 10.0.0.5\n"},
		{"second template", two, "7.ext.example. MX", "NOERROR aa rd\n7.ext.example. 60 IN MX 20 7-example.\n"},
		{"second pattern", two, "second-x.example. MX", "NOERROR aa rd\nsecond-x.example. 60 IN MX 20 x-example.\n"},
		{"no template", two, "third.example. MX", "SERVFAIL\n"},
		{"failure", "template ANY ANY {\nrcode SERVFAIL\n}", "x. A", "SERVFAIL rd\n"},
		{"everything", "template ANY ANY {\nrcode REFUSED\n}", "x. A", "REFUSED aa rd\n"},

		{"alias", "template IN ANY foogle.com {\nmatch \"^foogle\\.com\\.$\"\nanswer \"foogle.com 60 IN CNAME google.com\"\n}", "foogle.com. A",
			"NOERROR aa rd\nfoogle.com. 60 IN CNAME google.com.\ngoogle.com. 9 IN A 192.0.2.1\n"},
		{"alias of another type", "template IN ANY foogle.com {\nanswer \"foogle.com 60 IN CNAME google.com\"\n}", "foogle.com. TXT", "NOERROR aa rd\nfoogle.com. 60 IN CNAME google.com.\n"},
		{"alias to what is not there", "template IN ANY foogle.com {\nanswer \"foogle.com 60 IN CNAME google.com\"\n}", "foogle.com. AAAA", "NXDOMAIN aa rd\nfoogle.com. 60 IN CNAME google.com.\nauth google.com. 9 IN SOA ns. host. 1 2 3 4 5\n"},
		{"alias to what has no such record", "template IN ANY foogle.com {\nanswer \"foogle.com 60 IN CNAME chain.com\"\n}", "foogle.com. AAAA",
			"NOERROR aa rd\nfoogle.com. 60 IN CNAME chain.com.\nchain.com. 9 IN CNAME end.net.\nauth end.net. 9 IN SOA ns. host. 1 2 3 4 5\n"},
		{"alias and authority of one's own", "template IN ANY foogle.com {\nanswer \"foogle.com 60 IN CNAME google.com\"\nauthority \"foogle.com 60 IN NS ns\"\n}", "foogle.com. AAAA",
			"NXDOMAIN aa rd\nfoogle.com. 60 IN CNAME google.com.\nauth google.com. 9 IN SOA ns. host. 1 2 3 4 5\nauth foogle.com. 60 IN NS ns.\n"},
		{"alias and a code of one's own", "template IN ANY foogle.com {\nrcode NXDOMAIN\nanswer \"foogle.com 60 IN CNAME google.com\"\n}", "foogle.com. A",
			"NXDOMAIN aa rd\nfoogle.com. 60 IN CNAME google.com.\ngoogle.com. 9 IN A 192.0.2.1\n"},
		{"alias to a failure", "template IN ANY a {\nanswer \"a 60 IN CNAME fail.com\"\n}", "a. A", "SERVFAIL aa rd error: i/o timeout\na. 60 IN CNAME fail.com.\n"},
		{"alias to what is dropped", "template IN ANY a {\nanswer \"a 60 IN CNAME drop.com\"\n}", "a. A", "dropped\n"},

		{"data", `template IN TXT x {
			match ^(?P<first>[^.]*)[.]
			answer "{{ .Name }} 1 IN TXT \"{{ .Zone }} {{ .Type }} {{ .Remote }} {{ .Group.first }} {{ index .Group \"1\" }} {{ .Question.Name }} {{ .Message.RecursionDesired }} [{{ .Meta \"a/b\" }}] {{ .Regex }}\""
		}`, "Q.x. TXT", "NOERROR aa rd\nq.x. 1 IN TXT \"x. TXT 10.244.1.5 q q Q.x. true [] ^(?P<first>[^.]*)[.]\"\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			next := world(t)
			p, _ := newTemplate(t, tc.lines, next)
			got := p.Wrap(next).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBounds has templates and names that would write too much, too many, nothing, or what is not
// theirs to read.
func TestBounds(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "60")
	if err := os.WriteFile(secret, []byte("secret. 1 IN TXT \"secret\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(secret))
	for name, tc := range map[string]struct{ record, ask, want string }{
		"too long":     {`x. 1 IN TXT {{ printf \"%%99999s\" \"x\" }}`, "a.x. TXT", "wrote too much"},
		"two records":  {"{{ .Name }} 1 IN TXT a\n{{ .Name }} 1 IN TXT b", "a.x. TXT", "more than one record"},
		"no record":    {"{{ if eq .Name \\\"b.\\\" }}b. 1 IN TXT b{{ end }}", "a.x. TXT", "no record"},
		"include":      {"{{ .Group.l }} 60 IN TXT a", `$INCLUDE.x. TXT`, "$INCLUDE directive not allowed"},
		"no such key":  {"{{ .Nothing }}", "a.x. TXT", "can't evaluate field Nothing"},
		"bad function": {"{{ parseInt .Name 16 8 }}", "a.x. TXT", "invalid syntax"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := "template IN TXT x {\nmatch ^(?P<l>[^.]*)[.]\nanswer \"" + strings.ReplaceAll(tc.record, "%%", "%") + "\"\n}"
			p, m := newTemplate(t, lines, nil)
			got := p.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if got.Code() != dnswire.RcodeServerFailure || got.Err == nil || !strings.Contains(got.Err.Error(), tc.want) {
				t.Errorf("%s, want an error with %q", plugintest.Show(got), tc.want)
			}
			if n := testutil.CollectAndCount(m, "coredns_template_template_failures_total", "coredns_template_rr_failures_total"); n != 1 {
				t.Errorf("%d failures are counted, want 1", n)
			}
		})
	}
}

// TestEscaped fills a template with a name that tries to end the text around it.
func TestEscaped(t *testing.T) {
	p, _ := newTemplate(t, "template IN TXT x {\nmatch \"^(?P<l>.*)[.]x[.]$\"\nanswer \"{{ .Name }} 1 IN TXT \\\"<{{ .Group.l }}>\\\"\"\n}", nil)
	r := plugintest.Ask(t, "a. TXT")
	wire := "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0ca\" ;(\n$x)\\\"b\x01x\x00\x00\x10\x00\x01"
	if err := r.Msg.Unpack([]byte(wire)); err != nil {
		t.Fatal(err)
	}
	got := p.Wrap(plugin.End).Serve(t.Context(), r)
	if got.Msg == nil || len(got.Msg.Answer) != 1 {
		t.Fatal(plugintest.Show(got))
	}
	if txt := got.Msg.Answer[0].(*dnswire.TXT).Txt; len(txt) != 1 || !strings.HasPrefix(txt[0], "<a") || !strings.HasSuffix(txt[0], "b>") {
		t.Errorf("the text is %q", txt)
	}
}

// TestQueryIsKept lets a template do to the query what it can.
func TestQueryIsKept(t *testing.T) {
	p, _ := newTemplate(t, "template IN TXT x {\nanswer \"{{ with .Message }}{{ .SetEdns0 1 true }}{{ end }} 1 IN TXT b\"\n}", nil)
	r := plugintest.Ask(t, "a.x. TXT")
	before := r.Msg.String()
	p.Wrap(plugin.End).Serve(t.Context(), r)
	if got := r.Msg.String(); got != before {
		t.Errorf("the query is now %s", got)
	}
}

func TestMetrics(t *testing.T) {
	p, m := newTemplate(t, "template ANY ANY x {\nrcode NXDOMAIN\n}", nil)
	for range 3 {
		p.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, "a.x. TXT"))
	}
	if got := testutil.ToFloat64(m.matches.WithLabelValues("dns://:53", "x.", "", "IN", "TXT")); got != 3 {
		t.Errorf("%v matches, want 3", got)
	}
}

func TestBadTemplate(t *testing.T) {
	d := &corefile.Template{Templates: []corefile.TemplateRule{{Pos: corefile.Pos{File: "Corefile", Line: 7}, Answer: []string{"{{ .Name"}}}}
	if _, err := New(d, nil, NewMetrics()); err == nil || !strings.HasPrefix(err.Error(), "line 7: ") {
		t.Errorf("got %v", err)
	}
}
