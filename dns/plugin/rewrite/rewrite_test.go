package rewrite

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/acl"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

// parse reads rules as they stand in a Corefile.
func parse(t *testing.T, lines string) *corefile.Rewrite {
	t.Helper()
	c, err := corefile.Parse("Corefile", []byte(".:53 {\n"+lines+"\nwhoami\n}\n"), corefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := corefile.Find[*corefile.Rewrite](c.Blocks[0])
	if !ok {
		t.Fatalf("no rewrite in %q", lines)
	}
	return d
}

// world is what the plugin behind answers.
func world(t *testing.T) *plugintest.Next {
	ok := func(texts ...string) plugin.Reply { return plugintest.Answers(t, dnswire.RcodeSuccess, texts...) }
	return &plugintest.Next{Replies: map[string]plugin.Reply{
		"ftp.service.us-west-1.consul. A": ok("ftp.service.us-west-1.consul. 0 IN A 10.10.10.10", "FTP.service.us-west-1.consul. 0 IN A 10.20.20.20"),
		"www.google.com. A": ok("www.google.com. 60 IN CNAME l.google.com.", "l.google.com. 60 IN A 192.0.2.1", "--",
			"google.com. 60 IN NS ns.google.com.", "--", "ns.google.com. 60 IN A 192.0.2.9"),
		"blue. A":                       ok("blue. 60 IN CNAME x.blue.", "x.blue. 60 IN A 192.0.2.1"),
		"blue. MX":                      ok("blue. 60 IN MX 1 mail.blue.", "--", "--", "mail.blue. 60 IN A 192.0.2.1"),
		"red. MX":                       ok("red. 60 IN MX 1 mail.red."),
		"bar.example.org. A":            ok("bar.example.org. 60 IN A 192.0.2.5"),
		"30.30.30.10.in-addr.arpa. PTR": ok("30.30.30.10.in-addr.arpa. 60 IN PTR ftp-us-west-1.service.consul."),
		"a.example.org. HINFO":          ok("a.example.org. 60 IN HINFO \"a\" \"b\""),
		"a.example.org. A":              ok("a.example.org. 7 IN A 192.0.2.1", "--", "example.org. 700 IN NS ns.example.org."),
		"a.example.org. TXT":            plugin.Fail("x", dnswire.RcodeServerFailure, os.ErrDeadlineExceeded),
		"a.example.org. AAAA":           plugintest.Answers(t, dnswire.RcodeNameError, "--", "example.org. 60 IN SOA ns.example.org. host. 1 2 3 4 5"),
		"a.example.org. SRV":            {Drop: true},
		"my-app.com. A": ok("my-app.com. 200 IN CNAME my-app.example.", "my-app.example. 200 IN CNAME my-app.com.cdn.example.net.",
			"my-app.com.cdn.example.net. 300 IN A 20.2.0.1", "my-app.com.cdn.example.net. 300 IN A 20.2.0.2"),
		"my-app.com. CNAME":           ok("my-app.com. 200 IN CNAME my-app.com.cdn.example.net."),
		"my-app.com.other.cdn.com. A": ok("my-app.com.other.cdn.com. 100 IN A 30.3.1.2"),
		"gone.com. A":                 ok("gone.com. 200 IN CNAME gone.com.cdn.example.net.", "gone.com.cdn.example.net. 1 IN A 20.2.0.9"),
		"gone.com.other.cdn.com. A":   plugintest.Answers(t, dnswire.RcodeNameError, "--", "cdn.com. 60 IN SOA ns.cdn.com. host. 1 2 3 4 5"),
		"fail.com. A":                 ok("fail.com. 200 IN CNAME fail.com.cdn.example.net.", "fail.com.cdn.example.net. 1 IN A 20.2.0.9"),
		"fail.com.other.cdn.com. A":   plugin.Fail("x", dnswire.RcodeServerFailure, os.ErrDeadlineExceeded),
	}}
}

func TestRewrite(t *testing.T) {
	const consul = "name regex (.*)-(us-west-1)\\.coredns\\.rocks {1}.service.{2}.consul"
	const cdn = "rewrite cname regex (.*).cdn.example.net. {1}.other.cdn.com."
	tests := []struct {
		name, rules, ask, want string
	}{
		{"regex without an answer", "rewrite " + consul, "ftp-us-west-1.coredns.rocks. A",
			"NOERROR rd\nftp.service.us-west-1.consul. 0 IN A 10.10.10.10\nFTP.service.us-west-1.consul. 0 IN A 10.20.20.20\n"},
		{"regex, answer auto", "rewrite " + consul + " answer auto", "FTP-us-west-1.coredns.rocks. A",
			"NOERROR rd\nFTP-us-west-1.coredns.rocks. 0 IN A 10.10.10.10\nFTP-us-west-1.coredns.rocks. 0 IN A 10.20.20.20\n"},
		{"regex, answer name", "rewrite stop {\n" + consul + "\nanswer name (.*)\\.service\\.(us-west-1)\\.consul {1}-{2}.coredns.rocks\n}", "ftp-us-west-1.coredns.rocks. A",
			"NOERROR rd\nftp-us-west-1.coredns.rocks. 0 IN A 10.10.10.10\nFTP-us-west-1.coredns.rocks. 0 IN A 10.20.20.20\n"},
		{"exact", "rewrite name RED BLUE", "Red. A", "NOERROR rd\nRed. 60 IN CNAME x.Red.\nx.Red. 60 IN A 192.0.2.1\n"},
		{"exact, and the name inside", "rewrite name exact red blue", "red. MX", "NOERROR rd\nred. 60 IN MX 1 mail.red.\nmore mail.red. 60 IN A 192.0.2.1\n"},
		{"exact is all of it", "rewrite name example.org b", "bar.example.org. A", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},
		{"exact, answer value", "rewrite name exact red blue answer value mail\\.(.*)\\. post.{1}", "red. MX", "NOERROR rd\nred. 60 IN MX 1 post.red.\nmore mail.red. 60 IN A 192.0.2.1\n"},
		{"suffix", "rewrite name suffix .schmoogle.com. .google.com.", "www.schmoogle.com. A",
			"NOERROR rd\nwww.google.com. 60 IN CNAME l.google.com.\nl.google.com. 60 IN A 192.0.2.1\nauth google.com. 60 IN NS ns.google.com.\nmore ns.google.com. 60 IN A 192.0.2.9\n"},
		{"suffix, answer auto", "rewrite name suffix .schmoogle.com. .google.com. answer auto", "www.schmoogle.com. A",
			"NOERROR rd\nwww.schmoogle.com. 60 IN CNAME l.schmoogle.com.\nl.schmoogle.com. 60 IN A 192.0.2.1\nauth google.com. 60 IN NS ns.schmoogle.com.\nmore ns.schmoogle.com. 60 IN A 192.0.2.9\n"},
		{"prefix", "rewrite name prefix foo bar", "foo.example.org. A", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},
		{"prefix, answer auto", "rewrite name prefix foo bar answer auto", "foo.example.org. A", "NOERROR rd\nfoo.example.org. 60 IN A 192.0.2.5\n"},
		{"substring", "rewrite name substring service.us-west-1.example.org service.us-west-1.consul", "ftp.service.us-west-1.example.org. A",
			"NOERROR rd\nftp.service.us-west-1.consul. 0 IN A 10.10.10.10\nFTP.service.us-west-1.consul. 0 IN A 10.20.20.20\n"},
		{"value of a PTR", "rewrite stop {\nname suffix .arpa .arpa answer auto answer value (.*)\\.service\\.consul\\. {1}.coredns.rocks.\n}", "30.30.30.10.in-addr.arpa. PTR",
			"NOERROR rd\n30.30.30.10.in-addr.arpa. 60 IN PTR ftp-us-west-1.coredns.rocks.\n"},
		{"names that do not match", "rewrite name suffix .x .y answer auto", "bar.example.org. A", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},
		{"invalid name", "rewrite name regex (.*)\\.org {1}..org", "a.org. A", "SERVFAIL error: invalid name after rewrite: a..org.\n"},

		{"stop", "rewrite name a b\nrewrite name b blue", "a. A", "REFUSED rd\n"},
		{"continue", "rewrite continue name a b\nrewrite name b blue", "a. A", "NOERROR rd\na. 60 IN CNAME x.a.\nx.a. 60 IN A 192.0.2.1\n"},
		{"continue, back in reverse order", "rewrite continue name suffix .one .two answer auto\nrewrite name regex (.*)\\.two blue answer name (.*)blue {1}front.two", "x.one. A",
			"NOERROR rd\nfront.one. 60 IN CNAME x.blue.\nx.front.one. 60 IN A 192.0.2.1\n"},
		{"first that matches", "rewrite name x y\nrewrite name red blue", "red. MX", "NOERROR rd\nred. 60 IN MX 1 mail.red.\nmore mail.red. 60 IN A 192.0.2.1\n"},

		{"type", "rewrite type ANY HINFO", "a.example.org. ANY", "NOERROR rd\na.example.org. 60 IN HINFO \"a\" \"b\"\n"},
		{"class", "rewrite class CH IN", "bar.example.org. A class=CH", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},
		{"continue type keeps the question", "rewrite continue type ANY HINFO", "a.example.org. ANY", "NOERROR rd\na.example.org. 60 IN HINFO \"a\" \"b\"\n"},

		{"ttl", "rewrite ttl exact a.example.org 15", "a.example.org. A", "NOERROR rd\na.example.org. 15 IN A 192.0.2.1\nauth example.org. 15 IN NS ns.example.org.\n"},
		{"ttl range", "rewrite ttl regex (.*)\\.example\\.org 30-300", "a.example.org. A", "NOERROR rd\na.example.org. 30 IN A 192.0.2.1\nauth example.org. 300 IN NS ns.example.org.\n"},
		{"ttl cap", "rewrite ttl suffix example.org -30", "a.example.org. A", "NOERROR rd\na.example.org. 7 IN A 192.0.2.1\nauth example.org. 30 IN NS ns.example.org.\n"},
		{"ttl floor", "rewrite ttl substring ple.org 30-", "a.example.org. A", "NOERROR rd\na.example.org. 30 IN A 192.0.2.1\nauth example.org. 700 IN NS ns.example.org.\n"},
		{"ttl of a denial", "rewrite ttl prefix a 5", "a.example.org. AAAA", "NXDOMAIN rd\nauth example.org. 5 IN SOA ns.example.org. host. 1 2 3 4 5\n"},
		{"ttl of another name", "rewrite ttl b.example.org 15", "bar.example.org. A", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},

		{"rcode", "rewrite rcode regex (.*)\\.example\\.org SERVFAIL NOERROR", "a.example.org. TXT", "NOERROR rd error: i/o timeout\n"},
		{"rcode by number", "rewrite rcode a.example.org 3 0", "a.example.org. AAAA", "NOERROR rd\nauth example.org. 60 IN SOA ns.example.org. host. 1 2 3 4 5\n"},
		{"another rcode", "rewrite rcode a.example.org REFUSED NOERROR", "a.example.org. AAAA", "NXDOMAIN rd\nauth example.org. 60 IN SOA ns.example.org. host. 1 2 3 4 5\n"},

		{"cname", cdn, "my-app.com. A",
			"NOERROR rd\nmy-app.com. 200 IN CNAME my-app.example.\nmy-app.example. 200 IN CNAME my-app.com.other.cdn.com.\nmy-app.com.other.cdn.com. 100 IN A 30.3.1.2\n"},
		{"cname asked for", cdn, "my-app.com. CNAME", "NOERROR rd\nmy-app.com. 200 IN CNAME my-app.com.other.cdn.com.\n"},
		{"cname to what is not there", cdn, "gone.com. A", "NXDOMAIN rd\ngone.com. 200 IN CNAME gone.com.other.cdn.com.\nauth cdn.com. 60 IN SOA ns.cdn.com. host. 1 2 3 4 5\n"},
		{"cname to a failure gives no old address", cdn, "fail.com. A", "SERVFAIL rd error: i/o timeout\nfail.com. 200 IN CNAME fail.com.other.cdn.com.\n"},
		{"cname without an alias", cdn, "bar.example.org. A", "NOERROR rd\nbar.example.org. 60 IN A 192.0.2.5\n"},
		{"dropped", "rewrite ttl a.example.org 3", "a.example.org. SRV", "dropped\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			next := world(t)
			r := plugintest.Ask(t, tc.ask)
			before := r.Msg.Copy()
			got := New(parse(t, tc.rules), next).Wrap(next).Serve(t.Context(), r)
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before.String(), r.Msg.String()); diff != "" {
				t.Errorf("the query was changed: %s", diff)
			}
			if got.Msg != nil {
				if diff := cmp.Diff(before.Question, got.Msg.Question); diff != "" {
					t.Errorf("the client gets another question back: %s", diff)
				}
			}
		})
	}
}

