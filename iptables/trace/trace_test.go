package trace

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairway-lb/fairway/iptables/restore"
)

func parseRules(t *testing.T, text string) restore.Ruleset {
	t.Helper()
	rules, err := restore.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func nowhereLocal(netip.Addr) bool { return false }

// TestRun: jumps return, gotos do not, dice fall both ways, marks and translation are seen later.
func TestRun(t *testing.T) {
	m, err := New(parseRules(t, `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:a - [0:0]
:b - [0:0]
:c - [0:0]
-A PREROUTING -j a
-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.3:3
-A POSTROUTING -m mark ! --mark 0x1/0x1 -j RETURN
-A POSTROUTING -j MASQUERADE --random-fully
-A a -s 10.9.0.0/16 -g b
-A a -j DNAT --to-destination 10.0.0.9:9
-A b -p tcp -m tcp --dport 81:90 -j RETURN
-A b -j MARK --set-xmark 0x1/0x1
-A b -p tcp -m statistic --mode random --probability 0.25000000000 -g c
-A b -p udp -m recent --update --seconds 5 --reap --name L --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.0.0.2:2
-A c -p tcp -j DNAT --to-destination 10.0.0.1:1
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD -j REJECT --reject-with icmp-port-unreachable
COMMIT
`), nowhereLocal)
	if err != nil {
		t.Fatal(err)
	}
	client, vip := netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("10.96.0.1")
	to := netip.MustParseAddrPort
	for _, c := range []struct {
		packet Packet
		want   []Outcome
	}{
		{Packet{Src: client, Dst: vip, Protocol: "tcp", Port: 80, In: "x"}, []Outcome{
			{Verdict: "ACCEPT", To: to("10.0.0.1:1"), Masqueraded: true, Probability: 0.25, Mark: 1},
			{Verdict: "ACCEPT", To: to("10.0.0.3:3"), Masqueraded: true, Probability: 0.75, Mark: 1}}},
		{Packet{Src: client, Dst: vip, Protocol: "tcp", Port: 85, In: "x"}, []Outcome{{Verdict: "ACCEPT", To: to("10.0.0.3:3"), Probability: 1}}},
		{Packet{Src: vip, Dst: vip, Protocol: "udp", Port: 80, In: "x"}, []Outcome{{Verdict: "ACCEPT", To: to("10.0.0.9:9"), Probability: 1}}},
		{Packet{Src: client, Dst: vip, Protocol: "udp", Port: 80, In: "x"}, []Outcome{
			{Verdict: "ACCEPT", To: to("10.0.0.2:2"), Masqueraded: true, Affinity: "L", Mark: 1},
			{Verdict: "icmp-port-unreachable", To: to("10.96.0.1:80"), Probability: 1, Mark: 1}}},
	} {
		got, err := m.Run(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.packet, diff)
		}
	}
}

// TestNewErrors: what it does not understand is an error, never a match.
func TestNewErrors(t *testing.T) {
	for rule, want := range map[string]string{
		"-m owner --uid-owner 0 -j ACCEPT":              "unknown: -m owner --uid-owner 0",
		"-j nowhere":                                    "no such chain",
		"-d example -j ACCEPT":                          "example",
		"-m conntrack --ctstate UNTRACKED -j DROP":      "unknown state UNTRACKED",
		`-m bpf --bytecode "1,6 0 0 1,6 0 0 0" -j DROP`: "wrong count",
		`-m bpf --bytecode "1,40 0 0 12" -j DROP`:       "unknown code",
		`-m bpf --bytecode "2,29 0 9 0,6 0 0 0"`:        "past the end",
	} {
		_, err := New(parseRules(t, "*nat\n:x - [0:0]\n-A x "+rule+"\nCOMMIT\n"), nowhereLocal)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
}
