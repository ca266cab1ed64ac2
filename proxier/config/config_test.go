package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
)

var ours = []string{ModeIPTables}

// parse reads a command line as the proxy does.
func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	fs.SetOutput(&strings.Builder{})
	f := AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return f.Config(ours)
}

func mustParse(t *testing.T, args ...string) Config {
	t.Helper()
	c, err := parse(t, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	c.NodeName = "node-1"
	if err := c.Validate(ours); err != nil {
		t.Error(err)
	}
	if got := c.NoEffect(); got != nil {
		t.Errorf("defaults without effect: %v", got)
	}
	if got := mustParse(t, "--hostname-override=node-1"); got.Kube.HealthzBindAddress != "0.0.0.0:10256" ||
		got.Kube.MetricsBindAddress != "127.0.0.1:10249" || got.Mode() != ModeIPTables || got.Warnings() != nil {
		t.Errorf("without flags: %+v", got)
	}
}

// Command lines as kubeadm, k3s and kops make them.
func TestCommandLines(t *testing.T) {
	kubeadm := "testdata/kubeadm.conf"
	tests := []struct {
		name string
		args []string
		want func(*Config) // what differs from Default
	}{
		{"kubeadm", []string{"--config=" + kubeadm, "--hostname-override=Node-1"}, func(c *Config) {
			c.File = kubeadm
			c.Kube.ClusterCIDR = "10.244.0.0/16,fd00:244::/56"
			c.Kube.ClientConnection.Kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf"
			c.Kube.MetricsBindAddress = "127.0.0.1:10249"
		}},
		{"k3s", []string{
			"--cluster-cidr=10.42.0.0/16", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-close-wait=0s",
			"--conntrack-tcp-timeout-established=0s", "--healthz-bind-address=127.0.0.1", "--hostname-override=node-1",
			"--kubeconfig=/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig", "--proxy-mode=iptables",
		}, func(c *Config) {
			c.Kube.Mode = "iptables"
			c.Kube.HostnameOverride = "node-1"
			c.Kube.ClusterCIDR = "10.42.0.0/16"
			c.Kube.HealthzBindAddress = "127.0.0.1:10256"
			c.Kube.ClientConnection.Kubeconfig = "/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig"
			c.Kube.Conntrack.MaxPerCore = ptr.To[int32](0)
			c.Kube.Conntrack.TCPCloseWaitTimeout.Duration, c.Kube.Conntrack.TCPEstablishedTimeout.Duration = 0, 0
		}},
		{"kops", []string{
			"--cluster-cidr=100.96.0.0/11", "--conntrack-max-per-core=131072", "--hostname-override=node-1",
			"--kubeconfig=/var/lib/kube-proxy/kubeconfig", "--master=https://api.internal", "--oom-score-adj=-998", "--v=2",
			"--feature-gates=AllowServiceExternalIPs=false,Other=true", "--iptables-min-sync-period=0s", "--metrics-port=0",
		}, func(c *Config) {
			c.Master = "https://api.internal"
			c.Kube.HostnameOverride = "node-1"
			c.Kube.ClusterCIDR = "100.96.0.0/11"
			c.Kube.ClientConnection.Kubeconfig = "/var/lib/kube-proxy/kubeconfig"
			c.Kube.Conntrack.MaxPerCore = ptr.To[int32](131072)
			c.Kube.OOMScoreAdj = ptr.To[int32](-998)
			c.Kube.Logging.Verbosity = 2
			c.Kube.FeatureGates = map[string]bool{"AllowServiceExternalIPs": false, "Other": true}
			c.Kube.IPTables.MinSyncPeriod.Duration = 0
			c.Kube.MetricsBindAddress = ""
		}},
		{"ours", []string{"--manifests=/m", "--admin-socket=/s", "--iptables-variant=legacy", "--log-format=json", "--hostname-override=node-1", "--healthz-port=1",
			"--bind-address=fd00::1", "--dns-listen=192.0.2.1,[fd00::1]:53", "--dns-corefile=/c", "--dns-service=", "--dns-clients=10.0.0.0/8",
			"--external-ip-ranges=203.0.113.0/24,2001:db8::/32"}, func(c *Config) {
			c.ExternalIPRanges = "203.0.113.0/24,2001:db8::/32"
			c.DNS = DNS{Listen: "192.0.2.1,[fd00::1]:53", Corefile: "/c", Clients: "10.0.0.0/8"}
			c.Manifests, c.AdminSocket, c.IPTablesVariant = "/m", "/s", "legacy"
			c.Kube.Logging.Format = "json"
			c.Kube.HostnameOverride = "node-1"
			c.Kube.BindAddress = "fd00::1"
			c.Kube.HealthzBindAddress, c.Kube.MetricsBindAddress = "[::]:1", "[::1]:10249"
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			want := Default()
			want.NodeName = "node-1"
			tc.want(&want)
			if diff := cmp.Diff(want, mustParse(t, tc.args...), cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

// kubeProxyFlags are the flags that kube-proxy 1.36.3 lists on Linux, and its hidden ones.
const kubeProxyFlags = `bind-address bind-address-hard-fail boot-id-file cleanup cluster-cidr config config-sync-period conntrack-max-per-core
conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established conntrack-udp-timeout
conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address healthz-port hostname-override init-only
iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period iptables-sync-period ipvs-exclude-cidrs
ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout
kube-api-burst kube-api-content-type kube-api-qps kubeconfig log-flush-frequency log-json-info-buffer-size log-json-split-stream
log-text-info-buffer-size log-text-split-stream logging-format machine-id-file masquerade-all master metrics-bind-address metrics-port
nodeport-addresses oom-score-adj pod-bridge-interface pod-interface-name-prefix profiling proxy-mode
show-hidden-metrics-for-version v vmodule write-config-to`

func TestEveryFlagOfKubeProxy(t *testing.T) {
	fs := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	AddFlags(fs)
	for _, name := range strings.Fields(kubeProxyFlags) {
		if fs.Lookup(name) == nil {
			t.Errorf("--%s is missing", name)
		}
	}
	for _, name := range []string{"manifests", "admin-socket", "iptables-variant", "external-ip-ranges", "log-format", "dns-listen", "dns-corefile", "dns-service", "dns-clients"} {
		if fs.Lookup(name) == nil {
			t.Errorf("--%s is missing", name)
		}
	}
}

// Each flag reaches its field.
func TestFlagsReachFields(t *testing.T) {
	args := `--bind-address=192.0.2.1 --bind-address-hard-fail --cluster-cidr=10.0.0.0/8 --config-sync-period=1m
--conntrack-max-per-core=1 --conntrack-min=2 --conntrack-tcp-be-liberal --conntrack-tcp-timeout-close-wait=3s
--conntrack-tcp-timeout-established=4s --conntrack-udp-timeout=5s --conntrack-udp-timeout-stream=6s --detect-local-mode=BridgeInterface
--feature-gates=A=true --feature-gates=B=false --healthz-bind-address=192.0.2.1:1 --hostname-override=n --iptables-localhost-nodeports=false
--iptables-masquerade-bit=3 --iptables-min-sync-period=7s --iptables-sync-period=8s --ipvs-exclude-cidrs=10.1.0.0/16,10.2.0.0/16
--ipvs-min-sync-period=9s --ipvs-scheduler=lc --ipvs-strict-arp --ipvs-sync-period=10s --ipvs-tcp-timeout=11s --ipvs-tcpfin-timeout=12s
--ipvs-udp-timeout=13s --kube-api-burst=14 --kube-api-content-type=application/json --kube-api-qps=15 --kubeconfig=k --masquerade-all
--master=m --metrics-bind-address=192.0.2.1:2 --nodeport-addresses=10.0.0.0/8,fd00::/8 --oom-score-adj=16 --pod-bridge-interface=br0
--pod-interface-name-prefix=veth --profiling --proxy-mode=iptables --show-hidden-metrics-for-version=1.35 -v=4 --logging-format=json
--init-only --cleanup --write-config-to=w`
	got := mustParse(t, strings.Fields(args)...)
	want := Default()
	k := &want.Kube
	k.BindAddress, k.BindAddressHardFail, k.ClusterCIDR = "192.0.2.1", true, "10.0.0.0/8"
	k.ConfigSyncPeriod.Duration = time.Minute
	k.Conntrack = v1alpha1.KubeProxyConntrackConfiguration{MaxPerCore: ptr.To[int32](1), Min: ptr.To[int32](2), TCPBeLiberal: true,
		TCPCloseWaitTimeout: k.Conntrack.TCPCloseWaitTimeout, TCPEstablishedTimeout: k.Conntrack.TCPEstablishedTimeout}
	k.Conntrack.TCPCloseWaitTimeout.Duration, k.Conntrack.TCPEstablishedTimeout.Duration = 3*time.Second, 4*time.Second
	k.Conntrack.UDPTimeout.Duration, k.Conntrack.UDPStreamTimeout.Duration = 5*time.Second, 6*time.Second
	k.DetectLocalMode = "BridgeInterface"
	k.DetectLocal = v1alpha1.DetectLocalConfiguration{BridgeInterface: "br0", InterfaceNamePrefix: "veth"}
	k.FeatureGates = map[string]bool{"A": true, "B": false}
	k.HealthzBindAddress, k.MetricsBindAddress, k.HostnameOverride = "192.0.2.1:1", "192.0.2.1:2", "n"
	k.IPTables.LocalhostNodePorts, k.IPTables.MasqueradeBit, k.IPTables.MasqueradeAll = ptr.To(false), ptr.To[int32](3), true
	k.IPTables.MinSyncPeriod.Duration, k.IPTables.SyncPeriod.Duration = 7*time.Second, 8*time.Second
	k.IPVS.ExcludeCIDRs = []string{"10.1.0.0/16", "10.2.0.0/16"}
	k.IPVS.MinSyncPeriod.Duration, k.IPVS.SyncPeriod.Duration = 9*time.Second, 10*time.Second
	k.IPVS.Scheduler, k.IPVS.StrictARP = "lc", true
	k.IPVS.TCPTimeout.Duration, k.IPVS.TCPFinTimeout.Duration, k.IPVS.UDPTimeout.Duration = 11*time.Second, 12*time.Second, 13*time.Second
	k.ClientConnection.Burst, k.ClientConnection.ContentType, k.ClientConnection.QPS = 14, "application/json", 15
	k.ClientConnection.Kubeconfig = "k"
	k.NodePortAddresses, k.OOMScoreAdj = []string{"10.0.0.0/8", "fd00::/8"}, ptr.To[int32](16)
	k.EnableProfiling, k.Mode, k.ShowHiddenMetricsForVersion = true, "iptables", "1.35"
	k.Logging.Format, k.Logging.Verbosity = "json", 4
	want.Master, want.NodeName, want.InitOnly, want.Cleanup, want.WriteConfigTo = "m", "n", true, true, "w"
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	noEffect := []string{"clusterCIDR", "configSyncPeriod", "featureGates.A", "featureGates.B",
		"ipvs.excludeCIDRs", "ipvs.minSyncPeriod", "ipvs.scheduler", "ipvs.strictARP", "ipvs.syncPeriod", "ipvs.tcpFinTimeout",
		"ipvs.tcpTimeout", "ipvs.udpTimeout", "showHiddenMetricsForVersion"}
	if diff := cmp.Diff(noEffect, got.NoEffect()); diff != "" {
		t.Errorf("without effect (-want +got):\n%s", diff)
	}
}

// With --config, flags are ignored but for a few, and that is told.
func TestFileAndFlags(t *testing.T) {
	path := file(t, head+"mode: nftables\nhostnameOverride: from-file\nclusterCIDR: 10.1.0.0/16\nlogging: {verbosity: 1}\n"+
		"nftables: {masqueradeAll: true, syncPeriod: 1m}\nportRange: 1-2\n")
	c := mustParse(t, "--config="+path, "--cluster-cidr=10.2.0.0/16", "--proxy-mode=ipvs", "-v=7", "--logging-format=json",
		"--master=https://m", "--cleanup", "--init-only", "--write-config-to=w", "--external-ip-ranges=192.0.2.0/24")
	type summary struct {
		Mode, Node, CIDR, External string
		Master                     string
		Verbosity                  int
		JSON, All, Cleanup, InitIt bool
		Warnings, NoEffect         []string
	}
	got := summary{c.Mode(), c.NodeName, c.Kube.ClusterCIDR, c.ExternalIPRanges, c.Master, c.Verbosity(), c.LogJSON(), c.MasqueradeAll(), c.Cleanup, c.InitOnly,
		c.Warnings(), c.NoEffect()}
	want := summary{ModeIPTables, "from-file", "10.1.0.0/16", "192.0.2.0/24", "https://m", 7, true, true, true, true,
		[]string{"ignored because of --config: --cluster-cidr, --proxy-mode", "mode: fairway has no nftables backend; using iptables"},
		[]string{"nftables.syncPeriod", "portRange"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFileErrors(t *testing.T) {
	tests := []struct{ name, text, wantErr, wantWarning string }{
		{"unknown field", head + "clusterCIDRs: 10.0.0.0/8\n", "", `read leniently: error unmarshaling JSON: while decoding JSON: json: unknown field "clusterCIDRs"`},
		{"duplicate field", head + "clusterCIDR: 10.0.0.0/8\nclusterCIDR: 10.0.0.0/8\n", "", `key "clusterCIDR" already set in map`},
		{"wrong type", head + "oomScoreAdj: high\n", "oomScoreAdj", ""},
		{"wrong duration", head + "configSyncPeriod: soon\n", "soon", ""},
		{"not yaml", head + " x: [\n", "yaml: line 3", ""},
		{"other kind", "apiVersion: v1\nkind: Pod\n", `apiVersion, kind: "v1, Pod": must be kubeproxy.config.k8s.io/v1alpha1, KubeProxyConfiguration`, ""},
		{"v1alpha2", "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\n", "must be kubeproxy.config.k8s.io/v1alpha1", ""},
		{"empty", "", "must be kubeproxy.config.k8s.io/v1alpha1", ""},
		{"bad value", head + "healthzBindAddress: localhost:80\n", `healthzBindAddress: "localhost:80": must have an IP address, not a host name`, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parse(t, "--hostname-override=n", "--config="+file(t, tc.text))
			switch {
			case tc.wantErr == "" && err != nil, tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)):
				t.Errorf("error %v, want %q", err, tc.wantErr)
			case tc.wantWarning != "" && (len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0], tc.wantWarning)):
				t.Errorf("warnings %q, want %q", c.Warnings(), tc.wantWarning)
			}
		})
	}
	if _, err := parse(t, "--config=/does/not/exist"); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("missing file: %v", err)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"variant unknown", func(c *Config) { c.IPTablesVariant = "tables" }, `--iptables-variant: "tables": must be nft or legacy`},
		{"mode unknown", func(c *Config) { c.Kube.Mode = "userspace" }, `mode: "userspace": must be iptables, ipvs or ebpf; this version has iptables`},
		{"mode of Windows", func(c *Config) { c.Kube.Mode = "kernelspace" }, `mode: "kernelspace": is for Windows; this version has iptables`},
		{"ipvs to come", func(c *Config) { c.Kube.Mode = "ipvs" }, `mode: "ipvs": there is no such backend in this version; this version has iptables`},
		{"ebpf to come", func(c *Config) { c.Kube.Mode = "ebpf" }, `mode: "ebpf": there is no such backend in this version; this version has iptables`},
		{"nftables", func(c *Config) { c.Kube.Mode = "nftables" }, ""},
		{"nftables bit", func(c *Config) { c.Kube.Mode = "nftables"; c.Kube.NFTables.MasqueradeBit = ptr.To[int32](32) }, `nftables.masqueradeBit: 32: must be 0 to 31`},
		{"nftables bit unused", func(c *Config) { c.Kube.NFTables.MasqueradeBit = ptr.To[int32](32) }, ""},
		{"ipvs unused", func(c *Config) { c.Kube.IPVS.TCPTimeout.Duration = -1 }, ""},
		{"no name", func(c *Config) { c.NodeName = " " }, `hostnameOverride: " ": the node must have a name`},
		{"bit", func(c *Config) { c.Kube.IPTables.MasqueradeBit = ptr.To[int32](-1) }, `iptables.masqueradeBit: -1: must be 0 to 31`},
		{"sync", func(c *Config) { c.Kube.IPTables.SyncPeriod.Duration = 0 }, `iptables.syncPeriod: 0s: must be greater than 0`},
		{"minSync", func(c *Config) { c.Kube.IPTables.MinSyncPeriod.Duration = -1 }, `iptables.minSyncPeriod: -1ns: must not be negative`},
		{"minSync too long", func(c *Config) { c.Kube.IPTables.MinSyncPeriod.Duration = time.Hour }, `iptables.minSyncPeriod: 1h0m0s: must not be greater than syncPeriod`},
		{"configSync", func(c *Config) { c.Kube.ConfigSyncPeriod.Duration = 0 }, `configSyncPeriod: 0s: must be greater than 0`},
		{"oom", func(c *Config) { c.Kube.OOMScoreAdj = ptr.To[int32](-1001) }, `oomScoreAdj: -1001: must be -1000 to 1000`},
		{"burst", func(c *Config) { c.Kube.ClientConnection.Burst = -1 }, `clientConnection.burst: -1: must not be negative`},
		{"bind", func(c *Config) { c.Kube.BindAddress = "node" }, `bindAddress: "node": must be an IP address`},
		{"healthz", func(c *Config) { c.Kube.HealthzBindAddress = "10.0.0.1" }, `healthzBindAddress: "10.0.0.1": must be IP:port`},
		{"healthz off", func(c *Config) { c.Kube.HealthzBindAddress = "" }, ""},
		{"metrics port", func(c *Config) { c.Kube.MetricsBindAddress = "[::1]:70000" }, `metricsBindAddress: "[::1]:70000": must have a port of 1 to 65535`},
		{"nodeports", func(c *Config) { c.Kube.NodePortAddresses = []string{"primary", "10.0.0.0/8", "10.0.0.1"} },
			"nodePortAddresses[0]: \"primary\": must be alone, not beside CIDRs\n" +
				"nodePortAddresses[2]: \"10.0.0.1\": must be a CIDR, such as 10.0.0.0/8 or fd00::/48"},
		{"nodeports primary", func(c *Config) { c.Kube.NodePortAddresses = []string{"primary"} }, ""},
		{"conntrack", func(c *Config) {
			k := &c.Kube.Conntrack
			k.MaxPerCore, k.Min = ptr.To[int32](-1), ptr.To[int32](-1)
			k.TCPEstablishedTimeout.Duration, k.TCPCloseWaitTimeout.Duration, k.UDPTimeout.Duration, k.UDPStreamTimeout.Duration = -1, -1, -1, -1
		}, `conntrack.maxPerCore: -1: must not be negative
conntrack.min: -1: must not be negative
conntrack.tcpEstablishedTimeout: -1ns: must not be negative
conntrack.tcpCloseWaitTimeout: -1ns: must not be negative
conntrack.udpTimeout: -1ns: must not be negative
conntrack.udpStreamTimeout: -1ns: must not be negative`},
		{"detect mode", func(c *Config) { c.Kube.DetectLocalMode = "Magic" }, `detectLocalMode: "Magic": must be ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix`},
		{"no bridge", func(c *Config) { c.Kube.DetectLocalMode = "BridgeInterface" }, `detectLocal.bridgeInterface: "": is required by detectLocalMode BridgeInterface`},
		{"no prefix", func(c *Config) { c.Kube.DetectLocalMode = "InterfaceNamePrefix" }, `detectLocal.interfaceNamePrefix: "": is required by detectLocalMode InterfaceNamePrefix`},
		{"cluster cidr", func(c *Config) { c.Kube.ClusterCIDR = "10.0.0.0" }, `clusterCIDR: "10.0.0.0": must be a CIDR, such as 10.0.0.0/8 or fd00::/48`},
		{"cluster cidr family", func(c *Config) { c.Kube.ClusterCIDR = "10.0.0.0/8,10.1.0.0/16" }, `clusterCIDR: "10.0.0.0/8,10.1.0.0/16": must be one CIDR, or one of IPv4 and one of IPv6`},
		{"cluster cidr three", func(c *Config) { c.Kube.ClusterCIDR = "10.0.0.0/8,fd00::/48,fd01::/48" }, `clusterCIDR: "10.0.0.0/8,fd00::/48,fd01::/48": must be one CIDR, or one of IPv4 and one of IPv6`},
		{"cluster cidr unused", func(c *Config) { c.Kube.ClusterCIDR, c.Kube.DetectLocalMode = "x", "NodeCIDR" }, ""},
		{"log", func(c *Config) { c.Kube.Logging.Format = "xml" }, `logging.format: "xml": must be text or json`},
		{"two sources", func(c *Config) { c.Manifests, c.Master = "/m", "https://m" }, `--manifests: "/m": excludes --kubeconfig and --master: there is one source of Services`},
		{"external IPs", func(c *Config) { c.ExternalIPRanges = "203.0.113.0/24, 2001:db8::/32" }, ""},
		{"external IPs bad", func(c *Config) { c.ExternalIPRanges = "203.0.113.0/24,203.0.113.1" }, `--external-ip-ranges: "203.0.113.1": must be a CIDR, such as 10.0.0.0/8 or fd00::/48`},
		{"dns", func(c *Config) { c.DNS.Listen = "192.0.2.1, fd00::1" }, ""},
		{"dns text", func(c *Config) { c.DNS.Listen = "localhost" }, `--dns-listen: "localhost": "localhost" is not IP or IP:port`},
		{"dns everywhere", func(c *Config) { c.DNS.Listen = "0.0.0.0" }, `--dns-listen: "0.0.0.0": "0.0.0.0" would answer the world: name addresses of the node`},
		{"dns ports", func(c *Config) { c.DNS.Listen = "192.0.2.1,[fd00::1]:54" }, `--dns-listen: "192.0.2.1,[fd00::1]:54": ports 53 and 54: all addresses must have the same`},
		{"dns twice", func(c *Config) { c.DNS.Listen = "192.0.2.1,192.0.2.1:53" }, `--dns-listen: "192.0.2.1,192.0.2.1:53": "192.0.2.1:53" is there twice`},
		{"dns multicast", func(c *Config) { c.DNS.Listen = "224.0.0.251" }, `--dns-listen: "224.0.0.251": "224.0.0.251" is not an address that pods can ask`},
		{"dns port 0", func(c *Config) { c.DNS.Listen = "192.0.2.1:0" }, `--dns-listen: "192.0.2.1:0": "192.0.2.1:0" has no port`},
		{"dns loopback", func(c *Config) { c.DNS.Listen = "127.0.0.1" },
			`--dns-listen: "127.0.0.1:53": pods cannot reach loopback addresses, so no Service can lead there: name another address, or give --dns-service=""`},
		{"dns loopback alone", func(c *Config) { c.DNS.Listen, c.DNS.Service = "127.0.0.1", "" }, ""},
		{"dns service", func(c *Config) { c.DNS.Listen, c.DNS.Service = "192.0.2.1", "kube-dns" }, `--dns-service: "kube-dns": must be NAMESPACE/NAME, or empty`},
		{"dns clients", func(c *Config) { c.DNS.Clients = "10.0.0.0/8,x" }, `--dns-clients: "x": must be a CIDR, such as 10.0.0.0/8 or fd00::/48`},
		{"dns corefile", func(c *Config) { c.DNS.Corefile = "/c" }, `--dns-corefile: "/c": needs --dns-listen`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := Default()
			c.NodeName = "node-1"
			tc.edit(&c)
			got := ""
			if err := c.Validate(ours); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("ipvs", func(t *testing.T) {
		c := Default()
		c.NodeName, c.Kube.Mode = "node-1", "ipvs"
		c.Kube.IPVS.TCPTimeout.Duration, c.Kube.IPVS.TCPFinTimeout.Duration, c.Kube.IPVS.UDPTimeout.Duration = -1, -1, -1
		c.Kube.IPVS.ExcludeCIDRs = []string{"10.0.0.0/8", "x"}
		err := c.Validate([]string{ModeIPTables, ModeIPVS})
		want := `ipvs.tcpTimeout: -1ns: must not be negative
ipvs.tcpFinTimeout: -1ns: must not be negative
ipvs.udpTimeout: -1ns: must not be negative
ipvs.excludeCIDRs[1]: "x": must be a CIDR, such as 10.0.0.0/8 or fd00::/48`
		if err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	})
}

func TestValues(t *testing.T) {
	c := mustParse(t, "--cluster-cidr= 010.244.0.0/16 , fd00:244::/32", "--bind-address=192.168.010.1", "--detect-local-mode=ClusterCIDR", "--hostname-override= NODE-1 ")
	if diff := cmp.Diff([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}, c.ClusterCIDRs(),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if c.BindAddress() != netip.MustParseAddr("192.168.10.1") || c.NodeName != "node-1" || c.DetectMode() != "ClusterCIDR" ||
		c.DetectInterface() != "" || !c.AllowExternalIPs() || c.MasqueradeBit() != 14 || c.MinSyncPeriod() != 100*time.Millisecond {
		t.Errorf("got %+v", c)
	}
	if c := mustParse(t); c.BindAddress().IsValid() || len(c.ClusterCIDRs()) != 0 || c.NodeName == "" || c.DetectMode() != "ClusterCIDR" {
		t.Errorf("got %+v", c)
	}
	if c := mustParse(t, "--cluster_cidr=10.0.0.0/8"); c.Kube.ClusterCIDR != "10.0.0.0/8" {
		t.Error("a flag with underscores is not understood")
	}
	if c := mustParse(t, "--feature-gates=AllowServiceExternalIPs=false"); c.AllowExternalIPs() {
		t.Error("the feature gate has no effect")
	}
}

// What --write-config-to writes can be read again and means the same.
func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.yaml")
	c := mustParse(t, "--cluster-cidr=10.0.0.0/8", "--hostname-override=n", "--iptables-sync-period=1m")
	if err := c.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got := mustParse(t, "--config="+path)
	c.File = path
	if diff := cmp.Diff(c, got, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