// TestEDNS looks at the options that the plugin behind sees.
func TestEDNS(t *testing.T) {
	tests := []struct {
		rules, ask string
		have       []dnswire.EDNS0
		want       string
	}{
		{"rewrite edns0 local set 0xffee 0x61626364", "A.b. A", nil, "65518 abcd"},
		{"rewrite edns0 local set 0xffee abcd", "a. A do", nil, "65518 abcd"},
		{"rewrite edns0 local set 0xffee abcd", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_LOCAL{Code: 0xffee, Data: []byte("x")}}, "65518 abcd"},
		{"rewrite edns0 local append 0xffee abcd", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_LOCAL{Code: 0xffee, Data: []byte("x")}}, "65518 x"},
		{"rewrite edns0 local append 0xffee abcd", "a. A", nil, "65518 abcd"},
		{"rewrite edns0 local replace 0xffee abcd", "a. A do", nil, ""},
		{"rewrite edns0 local replace 0xffee abcd revert", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_LOCAL{Code: 0xffee, Data: []byte("x")}}, "65518 abcd"},
		{"rewrite edns0 local unset 0xffee", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_LOCAL{Code: 0xffee, Data: []byte("x")}, &dnswire.EDNS0_LOCAL{Code: 0xffef, Data: []byte("y")}}, "65519 y"},
		{"rewrite edns0 local unset 0xffee", "a. A", nil, "none"},
		{"rewrite edns0 local set 0xffee {qname}", "A.b. A", nil, "65518 A.b."},
		{"rewrite edns0 local set 0xffee {qtype}", "a. AAAA", nil, "65518 \x00\x1c"},
		{"rewrite edns0 local set 0xffee {client_ip}", "a. A", nil, "65518 \x0a\xf4\x01\x05"},
		{"rewrite edns0 local set 0xffee {client_ip}", "a. A from=fd00::1", nil, "65518 \xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		{"rewrite edns0 local set 0xffee {client_port}", "a. A", nil, "65518 \x9d\x14"},
		{"rewrite edns0 local set 0xffee {server_ip}", "a. A", nil, "65518 \x0a\x60\x00\x0a"},
		{"rewrite edns0 local set 0xffee {server_port}", "a. A", nil, "65518 \x00\x35"},
		{"rewrite edns0 local set 0xffee {protocol}", "a. A tcp", nil, "65518 tcp"},
		{"rewrite edns0 local set 0xffee {some/label}\nrewrite edns0 local set 0xffee second", "a. A", nil, "65518 second"},
		{"rewrite edns0 nsid set", "a. A", nil, "3 "},
		{"rewrite edns0 nsid unset", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_NSID{Code: 3}}, ""},
		{"rewrite edns0 subnet set 24 56", "a. A", nil, "8 10.244.1.0/24/0"},
		{"rewrite edns0 subnet set 24 56", "a. A from=fd00:1:2:3ff::1", nil, "8 [fd00:1:2:300::]/56/0"},
		{"rewrite edns0 subnet replace 24 56", "a. A", nil, "none"},
		{"rewrite edns0 subnet unset", "a. A do", []dnswire.EDNS0{&dnswire.EDNS0_SUBNET{Code: 8, Family: 1, SourceNetmask: 24, Address: []byte{1, 2, 3, 0}}}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.rules+" "+tc.ask, func(t *testing.T) {
			r := plugintest.Ask(t, tc.ask)
			if tc.have != nil {
				r.Msg.IsEdns0().Option = tc.have
			}
			before := r.Msg.Copy()
			behind := &plugintest.Next{}
			New(parse(t, tc.rules), behind).Wrap(behind).Serve(t.Context(), r)
			got := []string{}
			for _, o := range behind.Last().Send {
				if !slices.Contains(behind.Last().Msg.IsEdns0().Option, o) {
					t.Errorf("upstreams get %v, which the query does not have", o)
				}
			}
			if n := len(behind.Last().Send); n > 1 || n == 0 && strings.HasPrefix(tc.rules, "rewrite edns0 local set") {
				t.Errorf("upstreams get %d options", n)
			}
			opt := behind.Last().Msg.IsEdns0()
			if opt == nil {
				got = append(got, "none")
			} else {
				for _, o := range opt.Option {
					value := o.String()
					if l, ok := o.(*dnswire.EDNS0_LOCAL); ok {
						value = string(l.Data)
					}
					got = append(got, fmt.Sprintf("%d %s", o.Option(), strings.TrimPrefix(value, " ")))
				}
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, ",")); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before.String(), r.Msg.String()); diff != "" {
				t.Errorf("the query was changed: %s", diff)
			}
		})
	}
}

