package ebpf

import (
	"errors"
	"fmt"
	"math"
	"strings"

	ciliumebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// needs are what the backend cannot do without, with the first Linux version that has it, which
// is for the reader of the error only.
var needs = []struct {
	name, since string
	try         func() error
}{
	{"type information of the kernel", "CONFIG_DEBUG_INFO_BTF", kernelTypes},
	{"cgroup socket address programs", "4.17", program(ciliumebpf.CGroupSockAddr)}, // translation at connect
	{"socket storage maps", "5.2", socketStorage},                                  // and back at getpeername
	{"bpf_set_retval in socket address programs", "5.18", setRetval},               // refusal without endpoints
	{"traffic control programs", "4.1", program(ciliumebpf.SchedCLS)},              // what bypasses sockets
	{"tcx links", "6.6", tcx},
	{"mmapable array maps", "5.5", mmapable},
	{"bounded loops", "5.3", features.HaveBoundedLoops},
}

// Probe returns nil if this kernel has what the backend needs, or an error that names each thing
// that is missing. It loads small programs and maps, which are gone when it returns; kernel
// versions are not looked at. It needs CAP_BPF and CAP_NET_ADMIN; without them it returns the
// kernel's refusal. It may be called concurrently.
//
// What the backend can replace is not asked for: without the connection-tracking functions of
// Linux 6.1, packets go through the iptables backend beneath the socket programs.
func Probe() error {
	var missing []string
	for _, n := range needs {
		switch err := n.try(); {
		case errors.Is(err, ciliumebpf.ErrNotSupported):
			missing = append(missing, fmt.Sprintf("%s (Linux %s)", n.name, n.since))
		case err != nil:
			return fmt.Errorf("ebpf probe: %s: %w", n.name, err)
		}
	}
	if missing != nil {
		return fmt.Errorf("kernel lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

func program(t ciliumebpf.ProgramType) func() error {
	return func() error { return features.HaveProgramType(t) }
}

func kernelTypes() error {
	_, err := btf.LoadKernelSpec()
	return err
}

func socketStorage() error { return features.HaveMapType(ciliumebpf.SkStorage) }

func setRetval() error {
	return features.HaveProgramHelper(ciliumebpf.CGroupSockAddr, asm.FnSetRetval)
}

func mmapable() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }

// tcx tries to attach to an interface that cannot exist: interface numbers are positive int32.
func tcx() error {
	prog, err := ciliumebpf.NewProgram(&ciliumebpf.ProgramSpec{
		Type:         ciliumebpf.SchedCLS,
		License:      "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ciliumebpf.AttachTCXIngress})
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, unix.ENODEV):
		return nil // refused for the interface, as it should be
	}
	return err
}
