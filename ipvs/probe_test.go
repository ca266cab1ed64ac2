package ipvs

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProbe compares the probe with what the kernel shows in /proc, which the probe does not use.
func TestProbe(t *testing.T) {
	err := Probe()
	if os.Geteuid() != 0 {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("Probe without rights = %v, want %v", err, unix.EPERM)
		}
		return
	}
	_, stat := os.Stat("/proc/net/ip_vs")
	if has := stat == nil; has == (err != nil && strings.Contains(err.Error(), "virtual servers")) {
		t.Errorf("/proc/net/ip_vs exists: %t; Probe = %v", has, err)
	}
	t.Logf("Probe: %v", err)
}

// TestProbeNamesAll has needs of its own: every missing one must be named, and no other.
func TestProbeNamesAll(t *testing.T) {
	was := needs
	defer func() { needs = was }()
	fail := func() error { return errNoFamily }
	needs = append(was[:0:0], was...)
	needs[0].try, needs[1].try = fail, fail
	needs[2].try, needs[3].try = func() error { return nil }, fail
	err := probe()
	if err == nil {
		t.Fatal("Probe finds nothing missing")
	}
	for i, n := range needs {
		if got, want := strings.Contains(err.Error(), n.option), i != 2; got != want {
			t.Errorf("%q names %s: %t, want %t", err, n.name, got, want)
		}
	}
	needs[0].try = func() error { return unix.EPERM }
	if err := probe(); !errors.Is(err, unix.EPERM) || strings.Contains(err.Error(), "lacks") {
		t.Errorf("without rights: %v", err)
	}
}
