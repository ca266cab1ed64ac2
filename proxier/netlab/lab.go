package netlab

// A Lab is a cluster of network namespaces.
type Lab struct{}
