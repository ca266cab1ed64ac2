// Package apilane has the tests of Fairway as a program behind a real Kubernetes API server: what
// is created, changed and deleted there reaches the kernel of a node, seen by packets, also after
// the API server was away; the manifests of deploy are accepted, and the resolver works with the
// rights that they give it. It has no other code.
//
// The API server, etcd and the agent run in the namespace of the lab's node-1 and go with it.
package apilane
