package netlab

import (
	"net/netip"
	"testing"
)

func TestV6Text(t *testing.T) {
	tests := map[string]string{
		"10.96.0.10":            "fd00:96::a",
		"10.96.1.10":            "fd00:96::10a",
		"10.96.0.0/16":          "fd00:96::/112",
		"10.96.0.128/25":        "fd00:96::80/121",
		"10.244.1.11":           "fd00:244:1::b",
		"10.244.2.25":           "fd00:244:2::19",
		"10.244.1.0/24":         "fd00:244:1::/64",
		"10.244.0.0/16":         "fd00:244::/32",
		"192.168.20.9":          "fd00:20::9",
		"192.168.20.9/32":       "fd00:20::9/128",
		"192.168.20.8/29":       "fd00:20::8/125",
		"198.51.100.10":         "2001:db8:100::a",
		"0.0.0.0/0":             "::/0",
		"0.0.0.0":               "::",
		"127.0.0.1":             "::1",
		"8.8.8.8":               "2001:db8:4::808:808",
		"from 10.96.0.1 on":     "from fd00:96::1 on",
		"010.096.000.010":       "010.096.000.010", // not canonical: left alone
		"version 1.2.3, no 1.2": "version 1.2.3, no 1.2",
	}
	for in, want := range tests {
		if got := V6Text(in); got != want {
			t.Errorf("V6Text(%q) = %q, want %q", in, got, want)
		}
	}
}

// Every prefix of the plan must contain the counterparts of what its IPv4 prefix contains.
func TestV6Contains(t *testing.T) {
	names := append([]string{Outside, Node1, Node2}, AllPods...)
	for _, name := range names {
		a := Addr(name)
		for _, p := range []string{"10.244.0.0/16", "10.244.1.0/24", "192.168.20.0/24", "192.168.20.8/30", "10.96.0.0/16"} {
			v4 := netip.MustParsePrefix(p)
			if got, want := V6Prefix(v4).Contains(V6(a)), v4.Contains(a); got != want {
				t.Errorf("%s in %s: %v, but %s in %s: %v", a, v4, want, V6(a), V6Prefix(v4), got)
			}
		}
	}
}
