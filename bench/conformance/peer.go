package conformance

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairway-lb/fairway/bench/kubeproxy"
	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/proxiertest"
)

// A peer is kube-proxy with an API server of its own, as the conformance suite drives it.
type peer struct {
	proxy *kubeproxy.Proxy
	api   *listwatch.Server
	stop  func()
}

// settleTime bounds a Sync. kube-proxy syncs a scenario's few objects in well under a second.
const settleTime = 30 * time.Second

// Subject is kube-proxy as the conformance suite sees it. bin is the program, mode and variant
// are as in [kubeproxy.Options].
func Subject(bin, mode, variant string) proxiertest.Subject {
	name := "kube-proxy-" + mode
	if variant != "" {
		name += "-" + variant
	}
	return proxiertest.Subject{
		Name: name,
		Start: func(t testing.TB, env proxiertest.Env) proxiertest.Peer {
			t.Helper()
			p, err := startPeer(t.TempDir(), kubeproxy.Options{
				Bin: bin, Mode: mode, Variant: variant, Node: "node-1",
				In:   func(f func() error) error { return env.Lab.In(env.Node, f) },
				Args: flags(mode, env.Config),
			})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		// All that the suite can ask of a program, so that what kube-proxy lacks is seen to fail.
		Have: []proxiertest.Feature{
			proxiertest.UDP, proxiertest.SCTP, proxiertest.Affinity, proxiertest.StaleFlows,
			proxiertest.NoLoopbackPort, proxiertest.RejectFromNode,
			proxiertest.ProblemsDecided, proxiertest.HostAddressReject, proxiertest.LoopbackGuard,
			proxiertest.DropsInvalid, proxiertest.OpensFirewall,
		},
	}
}

// flags are kube-proxy's for a scenario's configuration.
func flags(mode string, c proxiertest.Config) []string {
	out := []string{"--iptables-min-sync-period=1ms", "--iptables-sync-period=1s"}
	if c.MasqueradeAll {
		out = append(out, "--masquerade-all")
	}
	var cluster []string
	for _, p := range netlab.ClusterCIDRs {
		cluster = append(cluster, p.String())
	}
	switch {
	case c.NoDetector: // ClusterCIDR mode without a CIDR detects nothing
	case c.DetectMode == "InterfaceNamePrefix":
		out = append(out, "--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=pod-")
	case c.DetectMode != "":
		out = append(out, "--detect-local-mode="+c.DetectMode)
	default:
		out = append(out, "--cluster-cidr="+strings.Join(cluster, ","))
	}
	nodePorts := c.NodePortAddresses
	if len(nodePorts) == 0 && mode == kubeproxy.NFTables {
		nodePorts = []string{"0.0.0.0/0", "::/0"} // its default is the primary address only
	}
	if len(nodePorts) > 0 {
		out = append(out, "--nodeport-addresses="+strings.Join(nodePorts, ","))
	}
	if c.DenyExternalIPs {
		out = append(out, "--feature-gates=AllowServiceExternalIPs=false")
	}
	// There is no flag for ServiceProxyName: kube-proxy is always the one without a name.
	return out
}

func startPeer(dir string, o kubeproxy.Options) (_ *peer, err error) {
	p := &peer{api: listwatch.New()}
	var l net.Listener
	err = o.In(func() error {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return nil, err
	}
	var url string
	url, p.stop = p.api.Start(l)
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	o.Kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(o.Kubeconfig, listwatch.Kubeconfig(url), 0o600); err != nil {
		return nil, err
	}
	p.proxy, err = kubeproxy.Start(o)
	return p, err
}

// Sync serves the objects of now and returns when kube-proxy has programmed them.
func (p *peer) Sync(ctx context.Context, _, now *proxiertest.Objects) error {
	var all []runtime.Object
	if now.Node != nil {
		all = append(all, now.Node)
	}
	for _, o := range now.ServiceCIDRs {
		all = append(all, o)
	}
	for _, o := range now.Services {
		all = append(all, servedService(o))
	}
	for _, o := range now.Slices {
		all = append(all, servedSlice(o))
	}
	if err := p.api.Replace(all...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := p.proxy.Settle(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// servedService returns o as an API server serves it: with defaults in place of what is missing.
// kube-proxy relies on them, and ends in a panic without some.
func servedService(o *corev1.Service) *corev1.Service {
	o = o.DeepCopy()
	for i := range o.Spec.Ports {
		if p := &o.Spec.Ports[i]; p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
	}
	if o.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		if o.Spec.SessionAffinityConfig == nil {
			o.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{}
		}
		if o.Spec.SessionAffinityConfig.ClientIP == nil {
			o.Spec.SessionAffinityConfig.ClientIP = &corev1.ClientIPConfig{}
		}
		if c := o.Spec.SessionAffinityConfig.ClientIP; c.TimeoutSeconds == nil {
			seconds := corev1.DefaultClientIPServiceAffinitySeconds
			c.TimeoutSeconds = &seconds
		}
	}
	return o
}

func servedSlice(o *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	o = o.DeepCopy()
	for i := range o.Ports {
		name, tcp := "", corev1.ProtocolTCP
		p := &o.Ports[i]
		if p.Name == nil {
			p.Name = &name
		}
		if p.Protocol == nil {
			p.Protocol = &tcp
		}
	}
	return o
}

func (p *peer) Close() error {
	err := p.proxy.Close()
	p.stop()
	return err
}
