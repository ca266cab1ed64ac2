package plugin_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

func TestUnder(t *testing.T) {
	for _, tc := range []struct {
		zone, name string
		want       bool
	}{
		{".", "a.", true},
		{"example.org.", "example.org.", true},
		{"example.org.", "A.EXAMPLE.org.", true},
		{"EXAMPLE.org", "a.example.org", true},
		{"example.org.", "badexample.org.", false},
		{"example.org.", "org.", false},
		{"example.org.", `a\.example.org.`, false},
		{"example.org.", `a\\.example.org.`, true},
		{"a.example.org.", "example.org.", false},
		{"example.org.", ".", false},
	} {
		if got := plugin.Under(tc.zone, tc.name); got != tc.want {
			t.Errorf("Under(%q, %q) = %v", tc.zone, tc.name, got)
		}
	}
}

// TestUnderIsSubDomain agrees with the library about names of every kind.
func TestUnderIsSubDomain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.SampledFrom([]string{"a", "B", "ab", `\.`, `a\.b`, `\\`, `x\\`})
		labels := rapid.SliceOfN(label, 0, 4)
		zone, name := labels.Draw(t, "zone"), labels.Draw(t, "name")
		if rapid.Bool().Draw(t, "below") {
			name = append(name, zone...)
		}
		text := func(l []string) string { return strings.ToLower(strings.Join(l, ".") + ".") }
		want := dnswire.IsSubDomain(text(zone), text(name))
		if got := plugin.Under(text(zone), text(name)); got != want {
			t.Fatalf("Under(%q, %q) = %v, the library says %v", text(zone), text(name), got, want)
		}
	})
}

func TestLongest(t *testing.T) {
	zones := []string{"org.", "example.org.", ".", "le.org."}
	for name, want := range map[string]string{
		"a.example.org.": "example.org.", "example.org.": "example.org.", "x.org.": "org.", "com.": ".", "badexample.org.": "org.",
	} {
		if got := plugin.Longest(zones, name); got != want {
			t.Errorf("Longest(%q) = %q, want %q", name, got, want)
		}
	}
	if got := plugin.Longest([]string{"org."}, "com."); got != "" {
		t.Errorf("com. is in %q", got)
	}
}

func TestFall(t *testing.T) {
	for _, tc := range []struct {
		zones []string
		name  string
		want  bool
	}{
		{nil, "a.", false},
		{[]string{"."}, "a.", true},
		{[]string{"IN-addr.arpa"}, "1.in-addr.arpa.", true},
		{[]string{"in-addr.arpa."}, "a.", false},
	} {
		if got := plugin.NewFall(tc.zones).Through(tc.name); got != tc.want {
			t.Errorf("%v: %q falls through: %v", tc.zones, tc.name, got)
		}
	}
}

func TestReverseAddr(t *testing.T) {
	for name, want := range map[string]string{
		"1.2.3.4.in-addr.arpa.":                                "4.3.2.1",
		"255.255.255.255.in-addr.arpa.":                        "255.255.255.255",
		"256.2.3.4.in-addr.arpa.":                              "",
		"01.2.3.4.in-addr.arpa.":                               "",
		"2.3.4.in-addr.arpa.":                                  "",
		"1.1.2.3.4.in-addr.arpa.":                              "",
		"x.2.3.4.in-addr.arpa.":                                "",
		strings.Repeat("1.", 32) + "ip6.arpa.":                 "1111:1111:1111:1111:1111:1111:1111:1111",
		strings.Repeat("1.", 31) + "ip6.arpa.":                 "",
		strings.Repeat("1.", 31) + "g.ip6.arpa.":               "",
		strings.Repeat("1.", 31) + "11.ip6.arpa.":              "",
		"4.3.2.1.x.arpa.":                                      "",
		"in-addr.arpa.":                                        "",
		"8.b.d.0.1.0.0.2." + strings.Repeat("0.", 24):          "",
		strings.Repeat("0.", 24) + "8.b.d.0.1.0.0.2.ip6.arpa.": "2001:db8::",
	} {
		got, ok := plugin.ReverseAddr(name)
		if ok != (want != "") || ok && got != netip.MustParseAddr(want) {
			t.Errorf("ReverseAddr(%q) = %v, %v", name, got, ok)
		}
	}
}

// named is a plugin that writes down that it was asked.
type named struct {
	name  string
	trace *[]string
}

func (n named) Name() string { return n.name }
func (n named) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		*n.trace = append(*n.trace, n.name)
		return next.Serve(ctx, r)
	})
}

// TestChain asks plugins in their order, and says SERVFAIL behind the last.
func TestChain(t *testing.T) {
	var trace []string
	got := plugin.Chain(named{"a", &trace}, named{"b", &trace}).Serve(t.Context(), plugintest.Ask(t, "x. A"))
	if diff := cmp.Diff([]string{"a", "b"}, trace); diff != "" {
		t.Error(diff)
	}
	if got.Code() != dnswire.RcodeServerFailure || got.Err != plugin.ErrNoNext {
		t.Errorf("the end of the chain says %s", plugintest.Show(got))
	}
}

