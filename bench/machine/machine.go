// Package machine describes what measured figures depend on besides what was measured.
package machine

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A Machine is the hardware, the kernel and the versions of the programs.
type Machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
}

// This describes the machine that the program runs on, with the peers' programs in bin. What
// cannot be found out is empty.
func This(bin string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Versions: map[string]string{"go": runtime.Version()}}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(info), "\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	m.Kernel = output("uname", "-r")
	m.Versions["kube-proxy"] = output(bin+"/kube-proxy", "--version")
	m.Versions["fairway"] = output("git", "describe", "--always")
	if output("git", "status", "--porcelain", "--", ":!docs", ":!bench/results") != "" {
		m.Versions["fairway"] += "-dirty"
	}
	m.Versions["iptables"] = output("iptables", "--version")
	m.Versions["nft"] = output("nft", "--version")
	return m
}

func output(name string, args ...string) string {
	b, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(b))
}
