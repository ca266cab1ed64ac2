package transfer

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/acl"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

// zones are what a plugin of a test can transfer, by name.
type zones map[string][]dnswire.RR

var errBroken = errors.New("broken")

func (z zones) Transfer(zone string, serial uint32) (iter.Seq[dnswire.RR], error) {
	if zone == "broken." {
		return nil, errBroken
	}
	rrs, ok := z[zone]
	if !ok {
		return nil, ErrNotAuthoritative
	}
	if soa := rrs[0].(*dnswire.SOA); serial != 0 && !Newer(soa.Serial, serial) {
		rrs = rrs[:1]
	}
	return slices.Values(rrs), nil
}

func zone(t *testing.T, name string) []dnswire.RR {
	soa := name + " 60 IN SOA ns." + name + " host." + name + " 7 2 3 4 5"
	return plugintest.Records(t, soa, "a."+name+" 60 IN A 192.0.2.1", soa)
}

func rules(rules ...corefile.TransferRule) *corefile.Transfer {
	return &corefile.Transfer{Rules: rules}
}

func to(zone string, hosts ...string) corefile.TransferRule {
	return corefile.TransferRule{Zones: []string{zone}, To: hosts}
}

func newTransfer(t *testing.T, d *corefile.Transfer, from ...Transferer) *Transfer {
	t.Helper()
	x, err := New(d, from)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestTransfer(t *testing.T) {
	const (
		refused = "REFUSED\n"
		passed  = "NXDOMAIN\n"
		soa     = "example.org. 60 IN SOA ns.example.org. host.example.org. 7 2 3 4 5\n"
		all     = "NOERROR aa\n" + soa + "a.example.org. 60 IN A 192.0.2.1\n" + soa
	)
	tests := []struct {
		name  string
		rules *corefile.Transfer
		ask   string
		want  string
	}{
		{"all", rules(to("example.org.", "*")), "example.org. AXFR tcp", all},
		{"case", rules(to("example.org.", "*")), "Example.ORG. AXFR tcp", all},
		{"listed", rules(to("example.org.", "192.0.2.1:53", "10.244.1.5:53")), "example.org. AXFR tcp", all},
		{"mapped", rules(to("example.org.", "10.244.1.5:53")), "example.org. AXFR tcp from=::ffff:10.244.1.5", all},
		{"not listed", rules(to("example.org.", "10.244.1.5:53")), "example.org. AXFR tcp from=10.244.1.6", refused},
		{"IPv6", rules(to("example.org.", "[fd00::1]:53")), "example.org. AXFR tcp from=fd00::1", all},
		{"another type", rules(to("example.org.", "*")), "example.org. A tcp", passed},
		{"no rule for the zone", rules(to("example.net.", "*")), "example.org. AXFR tcp", passed},
		{"nobody has the zone", rules(to("org.", "*")), "org. AXFR tcp", passed},
		{"below the zone", rules(to("example.org.", "*")), "a.example.org. AXFR tcp", passed},
		{"broken", rules(to(".", "*")), "broken. AXFR tcp", "SERVFAIL error: broken\n"},
		{"IXFR without an SOA", rules(to("example.org.", "*")), "example.org. IXFR tcp", "SERVFAIL error: an IXFR has no SOA\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := plugintest.Ask(t, tc.ask)
			r.Msg.RecursionDesired = false
			next := &plugintest.Next{Replies: map[string]plugin.Reply{r.Name() + " " + dnswire.TypeToString[r.Type()]: {Rcode: dnswire.RcodeNameError}}}
			got := newTransfer(t, tc.rules, zones{}, zones{"example.org.": zone(t, "example.org.")}).Wrap(next).Serve(t.Context(), r)
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
			if got.More != nil {
				t.Error("a small zone takes more than one message")
			}
		})
	}
}

// TestUDP refuses what anybody may have sent, even where all may transfer.
func TestUDP(t *testing.T) {
	h := newTransfer(t, rules(to(".", "*")), zones{"example.org.": zone(t, "example.org.")}).Wrap(plugin.End)
	for _, ask := range []string{"example.org. AXFR", "example.org. IXFR"} {
		if got := h.Serve(t.Context(), plugintest.Ask(t, ask)); got.Code() != dnswire.RcodeRefused || got.Msg != nil {
			t.Errorf("%s over UDP: %s", ask, plugintest.Show(got))
		}
	}
}

