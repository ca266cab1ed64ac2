package ebpf

import (
	"errors"
	"os"
	"strings"
	"testing"

	ciliumebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// TestProbe compares the probe with the kernel's version, which the probe does not look at.
func TestProbe(t *testing.T) {
	err := Probe()
	t.Logf("Probe: %v", err)
	if os.Geteuid() != 0 {
		return // what an ordinary user may do is the administrator's choice
	}
	version, verr := features.LinuxVersionCode()
	if verr != nil {
		t.Fatal(verr)
	}
	const linux66 = 6<<16 | 6<<8
	if _, stat := os.Stat("/sys/kernel/btf/vmlinux"); stat == nil && version >= linux66 && err != nil {
		t.Errorf("Probe = %v on a kernel that has all of it", err)
	}
	if version < 6<<16 && err == nil {
		t.Errorf("Probe finds tcx links on Linux %#x", version)
	}
}

// TestProbeSees shows that the probes tell absent things from present ones.
func TestProbeSees(t *testing.T) {
	if err := program(ciliumebpf.ProgramType(9999))(); err == nil {
		t.Error("a program type that does not exist was found")
	}
	was := needs
	defer func() { needs = was }()
	needs = append(was[:0:0], was[:2]...)
	needs[1].try = func() error { return ciliumebpf.ErrNotSupported }
	err := Probe()
	if err == nil || !strings.Contains(err.Error(), "lacks "+needs[1].name+" (Linux 4.17)") {
		t.Errorf("Probe = %v", err)
	}
	needs[1].try = func() error { return unix.EPERM }
	if err := Probe(); !errors.Is(err, unix.EPERM) {
		t.Errorf("Probe without rights = %v", err)
	}
}
