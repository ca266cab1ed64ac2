// Package ipvs will be the backend on the kernel's IP Virtual Server. So far it holds [Probe], which
// asks the kernel for what the backend needs. It programs nothing.
//
// # Kernel objects
//
// Probe works in a network namespace of its own that lasts as long as the call, so nothing of it
// can be seen from outside. To look at IPVS by hand: ipvsadm -Ln; cat /proc/net/ip_vs.
package ipvs