// TestLongestMatch has an open zone whose name is the end of a closed one's in letters but not in
// labels, and zones inside of each other in every order.
func TestLongestMatch(t *testing.T) {
	have := zones{}
	for _, z := range []string{"example.org.", "sub.example.org.", "badexample.org.", "org."} {
		have[z] = zone(t, z)
	}
	closed := "192.0.2.99:53"
	for _, d := range []*corefile.Transfer{
		rules(to("example.org.", "*"), to("sub.example.org.", closed), to("org.", closed)),
		rules(to("org.", closed), to("sub.example.org.", closed), to("example.org.", "*")),
		rules(corefile.TransferRule{Zones: []string{"org.", "sub.example.org."}, To: []string{closed}}, to("example.org.", "*")),
	} {
		h := newTransfer(t, d, have).Wrap(plugin.End)
		for name, want := range map[string]int{"example.org.": 0, "sub.example.org.": 5, "badexample.org.": 5, "org.": 5} {
			if got := h.Serve(t.Context(), plugintest.Ask(t, name+" AXFR tcp")).Code(); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
	}
}

// TestIXFR sends the SOA alone to who is up to date.
func TestIXFR(t *testing.T) {
	h := newTransfer(t, rules(to(".", "*")), zones{"example.org.": zone(t, "example.org.")}).Wrap(plugin.End)
	for serial, want := range map[uint32]int{6: 3, 7: 1, 8: 1, 8 + 1<<31: 3, 6 + 1<<31: 1} {
		r := plugintest.Ask(t, "example.org. IXFR tcp")
		r.Msg.Ns = plugintest.Records(t, fmt.Sprintf("example.org. 60 IN SOA ns. host. %d 2 3 4 5", serial))
		if got := h.Serve(t.Context(), r); got.Msg == nil || len(got.Msg.Answer) != want {
			t.Errorf("serial %d: %s", serial, plugintest.Show(got))
		}
	}
}

// TestLarge puts a large zone together again from messages that fit.
func TestLarge(t *testing.T) {
	soa := plugintest.Records(t, "example.org. 60 IN SOA ns.example.org. host.example.org. 7 2 3 4 5")[0]
	have := []dnswire.RR{soa}
	for i := range 5000 {
		have = append(have, plugintest.Records(t, fmt.Sprintf("host-%d.example.org. 60 IN TXT \"some text that takes room in a message\"", i))...)
	}
	have = append(have, soa)
	got := newTransfer(t, rules(to(".", "*")), zones{"example.org.": have}).Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, "example.org. AXFR tcp"))
	var all []dnswire.RR
	count := 0
	for m := range func(yield func(*dnswire.Msg) bool) {
		if yield(got.Msg) {
			got.More(yield)
		}
	} {
		count++
		packed, err := m.Pack()
		if err != nil || len(packed) > 64<<10-64 {
			t.Errorf("a message of %d bytes: %v", len(packed), err)
		}
		all = append(all, m.Answer...)
	}
	if count < 5 || len(all) != len(have) || all[0] != soa || all[len(all)-1] != soa || all[2500] != have[2500] {
		t.Errorf("%d records of %d in %d messages", len(all), len(have), count)
	}
}

// TestACL narrows an open transfer by address, as CoreDNS's manual does it.
func TestACL(t *testing.T) {
	x := newTransfer(t, rules(to(".", "*")), zones{"example.org.": zone(t, "example.org.")})
	axfr := []uint16{dnswire.TypeAXFR}
	h := acl.New(&corefile.ACL{Rules: []corefile.ACLRule{{Zones: []string{"."}, Policies: []corefile.ACLPolicy{
		{Action: "allow", Types: axfr, Nets: plugintest.Nets("10.1.0.0/16")}, {Action: "block", Types: axfr},
	}}}}, acl.NewMetrics()).Wrap(x.Wrap(plugin.End))
	for from, want := range map[string]int{"10.1.2.3": 0, "10.2.2.3": 5} {
		if got := h.Serve(t.Context(), plugintest.Ask(t, "example.org. AXFR tcp from="+from)).Code(); got != want {
			t.Errorf("%s: %d, want %d", from, got, want)
		}
	}
}

func TestBadAddress(t *testing.T) {
	for _, to := range []string{"10.0.0.1", "host:53"} {
		if _, err := New(rules(corefile.TransferRule{Zones: []string{"."}, To: []string{to}}), nil); err == nil {
			t.Errorf("%q is accepted", to)
		}
	}
}
