package dns64

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

const soa = "example. 20 IN SOA ns.example. host.example. 1 2 3 4 5"

func replies(t *testing.T) *plugintest.Next {
	ok := func(texts ...string) plugin.Reply { return plugintest.Answers(t, dnswire.RcodeSuccess, texts...) }
	return &plugintest.Next{Replies: map[string]plugin.Reply{
		"v4.example. AAAA":     ok("--", soa),
		"v4.example. A":        ok("v4.example. 60 IN A 192.0.2.33", "v4.example. 10 IN A 192.0.2.34", "--", "example. 9 IN NS ns.example.", "--", "ns.example. 9 IN A 192.0.2.1"),
		"bare.example. AAAA":   ok(),
		"bare.example. A":      ok("bare.example. 3600 IN A 192.0.2.33"),
		"dual.example. AAAA":   ok("dual.example. 60 IN AAAA 2001:db8::1", "dual.example. 60 IN AAAA ::ffff:192.0.2.9"),
		"dual.example. A":      ok("dual.example. 60 IN A 192.0.2.33"),
		"mapped.example. AAAA": ok("mapped.example. 60 IN AAAA ::ffff:192.0.2.9"),
		"mapped.example. A":    ok("mapped.example. 60 IN A 192.0.2.9"),
		"alias.example. AAAA":  ok("alias.example. 60 IN CNAME bare.example."),
		"alias.example. A":     ok("alias.example. 60 IN CNAME bare.example.", "bare.example. 60 IN A 192.0.2.33", "bare.example. 60 IN RRSIG A 8 2 60 20300101000000 20200101000000 1 example. AAAA", "alias.example. 60 IN RRSIG CNAME 8 2 60 20300101000000 20200101000000 1 example. AAAA"),
		"none.example. AAAA":   plugintest.Answers(t, dnswire.RcodeNameError, "--", soa),
		"none.example. A":      ok("none.example. 60 IN A 192.0.2.33"),
		"fail.example. AAAA":   plugin.Fail("x", dnswire.RcodeServerFailure, nil),
		"fail.example. A":      ok("fail.example. 60 IN A 192.0.2.33"),
		"empty.example. AAAA":  ok("--", soa),
		"empty.example. A":     ok("--", soa),
		"half.example. AAAA":   ok("--", soa),
		"half.example. A":      plugin.Fail("x", dnswire.RcodeServerFailure, nil),
	}}
}

func TestDNS64(t *testing.T) {
	wellKnown := corefile.DNS64{Prefix: netip.MustParsePrefix("64:ff9b::/96")}
	all, v4 := wellKnown, wellKnown
	all.TranslateAll = true
	v4.AllowIPv4 = true
	const v4Reply = "NOERROR rd\nv4.example. 20 IN AAAA 64:ff9b::c000:221\nv4.example. 10 IN AAAA 64:ff9b::c000:222\nauth example. 9 IN NS ns.example.\nmore ns.example. 9 IN A 192.0.2.1\n"
	tests := []struct {
		name string
		d    corefile.DNS64
		ask  string
		want string
	}{
		{"made", wellKnown, "v4.example. AAAA from=fd00::1", v4Reply},
		{"TTL without an SOA", wellKnown, "bare.example. AAAA from=fd00::1", "NOERROR rd\nbare.example. 600 IN AAAA 64:ff9b::c000:221\n"},
		{"over IPv4", wellKnown, "v4.example. AAAA", "NOERROR rd\nauth " + soa + "\n"},
		{"over IPv4, allowed", v4, "v4.example. AAAA", v4Reply},
		{"mapped client", wellKnown, "v4.example. AAAA from=::ffff:10.0.0.1", "NOERROR rd\nauth " + soa + "\n"},
		{"another type", wellKnown, "v4.example. A from=fd00::1", "NOERROR rd\nv4.example. 60 IN A 192.0.2.33\nv4.example. 10 IN A 192.0.2.34\nauth example. 9 IN NS ns.example.\nmore ns.example. 9 IN A 192.0.2.1\n"},
		{"has an address", wellKnown, "dual.example. AAAA from=fd00::1", "NOERROR rd\ndual.example. 60 IN AAAA 2001:db8::1\n"},
		{"translate_all", all, "dual.example. AAAA from=fd00::1", "NOERROR rd\ndual.example. 60 IN AAAA 64:ff9b::c000:221\n"},
		{"mapped addresses do not count", wellKnown, "mapped.example. AAAA from=fd00::1", "NOERROR rd\nmapped.example. 60 IN AAAA 64:ff9b::c000:209\n"},
		{"alias", wellKnown, "alias.example. AAAA from=fd00::1", "NOERROR rd\nalias.example. 60 IN CNAME bare.example.\nbare.example. 60 IN AAAA 64:ff9b::c000:221\nalias.example. 60 IN RRSIG CNAME 8 2 60 20300101000000 20200101000000 1 example. AAAA\n"},
		{"no such name", wellKnown, "none.example. AAAA from=fd00::1", "NXDOMAIN rd\nauth " + soa + "\n"},
		{"failure counts as empty", wellKnown, "fail.example. AAAA from=fd00::1", "NOERROR rd\nfail.example. 60 IN AAAA 64:ff9b::c000:221\n"},
		{"nothing at all", wellKnown, "empty.example. AAAA from=fd00::1", "NOERROR rd\nauth " + soa + "\n"},
		{"no A because of an error", wellKnown, "half.example. AAAA from=fd00::1", "NOERROR rd\nauth " + soa + "\n"},
		{"class", wellKnown, "v4.example. AAAA from=fd00::1 class=CH", "NOERROR rd\nauth " + soa + "\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			next := replies(t)
			got := New(&tc.d, next, Metrics()).Wrap(next).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestValidating leaves alone who checks signatures itself.
func TestValidating(t *testing.T) {
	next := replies(t)
	translated := Metrics()
	h := New(&corefile.DNS64{Prefix: netip.MustParsePrefix("64:ff9b::/96")}, next, translated).Wrap(next)
	for _, tc := range []struct {
		do, cd bool
		want   float64
	}{{true, true, 0}, {false, true, 1}, {true, false, 2}} {
		r := plugintest.Ask(t, "v4.example. AAAA from=fd00::1 buf=1232")
		r.Msg.IsEdns0().SetDo(tc.do)
		r.Msg.CheckingDisabled = tc.cd
		h.Serve(t.Context(), r)
		if got := testutil.ToFloat64(translated.WithLabelValues("dns://:53")); got != tc.want {
			t.Errorf("DO %v, CD %v: %v translated, want %v", tc.do, tc.cd, got, tc.want)
		}
	}
}

// TestEmbed has the examples of RFC 6052, 2.4.
func TestEmbed(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":         "2001:db8:c000:221::",
		"2001:db8:100::/40":     "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":     "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
		"64:ff9b::/96":          "64:ff9b::192.0.2.33",
	} {
		if got := embed(netip.MustParsePrefix(prefix), netip.MustParseAddr("192.0.2.33")); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