// TestGroups has a name whose text looks like a placeholder.
func TestGroups(t *testing.T) {
	d := parse(t, `rewrite name regex (.*)\.(.*)\.org {1}-{2}.net answer auto`)
	behind := &plugintest.Next{}
	New(d, behind).Wrap(behind).Serve(t.Context(), plugintest.Ask(t, "{2}.{1}.org. A"))
	if got := behind.Last().Name(); got != "{2}-{1}.net." {
		t.Errorf("asked for %q", got)
	}
}

// TestTransferIsReverted changes all messages of a transfer.
func TestTransferIsReverted(t *testing.T) {
	part := func(text string) *dnswire.Msg {
		p := plugintest.Answers(t, 0, text)
		p.Msg.SetAxfr("blue.")
		return p.Msg
	}
	next := plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
		more := iter.Seq[*dnswire.Msg](slices.Values([]*dnswire.Msg{part("b.blue. 1 IN A 192.0.2.2")}))
		return plugin.Reply{Msg: part("a.blue. 1 IN A 192.0.2.1"), More: more}
	})
	got := New(parse(t, "rewrite name red blue"), nil).Wrap(next).Serve(t.Context(), plugintest.Ask(t, "red. AXFR tcp"))
	names := []string{got.Msg.Question[0].Name, got.Msg.Answer[0].Header().Name}
	for m := range got.More {
		names = append(names, m.Question[0].Name, m.Answer[0].Header().Name)
	}
	if diff := cmp.Diff([]string{"red.", "a.red.", "red.", "b.red."}, names); diff != "" {
		t.Error(diff)
	}
}

