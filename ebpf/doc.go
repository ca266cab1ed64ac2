// Package ebpf will be the backend on eBPF programs. So far it holds [Probe], which asks the kernel
// for what the backend needs. It loads nothing that stays, and attaches nothing.
//
// # Kernel objects
//
// None. To look at programs by hand: bpftool prog; bpftool cgroup tree.
package ebpf
