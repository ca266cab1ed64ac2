// Package metrics counts what the proxy does, for Prometheus.
//
// Names that begin with kubeproxy_ are kube-proxy's, with its labels and buckets, so that
// dashboards and alerts keep working; names that begin with fairway_ are ours. Fairway applies
// both address families together: series with the label ip_family have the same value for
// each family that this node programs.
//
// Left out, because nothing here stands for them, are some of kube-proxy's: docs/differences.md
// lists them.
//
// The package owns no kernel object and no goroutine. See it with
// "curl localhost:10249/metrics".
package metrics