// TestShared has a reply that a cache keeps.
func TestShared(t *testing.T) {
	shared := plugintest.Answers(t, 0, "blue. 60 IN MX 1 mail.blue.")
	before := shared.Msg.String()
	next := plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply { return shared })
	for _, rules := range []string{"rewrite name red blue", "rewrite ttl red 3", "rewrite rcode red 0 3", "rewrite type MX TXT"} {
		New(parse(t, rules), nil).Wrap(next).Serve(t.Context(), plugintest.Ask(t, "red. MX"))
		if got := shared.Msg.String(); got != before {
			t.Errorf("%s changed it to %s", rules, got)
		}
	}
}

// TestACLAfterRewrite has names that are shut, asked for directly and by way of a rewrite: no way
// leads around acl.
func TestACLAfterRewrite(t *testing.T) {
	walls := acl.New(&corefile.ACL{Rules: []corefile.ACLRule{
		{Zones: []string{"blue."}, Policies: []corefile.ACLPolicy{{Action: "block", Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}},
		{Zones: []string{"shut."}, Policies: []corefile.ACLPolicy{{Action: "block"}}},
	}}, acl.NewMetrics())
	next := world(t)
	rules := parse(t, "rewrite name red blue\nrewrite name suffix .shut .example.org\nrewrite type TXT A")
	h := New(rules, next).Wrap(walls.Wrap(next))
	for ask, want := range map[string]int{
		"blue. A":                     dnswire.RcodeRefused,
		"red. A":                      dnswire.RcodeRefused,
		"red. A from=192.168.0.1":     dnswire.RcodeSuccess,
		"bar.shut. A":                 dnswire.RcodeRefused,
		"bar.example.org. A":          dnswire.RcodeSuccess,
		"bar.example.org. TXT":        dnswire.RcodeSuccess,
		"red. TXT from=10.0.0.1":      dnswire.RcodeRefused,
		"red. A from=::ffff:10.9.9.9": dnswire.RcodeRefused,
	} {
		got := h.Serve(t.Context(), plugintest.Ask(t, ask))
		if got.Code() != want || want != dnswire.RcodeSuccess && len(got.Msg.Answer) > 0 {
			t.Errorf("%s: %s", ask, plugintest.Show(got))
		}
	}
}
