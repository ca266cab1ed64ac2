package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/proxier/admin"
)

func proxyCommand() *cobra.Command {
	s := settings{mode: "iptables", minSync: time.Second, sync: 30 * time.Second}
	var clusterCIDR, hostname, logFormat string
	var verbosity int
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Forward connections to Services on this node",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := newLogger(os.Stderr, logFormat, verbosity)
			if err != nil {
				return err
			}
			if hostname == "" {
				if hostname, err = os.Hostname(); err != nil {
					return err
				}
			}
			s.resolve.NodeName = strings.ToLower(hostname)
			for cidr := range strings.SplitSeq(clusterCIDR, ",") {
				if cidr == "" {
					continue
				}
				p, err := netip.ParsePrefix(cidr)
				if err != nil {
					return fmt.Errorf("--cluster-cidr: %w", err)
				}
				s.resolve.Detect.ClusterCIDRs = append(s.resolve.Detect.ClusterCIDRs, p)
			}
			s.resolve.IPv4, s.resolve.IPv6 = true, haveIPv6()
			s.iptables.IPv4, s.iptables.IPv6 = s.resolve.IPv4, s.resolve.IPv6
			p, err := newProxy(s, log)
			if err != nil {
				return err
			}
			log.Info("starting", "version", versionString(), "node", s.resolve.NodeName, "backend", p.backend.Name())
			if err := s.conntrack.apply("/proc/sys"); err != nil {
				log.Warn("some sysctls keep the kernel's values", "err", err)
			}
			return p.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&s.manifests, "manifests", "", "follow the manifests in this folder instead of an API server")
	f.StringVar(&s.client.Kubeconfig, "kubeconfig", "", "kubeconfig file; empty for in-cluster")
	f.StringVar(&hostname, "hostname-override", "", "name of this node")
	f.StringVar(&clusterCIDR, "cluster-cidr", "", "ranges of pods")
	f.StringVar(&s.adminSocket, "admin-socket", admin.DefaultSocket, "socket for fairway get")
	f.StringVar(&s.metrics, "metrics-bind-address", "127.0.0.1:10249", "metrics and debug address")
	f.StringVar(&s.healthz, "healthz-bind-address", "0.0.0.0:10256", "health address")
	f.StringVar(&s.iptables.Variant, "iptables-variant", "", "nft or legacy")
	f.StringVar(&logFormat, "logging-format", "text", "text or json")
	f.IntVarP(&verbosity, "v", "v", 0, "verbosity")
	return c
}

// haveIPv6 reports whether this network namespace has IPv6.
func haveIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}
