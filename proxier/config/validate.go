package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/kube-proxy/config/v1alpha1"
)

// The values of detectLocalMode.
const (
	detectClusterCIDR = "ClusterCIDR"
	detectNodeCIDR    = "NodeCIDR"
	detectBridge      = "BridgeInterface"
	detectPrefix      = "InterfaceNamePrefix"
)

// A FieldError is a value that is not allowed. Errors of Validate are joined FieldErrors.
type FieldError struct {
	Field string // path in KubeProxyConfiguration, or a flag
	Value any
	Msg   string
}

// Error returns "field: value: message".
func (e *FieldError) Error() string {
	if s, ok := e.Value.(string); ok {
		return fmt.Sprintf("%s: %q: %s", e.Field, s, e.Msg)
	}
	return fmt.Sprintf("%s: %v: %s", e.Field, e.Value, e.Msg)
}

type checker []error

func (c *checker) check(ok bool, field string, value any, msg string) {
	if !ok {
		*c = append(*c, &FieldError{field, value, msg})
	}
}

// Validate reports every field whose value cannot be used, joined. backends are the modes that
// this program has. The rules are kube-proxy's, but for the modes and the feature gates.
func (c *Config) Validate(backends []string) error {
	var e checker
	k := &c.Kube
	e.mode(string(k.Mode), backends)
	e.node(c.NodeName)
	e.check(slices.Contains([]string{"", "nft", "legacy"}, c.IPTablesVariant), "--iptables-variant", c.IPTablesVariant, "must be nft or legacy")
	for _, text := range splitList(c.ExternalIPRanges) {
		e.cidr("--external-ip-ranges", text)
	}

	bit := func(b *int32) bool { return b != nil && *b >= 0 && *b <= 31 }
	e.check(bit(k.IPTables.MasqueradeBit), "iptables.masqueradeBit", show(k.IPTables.MasqueradeBit), "must be 0 to 31")
	e.periods("iptables", k.IPTables.SyncPeriod.Duration, k.IPTables.MinSyncPeriod.Duration)
	switch k.Mode {
	case "nftables":
		e.check(bit(k.NFTables.MasqueradeBit), "nftables.masqueradeBit", show(k.NFTables.MasqueradeBit), "must be 0 to 31")
		e.periods("nftables", k.NFTables.SyncPeriod.Duration, k.NFTables.MinSyncPeriod.Duration)
	case ModeIPVS:
		e.ipvs(&k.IPVS)
	}
	e.conntrack(&k.Conntrack)
	e.check(k.OOMScoreAdj == nil || (*k.OOMScoreAdj >= -1000 && *k.OOMScoreAdj <= 1000), "oomScoreAdj", show(k.OOMScoreAdj), "must be -1000 to 1000")
	e.check(k.ConfigSyncPeriod.Duration > 0, "configSyncPeriod", k.ConfigSyncPeriod.Duration, "must be greater than 0")
	e.check(k.ClientConnection.Burst >= 0, "clientConnection.burst", k.ClientConnection.Burst, "must not be negative")

	e.dns(&c.DNS)
	_, err := parseAddr(k.BindAddress)
	e.check(err == nil, "bindAddress", k.BindAddress, "must be an IP address")
	e.addrPort("healthzBindAddress", k.HealthzBindAddress)
	e.addrPort("metricsBindAddress", k.MetricsBindAddress)
	e.nodePortAddresses(k.NodePortAddresses)
	e.detect(k)
	e.check(k.Logging.Format == "text" || k.Logging.Format == "json", "logging.format", k.Logging.Format, "must be text or json")
	e.check(c.Manifests == "" || k.ClientConnection.Kubeconfig == "" && c.Master == "", "--manifests", c.Manifests,
		"excludes --kubeconfig and --master: there is one source of Services")
	return errors.Join(e...)
}

func (e *checker) mode(mode string, backends []string) {
	known := []string{"", ModeIPTables, ModeIPVS, ModeEBPF, "nftables"}
	have := "this version has " + strings.Join(backends, ", ")
	switch {
	case mode == "kernelspace":
		e.check(false, "mode", mode, "is for Windows; "+have)
	case !slices.Contains(known, mode):
		e.check(false, "mode", mode, "must be iptables, ipvs or ebpf; "+have)
	case mode == "" || mode == "nftables":
		e.check(slices.Contains(backends, ModeIPTables), "mode", mode, have)
	default:
		e.check(slices.Contains(backends, mode), "mode", mode, "there is no such backend in this version; "+have)
	}
}

