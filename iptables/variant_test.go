package iptables

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRandomFully: what the tool's version says about --random-fully, and that the rules follow.
func TestRandomFully(t *testing.T) {
	for version, want := range map[string]bool{
		"iptables v1.4.21":             false,
		"iptables v1.6.2":              true,
		"iptables v1.8.9 (nf_tables)":  true,
		"a program of the same name":   true, // no reason to fear that it is old
		"ip6tables v1.6.0 (something)": false,
	} {
		dir := t.TempDir()
		for _, name := range []string{"iptables-legacy", "ip6tables-legacy"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		for _, v6 := range []bool{false, true} {
			if got := hasRandomFully("legacy", v6); got != want {
				t.Errorf("%s, IPv6 %t: %t, want %t", version, v6, got, want)
			}
		}
		text := Compile(example(), Options{portsInOrder: !want}).String()
		if !strings.Contains(text, "-j MASQUERADE") || strings.Contains(text, "--random-fully") != want {
			t.Errorf("%s: rules do not follow", version)
		}
	}
}
