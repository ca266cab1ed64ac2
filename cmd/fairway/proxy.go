package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/proxier/admin"
	"github.com/fairway-lb/fairway/proxier/config"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/watch"
)

// backends are the modes that this program has.
var backends = []string{config.ModeIPTables}

func proxyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Forward connections to Services on this node",
		Long: `Forward connections to the Services of a Kubernetes cluster on this node, in place of
kube-proxy and with its flags and configuration file. Services, EndpointSlices and the Node come
from the API server, or from a folder of manifests.

With --dns-listen it answers DNS queries too, from the same state: a name leads to an address once
this node forwards it, and the cluster's DNS Service leads to this process while it answers.

The proxy needs CAP_NET_ADMIN (with iptables-legacy CAP_NET_RAW too, and CAP_NET_BIND_SERVICE to
answer on port 53). When it ends, connections keep working as they were programmed last;
"fairway cleanup" removes everything.`,
		Args:    noArgs,
		Version: versionString(),
	}
	flags := config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := flags.Config(backends)
		if err != nil {
			return withProbe(cfg.Mode(), err)
		}
		log, err := newLogger(os.Stderr, cfg.LogJSON(), cfg.Verbosity())
		if err != nil {
			return err
		}
		for _, text := range cfg.Warnings() {
			log.Warn(text)
		}
		for _, field := range cfg.NoEffect() {
			log.Warn("field has no effect", "field", field, "backend", cfg.Mode())
		}
		s := settingsOf(cfg)
		switch {
		case cfg.WriteConfigTo != "":
			return cfg.WriteFile(cfg.WriteConfigTo)
		case cfg.Cleanup:
			return cleanup(c.Context())
		case cfg.InitOnly:
			return s.conntrack.apply("/proc/sys")
		}
		return runProxy(c.Context(), s, log)
	}
	return c
}

// runProxy runs a proxy until ctx is done.
func runProxy(ctx context.Context, s settings, log *slog.Logger) error {
	if err := mayProgram(); err != nil {
		return err
	}
	p, err := newProxy(s, log)
	if err != nil {
		return err
	}
	log.Info("starting", "version", versionString(), "node", s.resolve.NodeName, "backend", p.backend.Name())
	if err := s.conntrack.apply("/proc/sys"); err != nil {
		log.Warn("some sysctls keep the kernel's values", "err", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(s.oomScoreAdj)), 0); err != nil {
		log.Debug("oom score stays as it is", "err", err)
	}
	err = p.run(ctx)
	log.Info("ended; connections keep working as they were programmed last")
	return err
}

// saveMemory gives back what the first state of a large cluster left behind, and makes the heap grow
// less above what is in use than Go lets it by default: from then on a proxy keeps much state,
// changes little of it, and shares its node with other programs. Before, collecting so often costs
// the first sync half as much CPU time again. GOGC, if set, decides instead.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	debug.FreeOSMemory()
}

// settingsOf translates the configuration for the parts.
func settingsOf(c config.Config) settings {
	k := c.Kube
	v4, v6 := true, haveIPv6()
	s := settings{
		mode: c.Mode(), manifests: c.Manifests,
		client: watch.ClientOptions{
			Kubeconfig: k.ClientConnection.Kubeconfig, Master: c.Master,
			QPS: k.ClientConnection.QPS, Burst: int(k.ClientConnection.Burst),
			ContentType: k.ClientConnection.ContentType, AcceptContentTypes: k.ClientConnection.AcceptContentTypes,
			UserAgent: "fairway/" + versionString(),
		},
		resolve: resolve.Options{
			NodeName:          c.NodeName,
			Detect:            resolve.Detect{Mode: c.DetectMode(), ClusterCIDRs: c.ClusterCIDRs(), Interface: c.DetectInterface()},
			MasqueradeAll:     c.MasqueradeAll(),
			NodePortAddresses: k.NodePortAddresses,
			IPv4:              v4, IPv6: v6,
			DenyExternalIPs: !c.AllowExternalIPs(), ExternalIPRanges: c.ExternalIPCIDRs(),
		},
		iptables: iptables.Options{
			Variant: c.IPTablesVariant, MasqueradeBit: c.MasqueradeBit(), IPv4: v4, IPv6: v6, TCPBeLiberal: k.Conntrack.TCPBeLiberal,
		},
		conntrack: conntrackSettings{
			MaxPerCore: int(*k.Conntrack.MaxPerCore), Min: int(*k.Conntrack.Min),
			TCPEstablished: k.Conntrack.TCPEstablishedTimeout.Duration, TCPCloseWait: k.Conntrack.TCPCloseWaitTimeout.Duration,
			UDP: k.Conntrack.UDPTimeout.Duration, UDPStream: k.Conntrack.UDPStreamTimeout.Duration,
			TCPBeLiberal: k.Conntrack.TCPBeLiberal,
		},
		minSync: c.MinSyncPeriod(), sync: c.SyncPeriod(),
		adminSocket: c.AdminSocket,
		healthz:     k.HealthzBindAddress, metrics: k.MetricsBindAddress,
		bindHardFail: k.BindAddressHardFail, profiling: k.EnableProfiling,
		oomScoreAdj: int(*k.OOMScoreAdj), configz: k,
		dns: nodeSettings{addrs: c.DNS.Addrs(), corefile: c.DNS.Corefile, clients: c.DNS.ClientCIDRs()},
	}
	s.dns.service.Namespace, s.dns.service.Name = c.DNS.ServiceName()
	if a := c.BindAddress(); a.IsValid() {
		s.resolve.NodeAddresses = []netip.Addr{a}
	}
	if s.adminSocket == "" {
		s.adminSocket = admin.DefaultSocket
	}
	if *k.IPTables.LocalhostNodePorts {
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if (v6 || a.Is4()) && acceptsNodePorts(k.NodePortAddresses, a) {
				s.localhost = append(s.localhost, a)
			}
		}
	}
	return s
}

// acceptsNodePorts reports whether nodePortAddresses let NodePorts be on a loopback address.
func acceptsNodePorts(cidrs []string, a netip.Addr) bool {
	return len(cidrs) == 0 || slices.ContainsFunc(cidrs, func(text string) bool {
		p, err := netip.ParsePrefix(text) // "primary" never means loopback
		return err == nil && p.Contains(a)
	})
}

// haveIPv6 reports whether this network namespace has IPv6.
func haveIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// cleanup removes what a proxy programmed in this network namespace.
func cleanup(ctx context.Context) error {
	err := mayProgram()
	if err == nil {
		err = withInstall(iptables.Cleanup(ctx, iptables.Options{}))
	}
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}

// mayProgram returns an error if this process may not change the rules of its network namespace.
// The tools would say so too, each in its own words.
func mayProgram() error {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("no CAP_NET_ADMIN: start it as root, or give the container the capability NET_ADMIN")
	}
	return nil
}

// withInstall adds to an error for want of a program where it comes from.
func withInstall(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w\nis iptables installed? on Debian: apt-get install iptables", err)
	}
	return err
}
