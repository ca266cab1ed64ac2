// Command fairway is a service proxy for Kubernetes nodes: one static binary.
//
// Each sub-command has a file of its own. Only wire.go knows every package of the project and
// puts them together. Called as kube-proxy, the program is "fairway proxy" and takes
// kube-proxy's flags.
package main
