// Package resolve turns what the cluster says (Services, EndpointSlices, the own Node,
// ServiceCIDRs) into what this node must do: a [proxier.Snapshot].
//
// Every rule of Kubernetes lives here and nowhere else: which Services count, which addresses are
// theirs, which endpoints take connections of which origin, what is masqueraded, what is refused.
// The behaviour is kube-proxy's (v1.36), but for what the comments call out; its written form are
// the KEPs 752 (EndpointSlice), 1669 (terminating endpoints), 2086 (internal policy), 2433 and
// 4444 (topology hints), 3836 (node eligibility) and 1860 (ipMode).
//
// The package is pure. It does no I/O, starts no goroutine, reads no clock and never logs or
// fails: what it cannot honour is a [proxier.Problem] of the snapshot. It trusts no field of an
// object: addresses, ports and names are checked and written in canonical form, and one broken
// object never affects another.
//
// It owns no kernel object. To look at its work by hand: fairway render, or fairway get.
package resolve
