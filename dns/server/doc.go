// Package server makes a running resolver of a checked Corefile: listeners, and for each listener
// the server blocks that answer on it, each a chain of plugins. It routes a query to the block of
// the longest zone, counts it, and sends the reply. It also serves the pages for metrics, health
// and readiness, and takes a new configuration without losing a query.
//
// A query that a zone or a cache can answer at once is answered by the worker that read it, from
// packed answers, without a goroutine or an allocation (the fast path, fast.go). All others pass
// through the block's plugins as decoded messages (the slow path, slow.go).
//
// A new configuration is built beside the one in force: its plugins are made, its zones filled,
// its sockets bound. Only if all of that went well do the listeners get their new blocks, in one
// step each. What did not change, a zone, a cache, a listener, is not made anew.
//
// A block that is bound to no address is served by a wildcard. Where the machine has one address of a
// family, as in a pod, that address has a listener of its own besides (addNarrow in build.go).
//
// The package does not read a Corefile's text, knows no Kubernetes client, and opens no sockets of
// its own but those for HTTP: dns/serve owns the ones for DNS. To look at it by hand: GET /metrics,
// /health and /ready?verbose at the addresses that the Corefile names.
package server
