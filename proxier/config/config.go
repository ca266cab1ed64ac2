package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"
)

// The backends that --proxy-mode can name.
const (
	ModeIPTables = "iptables"
	ModeIPVS     = "ipvs"
	ModeEBPF     = "ebpf"
)

// A Config is everything that can be configured. Use [Default] or [Flags.Config] to get one. Its
// methods give the values of fields that are text; they expect that Validate found no error.
type Config struct {
	// Kube is the part that kube-proxy has too, with defaults filled in. See there for the
	// meaning of each field; an empty HealthzBindAddress or MetricsBindAddress switches that
	// server off.
	Kube v1alpha1.KubeProxyConfiguration `json:"kube"`
	// NodeName is the name of this node's Node object: --hostname-override, else
	// hostnameOverride, else the host's name.
	NodeName string `json:"nodeName"`
	// Master is the URL of the API server, before the one in the kubeconfig.
	Master string `json:"master,omitempty"`
	// Manifests is a folder that is followed instead of an API server, "" for none.
	Manifests string `json:"manifests,omitempty"`
	// AdminSocket is the path of the socket that `fairway get` asks, "" for the usual one.
	AdminSocket string `json:"adminSocket,omitempty"`
	// IPTablesVariant is "nft" or "legacy", "" for the one that the node uses.
	IPTablesVariant string `json:"iptablesVariant,omitempty"`
	// ExternalIPRanges are the CIDRs that externalIPs of Services may come from, with a comma
	// between; "" for no such limit.
	ExternalIPRanges string `json:"externalIPRanges,omitempty"`
	// DNS is the resolver in the proxy's own process.
	DNS DNS `json:"dns"`

	// File is the configuration file that Kube was read from, "" if it came from flags.
	File string `json:"file,omitempty"`
	// Cleanup, InitOnly and WriteConfigTo ask to do one thing and exit: remove what a proxy
	// left in the kernel, set kernel parameters, write Kube to a file.
	Cleanup       bool   `json:"-"`
	InitOnly      bool   `json:"-"`
	WriteConfigTo string `json:"-"`

	warnings []string
}

// Mode returns the backend to use. Empty, and the nftables that Fairway does not have, mean
// iptables.
func (c *Config) Mode() string {
	switch m := string(c.Kube.Mode); m {
	case "", "nftables":
		return ModeIPTables
	default:
		return m
	}
}

// Warnings are what a user should know about how the configuration was read, a sentence each.
func (c *Config) Warnings() []string {
	out := slices.Clone(c.warnings)
	if c.Kube.Mode == "nftables" {
		out = append(out, "mode: fairway has no nftables backend; using iptables")
	}
	return out
}

// ClusterCIDRs returns the addresses of the cluster's pods, at most one prefix of each family.
func (c *Config) ClusterCIDRs() []netip.Prefix { return cidrs(c.Kube.ClusterCIDR) }

// DetectMode returns how pods are told from outside clients: ClusterCIDR, NodeCIDR,
// BridgeInterface or InterfaceNamePrefix.
func (c *Config) DetectMode() string {
	if c.Kube.DetectLocalMode == "" {
		return detectClusterCIDR
	}
	return string(c.Kube.DetectLocalMode)
}

// DetectInterface returns the bridge, or the prefix of interface names, that DetectMode wants.
func (c *Config) DetectInterface() string {
	switch c.DetectMode() {
	case detectBridge:
		return c.Kube.DetectLocal.BridgeInterface
	case detectPrefix:
		return c.Kube.DetectLocal.InterfaceNamePrefix
	}
	return ""
}

// BindAddress returns the node's address that bindAddress asserts, or the zero Addr if the Node
// object is to be believed. As in kube-proxy nothing is bound to it.
func (c *Config) BindAddress() netip.Addr {
	a, err := parseAddr(c.Kube.BindAddress)
	if err != nil || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// MasqueradeAll reports whether every connection to a ClusterIP is masqueraded.
func (c *Config) MasqueradeAll() bool {
	return c.Kube.IPTables.MasqueradeAll || c.Kube.Mode == "nftables" && c.Kube.NFTables.MasqueradeAll
}

// MasqueradeBit returns the bit of the packet mark, from 0, that asks for masquerading.
func (c *Config) MasqueradeBit() int { return int(*c.Kube.IPTables.MasqueradeBit) }

// SyncPeriod returns the longest time between two looks at the kernel.
func (c *Config) SyncPeriod() time.Duration {
	if c.Mode() == ModeIPVS {
		return c.Kube.IPVS.SyncPeriod.Duration
	}
	return c.Kube.IPTables.SyncPeriod.Duration
}

// MinSyncPeriod returns the shortest time between two applies.
func (c *Config) MinSyncPeriod() time.Duration {
	if c.Mode() == ModeIPVS {
		return c.Kube.IPVS.MinSyncPeriod.Duration
	}
	return c.Kube.IPTables.MinSyncPeriod.Duration
}

// AllowExternalIPs reports whether spec.externalIPs of Services count (feature gate
// AllowServiceExternalIPs, KEP-5707).
func (c *Config) AllowExternalIPs() bool {
	allow, ok := c.Kube.FeatureGates[gateExternalIPs]
	return allow || !ok
}

// ExternalIPCIDRs returns the ranges that spec.externalIPs must come from, nil if they may come from
// anywhere.
func (c *Config) ExternalIPCIDRs() []netip.Prefix { return cidrs(c.ExternalIPRanges) }

// LogJSON reports whether logs are JSON objects instead of text.
func (c *Config) LogJSON() bool { return c.Kube.Logging.Format == "json" }

// Verbosity returns -v: 0 for what matters, 4 and more for debugging.
func (c *Config) Verbosity() int { return int(c.Kube.Logging.Verbosity) }

// splitList splits a comma-separated list; an empty text is an empty list.
func splitList(s string) []string {
	if s == "" {
		return nil
	}
	out := strings.Split(s, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}

// parseAddr reads addresses as Kubernetes does, with decimal numbers after leading zeros
// (row S-10).
func parseAddr(text string) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	if !ok {
		return netip.Addr{}, &net.ParseError{Type: "IP address", Text: text}
	}
	return a.Unmap(), nil
}

// cidrs returns the prefixes of a list with commas. Validate reports what is none.
func cidrs(list string) (out []netip.Prefix) {
	for _, text := range splitList(list) {
		if p, err := parseCIDR(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func parseCIDR(text string) (netip.Prefix, error) {
	_, n, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), nil
}