func (e *checker) node(name string) {
	e.check(strings.TrimSpace(name) != "", "hostnameOverride", name, "the node must have a name")
}

func (e *checker) periods(field string, sync, minSync time.Duration) {
	e.check(sync > 0, field+".syncPeriod", sync, "must be greater than 0")
	e.notNegative(field+".minSyncPeriod", minSync)
	e.check(sync <= 0 || minSync <= sync, field+".minSyncPeriod", minSync, "must not be greater than syncPeriod")
}

func (e *checker) notNegative(field string, d time.Duration) {
	e.check(d >= 0, field, d, "must not be negative")
}

func (e *checker) ipvs(v *v1alpha1.KubeProxyIPVSConfiguration) {
	e.periods("ipvs", v.SyncPeriod.Duration, v.MinSyncPeriod.Duration)
	e.notNegative("ipvs.tcpTimeout", v.TCPTimeout.Duration)
	e.notNegative("ipvs.tcpFinTimeout", v.TCPFinTimeout.Duration)
	e.notNegative("ipvs.udpTimeout", v.UDPTimeout.Duration)
	for i, text := range v.ExcludeCIDRs {
		e.cidr(fmt.Sprintf("ipvs.excludeCIDRs[%d]", i), text)
	}
}

func (e *checker) conntrack(c *v1alpha1.KubeProxyConntrackConfiguration) {
	e.check(c.MaxPerCore == nil || *c.MaxPerCore >= 0, "conntrack.maxPerCore", show(c.MaxPerCore), "must not be negative")
	e.check(c.Min == nil || *c.Min >= 0, "conntrack.min", show(c.Min), "must not be negative")
	if t := c.TCPEstablishedTimeout; t != nil {
		e.notNegative("conntrack.tcpEstablishedTimeout", t.Duration)
	}
	if t := c.TCPCloseWaitTimeout; t != nil {
		e.notNegative("conntrack.tcpCloseWaitTimeout", t.Duration)
	}
	e.notNegative("conntrack.udpTimeout", c.UDPTimeout.Duration)
	e.notNegative("conntrack.udpStreamTimeout", c.UDPStreamTimeout.Duration)
}

// addrPort checks an address to serve on; empty switches the server off.
func (e *checker) addrPort(field, text string) {
	if text == "" {
		return
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		e.check(false, field, text, "must be IP:port")
		return
	}
	_, err = parseAddr(host)
	e.check(err == nil, field, text, "must have an IP address, not a host name")
	n, err := strconv.Atoi(port)
	e.check(err == nil && n >= 1 && n <= 65535, field, text, "must have a port of 1 to 65535")
}

func (e *checker) cidr(field, text string) bool {
	_, err := parseCIDR(text)
	e.check(err == nil, field, text, "must be a CIDR, such as 10.0.0.0/8 or fd00::/48")
	return err == nil
}

func (e *checker) nodePortAddresses(list []string) {
	for i, text := range list {
		field := fmt.Sprintf("nodePortAddresses[%d]", i)
		if text == "primary" {
			e.check(len(list) == 1, field, text, "must be alone, not beside CIDRs")
			continue
		}
		e.cidr(field, text)
	}
}

func (e *checker) detect(k *v1alpha1.KubeProxyConfiguration) {
	switch mode := string(k.DetectLocalMode); mode {
	case "", detectClusterCIDR:
		e.clusterCIDR(k.ClusterCIDR)
	case detectNodeCIDR:
	case detectBridge:
		e.check(k.DetectLocal.BridgeInterface != "", "detectLocal.bridgeInterface", "", "is required by detectLocalMode "+mode)
	case detectPrefix:
		e.check(k.DetectLocal.InterfaceNamePrefix != "", "detectLocal.interfaceNamePrefix", "", "is required by detectLocalMode "+mode)
	default:
		e.check(false, "detectLocalMode", mode, "must be ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
	}
}

func (e *checker) clusterCIDR(text string) {
	list := splitList(text)
	for _, one := range list {
		if !e.cidr("clusterCIDR", one) {
			return
		}
	}
	const want = "must be one CIDR, or one of IPv4 and one of IPv6"
	e.check(len(list) <= 2, "clusterCIDR", text, want)
	if len(list) == 2 {
		a, _ := parseCIDR(list[0])
		b, _ := parseCIDR(list[1])
		e.check(a.Addr().Is4() != b.Addr().Is4(), "clusterCIDR", text, want)
	}
}

// show returns what p points to, for an error.
func show(p *int32) any {
	if p == nil {
		return "null"
	}
	return *p
}
