// Package node is what a resolver needs that runs in the proxy's own process, on the node whose pods
// it serves.
//
// A [Gate] ties names to the data plane: a Service's address comes into a zone once this node forwards
// connections to it, and leaves the zone before the node stops to. A [Watch] finds out whether the
// resolver answers, which is what the cluster's DNS address may be led to it by. A [Hold] binds that
// address, so that the kernel leads it here no longer than the process lives.
//
// The package knows neither backends nor how snapshots are made: it is told which one is being
// applied, and what came of it. It opens no sockets but those that [Watch] asks with, and those
// of [Hold], which nobody reads from. By hand: ss -lntup src 10.96.0.10.
package node
