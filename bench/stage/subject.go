package stage

import (
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/fairway-lb/fairway/bench/kubeproxy"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A Subject is one proxy in one configuration.
type Subject struct {
	Name string
	// Peer is the name of the subject that this one is compared with, "" for those that others
	// are compared with.
	Peer string
	// start starts the proxy in e's namespace. close ends it. Nil: there is no proxy.
	start func(e env) (p *process.Process, close func() error, err error)
}

// An env is what a subject is started with.
type env struct {
	bin        string // the directory of the programs
	dir        string // scratch, empty
	kubeconfig string
	profile    bool                     // serve profiles
	in         func(func() error) error // runs a function in the namespace to program
	group      *process.Group           // counts what the proxy uses; nil for none
}

// Direct is no proxy at all: connections go to an endpoint's own address. It is the control.
var Direct = Subject{Name: "direct"}

// Proxies are the subjects that can be measured. A new one joins with an entry.
var Proxies = []Subject{
	{Name: "fairway iptables-nft", Peer: "kube-proxy iptables-nft", start: fairway("nft")},
	{Name: "kube-proxy iptables-nft", start: kubeProxy(kubeproxy.IPTables, "nft")},
	{Name: "fairway iptables-legacy", Peer: "kube-proxy iptables-legacy", start: fairway("legacy")},
	{Name: "kube-proxy iptables-legacy", start: kubeProxy(kubeproxy.IPTables, "legacy")},
	{Name: "kube-proxy nftables", start: kubeProxy(kubeproxy.NFTables, "")},
}

// flags are those that every subject gets besides its own.
func (e env) flags() []string {
	f := []string{"--cluster-cidr", clusterRange.String() + "," + netlab.V6Prefix(clusterRange).String()}
	if e.profile {
		f = append(f, "--profiling")
	}
	return f
}

func kubeProxy(mode, variant string) func(env) (*process.Process, func() error, error) {
	return func(e env) (*process.Process, func() error, error) {
		p, err := kubeproxy.Start(kubeproxy.Options{
			Bin: e.bin + "/kube-proxy", Mode: mode, Variant: variant, Node: netlab.Node1,
			In: e.in, Kubeconfig: e.kubeconfig, Args: e.flags(), Group: e.group,
		})
		if err != nil {
			return nil, nil, err
		}
		return p.Process, p.Close, nil
	}
}

func fairway(variant string) func(env) (*process.Process, func() error, error) {
	return func(e env) (*process.Process, func() error, error) {
		environ, err := kubeproxy.Tools(e.dir, variant)
		if err != nil {
			return nil, nil, err
		}
		cmd := exec.Command(e.bin+"/fairway", append([]string{"proxy"}, append(e.flags(),
			"--proxy-mode", "iptables", "--kubeconfig", e.kubeconfig, "--hostname-override", netlab.Node1,
			"--iptables-variant", variant, "--admin-socket", e.dir+"/admin.sock",
			"--conntrack-max-per-core=0", "--conntrack-min=0", // as for kube-proxy: a namespace cannot set them
			"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
			"--metrics-bind-address", "127.0.0.1:10249", "--healthz-bind-address", "127.0.0.1:10256")...)...)
		cmd.Env = append(os.Environ(), environ...)
		var p *process.Process
		err = e.in(func() (err error) {
			p, err = e.group.Start(cmd)
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("fairway: %w", err)
		}
		return p, func() error { p.Kill(); return nil }, nil
	}
}

// Named returns the subjects with these names, Direct included.
func Named(names ...string) []Subject {
	var out []Subject
	for _, s := range append([]Subject{Direct}, Proxies...) {
		if slices.Contains(names, s.Name) {
			out = append(out, s)
		}
	}
	return out
}
