// Package conformance runs the conformance suite (proxier/proxiertest) against real kube-proxy,
// in iptables and in nftables mode, and writes down where the two differ.
//
// The suite says what Fairway does. A scenario that kube-proxy fails is either an error of
// kube-proxy, or something that Fairway does otherwise on purpose: differences.yaml says which,
// and why, and the page docs/conformance-kube-proxy.md is made from it and from a run. A failure
// that it does not explain is an error, as is an explanation of what does not fail.
//
// "make peers-conformance" repeats the run.
package conformance
