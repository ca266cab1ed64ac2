package iptables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// withStandIn returns the example with a stand-in for the UDP frontends at cluster IPs.
func withStandIn() *proxier.Snapshot {
	s := example()
	for i, f := range s.Frontends {
		if f.Owner.Name != "dns" {
			continue
		}
		g := *f
		g.Affinity = 0
		if at := map[string]string{"10.96.0.2": "169.254.20.10", "fd00:96::2": "fd00:10::1"}[f.Addr.String()]; at != "" {
			g.StandIn = &proxier.Pool{Owner: f.Owner, Scope: proxier.StandsIn,
				Endpoints: []*proxier.Endpoint{{Addr: netip.MustParseAddr(at), Port: 53, Local: true, Ready: true, NodeName: "node-1"}}}
		}
		s.Frontends[i] = &g
	}
	return s
}

// TestStandInRules: a socket is looked for before everything else, in PREROUTING alone, and what is
// not there leaves the rules as they are.
func TestStandInRules(t *testing.T) {
	s := withStandIn()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	p := Compile(s, Options{})
	for _, tc := range []struct {
		rules           restore.Ruleset
		v6              bool
		dispatch, serve string
	}{
		{p.IPv4, false, "-d 10.96.0.2/32 -p udp -m udp --dport 80 -m socket -g ", "169.254.20.10:53"},
		{p.IPv6, true, "-d fd00:96::2/128 -p udp -m udp --dport 80 -m socket -g ", "[fd00:10::1]:53"},
	} {
		pool := standInPrefix + hash("ns/dns:pudp")
		want := map[string][]string{
			"PREROUTING": {"-j " + standInChain, portals}, "OUTPUT": {portals},
			standInChain: {tc.dispatch + pool},
			pool:         {`-p udp -m comment --comment "ns/dns:p" -j DNAT --to-destination ` + tc.serve},
		}
		nat := tc.rules.Table("nat")
		for name, rules := range want {
			if diff := cmp.Diff(rules, nat.Chain(name).Rules); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		without := slices.Clone(s.Frontends)
		for i, f := range without {
			g := *f
			g.StandIn = nil
			without[i] = &g
		}
		bare := *s
		bare.Frontends = without
		plain := compile(nil, inputOf(&bare, tc.v6), Options{}).nat().tableOf()
		for _, c := range plain.Chains {
			if c.Name != "PREROUTING" && !sameChain(c, *nat.Chain(c.Name)) {
				t.Errorf("%s is another without a stand-in", c.Name)
			}
		}
		if len(plain.Chains) != len(nat.Chains)-2 {
			t.Errorf("%d chains without a stand-in, %d with one", len(plain.Chains), len(nat.Chains))
		}
	}
}

// TestStandInComesAndGoes: the kernel takes the rules, prints them as they are, and loses them without
// a trace.
func TestStandInComesAndGoes(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		o.NoSocket = func(err error) { t.Error(err) }
		b := newBackend(t, o)
		bare := withStandIn()
		for i, f := range bare.Frontends {
			g := *f
			g.StandIn = nil
			bare.Frontends[i] = &g
		}
		mustApply(t, b, bare)
		before := saved(t, o.Variant)
		mustApply(t, b, withStandIn())
		if n := strings.Count(saved(t, o.Variant), "-m socket"); n != 2 {
			t.Errorf("%d rules look for sockets, want one for each family", n)
		}
		if ch := mustApply(t, newBackend(t, o), withStandIn()); !ch.IsZero() {
			t.Errorf("a restart changes %v", ch)
		}
		mustApply(t, b, bare)
		if diff := cmp.Diff(before, saved(t, o.Variant)); diff != "" {
			t.Errorf("it leaves (-before +after):\n%s", diff)
		}
	})
}

// TestWithoutSocket: a kernel without xt_socket leads everything to the stand-in, and says so.
func TestWithoutSocket(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		o.IPv6 = false
		refuse := 0
		o.Intercept = func(op, object string) error {
			if op == "iptables-restore" && object == "ip nat" && refuse > 0 {
				refuse--
				return &restore.ExitError{Code: 1, Stderr: "no such match"}
			}
			return nil
		}
		told := 0
		o.NoSocket = func(error) { told++ }
		b := newBackend(t, o)
		mustApply(t, b, example())
		refuse = 3 // what changed, what changed since the tables were read again, and without xt_bpf
		mustApply(t, b, withStandIn())
		pool := standInPrefix + hash("ns/dns:pudp")
		rules := saved(t, o.Variant)
		if refuse != 0 || told != 1 || strings.Contains(rules, "-m socket") || !strings.Contains(rules, "-m bpf") ||
			!strings.Contains(rules, " -s 10.244.0.0/16 -g "+pool) {
			t.Errorf("%d refusals left, told %d times, rules:\n%s", refuse, told, rules)
		}
		if ch := mustApply(t, b, withStandIn()); !ch.IsZero() {
			t.Errorf("again: %v", ch)
		}
		mustApply(t, b, example())
		if rules := saved(t, o.Variant); strings.Contains(rules, pool) {
			t.Errorf("it does not go:\n%s", rules)
		}
	})
}
