// Command peers is the software that Fairway is compared with, in one binary:
// kube-proxy and kube-apiserver exactly as Kubernetes releases them, built from
// the published module. It runs the program whose name it is called by
// (argv[0]), so links to it behave like the real executables.
//
// It is a module of its own to keep Kubernetes out of Fairway's go.mod. The
// replace lines in go.mod stand in for those of k8s.io/kubernetes, which point
// into its source tree and are therefore lost when it is used as a module.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-proxy":
		os.Exit(cli.Run(proxy.NewProxyCommand()))
	default:
		fmt.Fprintf(os.Stderr, "peers: %q is not the name of a peer: kube-apiserver, kube-proxy\n", name)
		os.Exit(2)
	}
}
