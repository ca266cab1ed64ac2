package acl

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

// passed is the plugin behind, which answers everything.
var passed = plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
	return plugin.Reply{Rcode: dnswire.RcodeNameError, Plugin: "next"}
})

func rule(zones string, policies ...corefile.ACLPolicy) corefile.ACLRule {
	return corefile.ACLRule{Zones: []string{zones}, Policies: policies}
}

func policy(action string, types []uint16, nets ...string) corefile.ACLPolicy {
	p := corefile.ACLPolicy{Action: action, Types: types}
	for _, n := range nets {
		p.Nets = append(p.Nets, netip.MustParsePrefix(n))
	}
	return p
}

func TestACL(t *testing.T) {
	const (
		refused  = "REFUSED rd\nmore option 15 15 (Blocked): ()\n"
		filtered = "NOERROR rd\nmore option 15 17 (Filtered): ()\n"
		ok       = "NXDOMAIN\n"
	)
	a, aaaa := []uint16{dnswire.TypeA}, []uint16{dnswire.TypeAAAA}
	tests := []struct {
		name  string
		rules []corefile.ACLRule
		ask   string
		want  string
	}{
		{"no rule", nil, "a.example.org. A", ok},
		{"block a type of a net", []corefile.ACLRule{rule(".", policy("block", a, "192.168.0.0/16"))}, "x. A from=192.168.3.4", refused},
		{"another type", []corefile.ACLRule{rule(".", policy("block", a, "192.168.0.0/16"))}, "x. AAAA from=192.168.3.4", ok},
		{"another net", []corefile.ACLRule{rule(".", policy("block", a, "192.168.0.0/16"))}, "x. A from=192.169.3.4", ok},
		{"filter", []corefile.ACLRule{rule(".", policy("filter", a, "192.168.0.0/16"))}, "x. A from=192.168.3.4", filtered},
		{"drop", []corefile.ACLRule{rule(".", policy("drop", nil, "192.0.2.0/24"))}, "x. A from=192.0.2.1", "dropped\n"},
		{"first policy counts", []corefile.ACLRule{rule(".", policy("allow", nil, "192.168.1.0/24"), policy("block", nil, "192.168.0.0/16"))},
			"x. A from=192.168.1.4", ok},
		{"and else the second", []corefile.ACLRule{rule(".", policy("allow", nil, "192.168.1.0/24"), policy("block", nil, "192.168.0.0/16"))},
			"x. A from=192.168.2.4", refused},
		{"only some", []corefile.ACLRule{rule(".", policy("allow", nil, "10.0.0.0/8"), policy("block", nil))}, "x. A from=192.168.2.4", refused},
		{"zone", []corefile.ACLRule{rule("a.example.org.", policy("block", nil))}, "B.A.Example.org. A", refused},
		{"outside of the zone", []corefile.ACLRule{rule("a.example.org.", policy("block", nil))}, "ba.example.org. A", ok},
		{"a rule without a match leaves it to the next", []corefile.ACLRule{rule(".", policy("allow", a)), rule(".", policy("block", nil))}, "x. MX", refused},
		{"allow ends it", []corefile.ACLRule{rule(".", policy("allow", a)), rule(".", policy("block", nil))}, "x. A", ok},
		{"IPv6", []corefile.ACLRule{rule(".", policy("block", aaaa, "fd00::/8"))}, "x. AAAA from=fd00::1", refused},
		{"IPv4 in IPv6", []corefile.ACLRule{rule(".", policy("block", nil, "192.168.0.0/16"))}, "x. A from=::ffff:192.168.1.1", refused},
		{"zone of an address", []corefile.ACLRule{rule(".", policy("block", nil, "fe80::/10"))}, "x. A from=fe80::1%eth0", refused},
		{"transfers", []corefile.ACLRule{rule(".", policy("allow", []uint16{dnswire.TypeAXFR}, "10.1.0.0/16"), policy("block", []uint16{dnswire.TypeAXFR}))},
			"x. AXFR tcp from=10.2.0.1", refused},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := New(&corefile.ACL{Rules: tc.rules}, NewMetrics()).Wrap(passed).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOriginalName has a rewrite lead from a name that is shut to one that is not, and the other way.
func TestOriginalName(t *testing.T) {
	h := New(&corefile.ACL{Rules: []corefile.ACLRule{rule("secret.", policy("block", nil))}}, NewMetrics()).Wrap(passed)
	for _, tc := range []struct {
		asked, final string
		want         int
	}{
		{"a.secret.", "a.open.", dnswire.RcodeRefused},
		{"a.open.", "a.secret.", dnswire.RcodeRefused},
		{"a.open.", "b.open.", dnswire.RcodeNameError},
	} {
		r := plugintest.Ask(t, tc.asked+" A").Ask(tc.final, dnswire.TypeA)
		if got := h.Serve(t.Context(), r).Code(); got != tc.want {
			t.Errorf("%s for %s: %d, want %d", tc.final, tc.asked, got, tc.want)
		}
	}
}

// TestHarshest drops what one name of a line filters and another drops.
func TestHarshest(t *testing.T) {
	h := New(&corefile.ACL{Rules: []corefile.ACLRule{rule("a.", policy("drop", nil)), rule("b.", policy("filter", nil))}}, NewMetrics()).Wrap(passed)
	for _, names := range [][2]string{{"a.", "b."}, {"b.", "a."}} {
		r := plugintest.Ask(t, names[0]+" A").Ask(names[1], dnswire.TypeA)
		if got := h.Serve(t.Context(), r); !got.Drop {
			t.Errorf("%s, then %s: %s", names[0], names[1], plugintest.Show(got))
		}
	}
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	h := New(&corefile.ACL{Rules: []corefile.ACLRule{
		rule("b.", policy("block", nil)), rule("f.", policy("filter", nil)), rule("d.", policy("drop", nil)),
	}}, m).Wrap(passed)
	for _, name := range []string{"b.", "f.", "d.", "x.", "x.b."} {
		h.Serve(t.Context(), plugintest.Ask(t, name+" A"))
	}
	for _, tc := range []struct {
		name string
		got  float64
		want float64
	}{
		{"blocked", testutil.ToFloat64(m.blocked.WithLabelValues("dns://:53", "b.", "")), 2},
		{"filtered", testutil.ToFloat64(m.filtered.WithLabelValues("dns://:53", "f.", "")), 1},
		{"dropped", testutil.ToFloat64(m.dropped.WithLabelValues("dns://:53", "d.", "")), 1},
		{"allowed", testutil.ToFloat64(m.allowed.WithLabelValues("dns://:53", "")), 1},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
}
