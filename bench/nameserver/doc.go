// Package nameserver runs servers that answer names, for tests and measurements: real CoreDNS,
// Fairway's resolver, and NSD and Unbound of Debian, each as a program of its own.
//
// A server lives in a [Space], a network namespace with nothing but a loopback device, which has
// whatever addresses the test wants. So two servers can have the same Corefile, the same ports
// and the same addresses, and do not meet. What they need from outside is in the space as well,
// served by this process: a Kubernetes API (bench/listwatch) and an [Internet], which answers
// for the names that are not the cluster's.
//
// The package compares nothing and measures nothing. It owns anonymous namespaces, which end with
// the process; "lsns -t net" lists them while a server is in one, and
// "nsenter -t PID -n ss -lnp" looks inside. It needs root.
package nameserver
