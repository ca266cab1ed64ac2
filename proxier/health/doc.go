// Package health answers who asks whether this node works: kubelet and load balancers.
//
// Three questions, three answers, with kube-proxy's paths, status codes and bodies:
//
//   - /livez: does this process keep up? Not if a change has waited too long to be applied.
//   - /healthz: should load balancers send to this node? Not if it does not keep up, nor if the
//     Node is going away (KEP-3836).
//   - the health check node port of a Service: are there ready endpoints of it on this node?
//     Not if there are none, nor if this node does not keep up.
//
// The package owns TCP listeners and nothing else; it decides nothing about Services. See them
// with "ss -ltnp" and "curl -i localhost:10256/healthz".
package health
