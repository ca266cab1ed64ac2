// Package node is what a resolver needs that runs in the proxy's own process, on the node whose pods
// it serves.
//
// A [Gate] ties names to the data plane: a Service's address comes into a zone once this node forwards
// connections to it, and leaves the zone before the node stops to. A [Watch] finds out whether the
// resolver answers, which is what the cluster's DNS address may be led to it by.
//
// The package knows neither backends nor how snapshots are made: it is told which one is being
// applied, and what came of it. It opens no sockets but those that [Watch] asks with, and owns no
// kernel object.
package node