// TestCopies looks at what may be changed without others seeing it.
func TestCopies(t *testing.T) {
	r := plugintest.Ask(t, "A.example. A do")
	r.Msg.CheckingDisabled = true
	asked := r.Ask("b.example", dnswire.TypeMX)
	if asked.Name() != "b.example." || asked.Type() != dnswire.TypeMX || asked.From != r || asked.First() != r {
		t.Errorf("asked %v", asked.Question())
	}
	if r.Spelled() != "A.example." || r.Name() != "a.example." {
		t.Errorf("the first request is now about %s", r.Spelled())
	}
	if asked.Msg.IsEdns0() == nil || !asked.Msg.CheckingDisabled {
		t.Error("flags and options are lost")
	}

	shared := plugintest.Answers(t, dnswire.RcodeSuccess, "a.example. 60 IN A 192.0.2.1")
	before := shared.Msg.String()
	own := shared.Own(r)
	own.Msg.Answer[0].Header().Ttl = 1
	shallow := shared.Shallow(r)
	shallow.Msg.Answer[0] = nil
	shallow.Msg.Rcode = 5
	if got := shared.Msg.String(); got != before {
		t.Errorf("changed to %s", got)
	}
	empty := plugin.Fail("x", dnswire.RcodeRefused, nil).Own(r)
	if empty.Msg.Rcode != dnswire.RcodeRefused || !empty.Msg.Response || empty.Msg.Id != r.Msg.Id || !empty.Msg.CheckingDisabled {
		t.Errorf("a code became %v", empty.Msg)
	}
}

func TestKindOf(t *testing.T) {
	soa := "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"
	ns := "sub.example.org. 60 IN NS ns.example.org."
	a := "a.example.org. 60 IN A 192.0.2.1"
	for _, tc := range []struct {
		reply plugin.Reply
		want  plugin.Kind
	}{
		{plugintest.Answers(t, dnswire.RcodeSuccess, a), plugin.Success},
		{plugintest.Answers(t, dnswire.RcodeSuccess, a, "--", soa), plugin.Success},
		{plugintest.Answers(t, dnswire.RcodeSuccess), plugin.Success},
		{plugintest.Answers(t, dnswire.RcodeSuccess, "--", ns), plugin.Delegation},
		{plugintest.Answers(t, dnswire.RcodeSuccess, "--", ns, soa), plugin.NoData},
		{plugintest.Answers(t, dnswire.RcodeNameError, "--", soa), plugin.NameError},
		{plugintest.Answers(t, dnswire.RcodeServerFailure), plugin.ServerError},
		{plugintest.Answers(t, dnswire.RcodeNotImplemented), plugin.ServerError},
		{plugintest.Answers(t, dnswire.RcodeRefused), plugin.OtherError},
		{plugin.Reply{}, plugin.ServerError},
	} {
		if got := plugin.KindOf(tc.reply.Msg); got != tc.want {
			t.Errorf("%v, want %v: %v", got, tc.want, tc.reply.Msg)
		}
	}
	transfer := new(dnswire.Msg).SetAxfr("example.org.")
	if got := plugin.KindOf(transfer); got != plugin.Meta {
		t.Errorf("a transfer is %v", got)
	}
}

// TestDenied: a denial may stand at the end of aliases.
func TestDenied(t *testing.T) {
	soa := "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"
	ns, a := "example.org. 60 IN NS ns.example.org.", "b.example.org. 60 IN A 192.0.2.1"
	alias := "a.example.org. 60 IN CNAME b.example.org."
	for _, tc := range []struct {
		reply plugin.Reply
		want  bool
	}{
		{plugintest.Answers(t, dnswire.RcodeNameError), true},
		{plugintest.Answers(t, dnswire.RcodeNameError, alias, "--", soa), true},
		{plugintest.Answers(t, dnswire.RcodeSuccess, "--", soa), true},
		{plugintest.Answers(t, dnswire.RcodeSuccess, alias, "--", soa), true},
		{plugintest.Answers(t, dnswire.RcodeSuccess, alias, "--", ns), false},
		{plugintest.Answers(t, dnswire.RcodeSuccess, alias, a, "--", soa), false},
		{plugintest.Answers(t, dnswire.RcodeSuccess, "--", ns), false},
		{plugintest.Answers(t, dnswire.RcodeServerFailure, "--", soa), false},
		{plugin.Reply{}, false},
	} {
		if tc.reply.Msg != nil {
			tc.reply.Msg.SetQuestion("a.example.org.", dnswire.TypeA)
		}
		if got := plugin.Denied(tc.reply.Msg); got != tc.want {
			t.Errorf("%v, want %v: %v", got, tc.want, tc.reply.Msg)
		}
	}
	any := plugintest.Answers(t, dnswire.RcodeSuccess, alias, "--", soa).Msg
	any.Question = []dnswire.Question{{Name: "a.example.org.", Qtype: dnswire.TypeANY, Qclass: dnswire.ClassINET}}
	if plugin.Denied(any) {
		t.Error("an alias is an answer to ANY")
	}
}

// TestOnlyIN refuses what no plugin behind it tells apart.
func TestOnlyIN(t *testing.T) {
	next := &plugintest.Next{Replies: map[string]plugin.Reply{"a. A": {Rcode: dnswire.RcodeSuccess}}}
	h := plugin.OnlyIN.Wrap(next)
	for ask, want := range map[string]int{"a. A": 0, "a. A class=CH": 5, "a. A class=ANY": 5, "a. A class=HS": 5} {
		if got := h.Serve(t.Context(), plugintest.Ask(t, ask)).Code(); got != want {
			t.Errorf("%s: %d, want %d", ask, got, want)
		}
	}
}
