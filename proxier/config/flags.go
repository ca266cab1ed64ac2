package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
)

// Flags are the command line of the proxy.
type Flags struct {
	fs *pflag.FlagSet
	// flags write to kube; where a flag has no field of its own it writes to one of the rest.
	c                        Config
	hostname, logFormat      string
	healthzPort, metricsPort int32
	iptablesSync, ipvsSync   syncFlags
}

type syncFlags struct{ period, minPeriod time.Duration }

// withFile are the flags that count beside --config. All others then have no effect, as in
// kube-proxy.
var withFile = []string{
	"config", "master", "hostname-override", "cleanup", "init-only", "write-config-to", // kube-proxy's
	"manifests", "admin-socket", "iptables-variant", "external-ip-ranges", "log-format", "dns-listen", "dns-corefile", "dns-service", "dns-clients", // ours
	"help", "version",
}

// AddFlags adds every flag of kube-proxy 1.36 for Linux, and ours, to fs.
func AddFlags(fs *pflag.FlagSet) *Flags {
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-")) // as kube-proxy accepts it
	})
	f := &Flags{fs: fs, c: Default()}
	f.addOwn()
	f.addGeneral()
	f.addModes()
	f.addTraffic()
	f.addConntrack()
	return f
}

func (f *Flags) addOwn() {
	fs := f.fs
	fs.StringVar(&f.c.Manifests, "manifests", "", "folder of YAML or JSON manifests to follow in place of an API server")
	fs.StringVar(&f.c.AdminSocket, "admin-socket", "", "path of the socket that 'fairway get' asks (default: where it looks)")
	fs.StringVar(&f.c.IPTablesVariant, "iptables-variant", "", "nft or legacy; empty: the one that the node uses")
	fs.StringVar(&f.c.ExternalIPRanges, "external-ip-ranges", "", "CIDRs that externalIPs of Services must come from, with commas between; empty: any, but for those that would take over traffic of others")
	fs.StringVar(&f.c.DNS.Listen, "dns-listen", "", "answer DNS queries too, at these addresses of the node: IP or IP:port, with commas between")
	fs.StringVar(&f.c.DNS.Corefile, "dns-corefile", "", "configuration of the resolver; empty: cluster.local from the cluster, the rest from /etc/resolv.conf")
	fs.StringVar(&f.c.DNS.Service, "dns-service", f.c.DNS.Service, "NAMESPACE/NAME of the Service whose port 53 leads to --dns-listen while the resolver answers; empty: none")
	fs.StringVar(&f.c.DNS.Clients, "dns-clients", "", "CIDRs of clients that may ask at --dns-listen, beside pods and the node itself")
	fs.StringVar(&f.logFormat, "log-format", "", "text or json")
	fs.Var((*modeFlag)(&f.c.Kube.Mode), "proxy-mode", "backend: iptables, ipvs or ebpf; empty means iptables")
}

func (f *Flags) addGeneral() {
	fs, k := f.fs, &f.c.Kube
	fs.StringVar(&f.c.File, "config", "", "KubeProxyConfiguration file; most other flags are then ignored")
	fs.StringVar(&f.c.WriteConfigTo, "write-config-to", "", "write the configuration to this file and exit")
	fs.BoolVar(&f.c.Cleanup, "cleanup", false, "remove what a proxy left in the kernel and exit")
	fs.BoolVar(&f.c.InitOnly, "init-only", false, "do what needs full root privileges and exit; afterwards CAP_NET_ADMIN is enough")
	fs.Var(gatesFlag{&k.FeatureGates}, "feature-gates", "key=true|false pairs")

	fs.StringVar(&k.ClientConnection.Kubeconfig, "kubeconfig", k.ClientConnection.Kubeconfig, "kubeconfig file; empty: the pod's service account")
	fs.StringVar(&f.c.Master, "master", "", "URL of the API server, in place of the one in the kubeconfig")
	fs.StringVar(&k.ClientConnection.ContentType, "kube-api-content-type", k.ClientConnection.ContentType, "content type of requests to the API server")
	fs.Int32Var(&k.ClientConnection.Burst, "kube-api-burst", k.ClientConnection.Burst, "burst of requests to the API server")
	fs.Float32Var(&k.ClientConnection.QPS, "kube-api-qps", k.ClientConnection.QPS, "requests per second to the API server")
	fs.DurationVar(&k.ConfigSyncPeriod.Duration, "config-sync-period", k.ConfigSyncPeriod.Duration, "without effect: nothing is listed twice")

	fs.StringVar(&f.hostname, "hostname-override", "", "name of the Node this runs on (default: the host's name)")
	fs.StringVar(&k.BindAddress, "bind-address", k.BindAddress, "the node's primary address; unspecified: as in the Node object")
	fs.StringVar(&k.HealthzBindAddress, "healthz-bind-address", k.HealthzBindAddress, "address and port of /healthz and /livez; empty: none")
	fs.StringVar(&k.MetricsBindAddress, "metrics-bind-address", k.MetricsBindAddress, "address and port of /metrics and /proxyMode; empty: none")
	fs.Int32Var(&f.healthzPort, "healthz-port", 10256, "port of the health server, 0 for none")
	fs.Int32Var(&f.metricsPort, "metrics-port", 10249, "port of the metrics server, 0 for none")
	_ = fs.MarkDeprecated("healthz-port", "use --healthz-bind-address") // fails only for an unknown flag
	_ = fs.MarkDeprecated("metrics-port", "use --metrics-bind-address")
	fs.BoolVar(&k.BindAddressHardFail, "bind-address-hard-fail", false, "exit if a server cannot listen")
	fs.BoolVar(&k.EnableProfiling, "profiling", false, "serve /debug/pprof beside /metrics")
	fs.StringVar(&k.ShowHiddenMetricsForVersion, "show-hidden-metrics-for-version", "", "without effect: no metric is hidden")
	fs.Int32Var(k.OOMScoreAdj, "oom-score-adj", *k.OOMScoreAdj, "oom_score_adj of this process")

	logsapi.AddFlags(&k.Logging, fs)
	fs.BoolVar(&k.Logging.Options.JSON.SplitStream, "log-json-split-stream", false, "without effect")
	fs.Var(&k.Logging.Options.JSON.InfoBufferSize, "log-json-info-buffer-size", "without effect")
	fs.String("boot-id-file", "", "without effect")
	fs.String("machine-id-file", "", "without effect")
}

func (f *Flags) addModes() {
	fs, k := f.fs, &f.c.Kube
	fs.Int32Var(k.IPTables.MasqueradeBit, "iptables-masquerade-bit", *k.IPTables.MasqueradeBit, "bit of the packet mark that asks for masquerading, 0 to 31")
	fs.BoolVar(k.IPTables.LocalhostNodePorts, "iptables-localhost-nodeports", true, "accept NodePorts on loopback addresses, through a relay: route_localnet is never set")
	f.addSync("iptables", &f.iptablesSync, syncFlags{k.IPTables.SyncPeriod.Duration, k.IPTables.MinSyncPeriod.Duration})

	v := &k.IPVS
	f.addSync("ipvs", &f.ipvsSync, syncFlags{v.SyncPeriod.Duration, v.MinSyncPeriod.Duration})
	fs.StringVar(&v.Scheduler, "ipvs-scheduler", "", "scheduler of IPVS")
	fs.StringSliceVar(&v.ExcludeCIDRs, "ipvs-exclude-cidrs", nil, "virtual servers to leave alone, as CIDRs")
	fs.BoolVar(&v.StrictARP, "ipvs-strict-arp", false, "set arp_ignore to 1 and arp_announce to 2")
	fs.DurationVar(&v.TCPTimeout.Duration, "ipvs-tcp-timeout", 0, "timeout of idle IPVS TCP connections, 0 to leave it")
	fs.DurationVar(&v.TCPFinTimeout.Duration, "ipvs-tcpfin-timeout", 0, "timeout of IPVS TCP connections after a FIN, 0 to leave it")
	fs.DurationVar(&v.UDPTimeout.Duration, "ipvs-udp-timeout", 0, "timeout of IPVS UDP flows, 0 to leave it")
}

func (f *Flags) addSync(mode string, s *syncFlags, defaults syncFlags) {
	f.fs.DurationVar(&s.period, mode+"-sync-period", defaults.period, "longest time between two looks at the kernel")
	f.fs.DurationVar(&s.minPeriod, mode+"-min-sync-period", defaults.minPeriod, "shortest time between two applies")
}

func (f *Flags) addTraffic() {
	fs, k := f.fs, &f.c.Kube
	fs.BoolVar(&k.IPTables.MasqueradeAll, "masquerade-all", false, "masquerade every connection to a ClusterIP")
	fs.Var((*localModeFlag)(&k.DetectLocalMode), "detect-local-mode", "how pods are recognised: ClusterCIDR (default), NodeCIDR, BridgeInterface, InterfaceNamePrefix")
	fs.StringVar(&k.DetectLocal.BridgeInterface, "pod-bridge-interface", "", "bridge of the pods, for BridgeInterface")
	fs.StringVar(&k.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", "", "prefix of the names of pods' interfaces, for InterfaceNamePrefix")
	fs.StringVar(&k.ClusterCIDR, "cluster-cidr", "", "addresses of all pods: a CIDR, or one of each family with a comma between")
	fs.StringSliceVar(&k.NodePortAddresses, "nodeport-addresses", nil, "CIDRs of the node's addresses that accept NodePorts, or 'primary'; empty: all")
}

func (f *Flags) addConntrack() {
	fs, c := f.fs, &f.c.Kube.Conntrack
	fs.Int32Var(c.MaxPerCore, "conntrack-max-per-core", *c.MaxPerCore, "connections to track per CPU core, 0 to leave the limit")
	fs.Int32Var(c.Min, "conntrack-min", *c.Min, "connections to track at least")
	fs.DurationVar(&c.TCPEstablishedTimeout.Duration, "conntrack-tcp-timeout-established", c.TCPEstablishedTimeout.Duration, "timeout of idle TCP connections, 0 to leave it")
	fs.DurationVar(&c.TCPCloseWaitTimeout.Duration, "conntrack-tcp-timeout-close-wait", c.TCPCloseWaitTimeout.Duration, "timeout of TCP connections in CLOSE_WAIT, 0 to leave it")
	fs.BoolVar(&c.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "set nf_conntrack_tcp_be_liberal to 1")
	fs.DurationVar(&c.UDPTimeout.Duration, "conntrack-udp-timeout", 0, "timeout of unanswered UDP flows, 0 to leave it")
	fs.DurationVar(&c.UDPStreamTimeout.Duration, "conntrack-udp-timeout-stream", 0, "timeout of answered UDP flows, 0 to leave it")
}

// Config returns the configuration that the parsed command line asks for, validated. backends
// are the modes that this program has. An error names every field that cannot be used.
func (f *Flags) Config(backends []string) (Config, error) {
	c := f.c
	if c.File != "" {
		var err error
		if c, err = f.fromFile(); err != nil {
			return Config{}, err
		}
	} else {
		f.complete(&c.Kube)
	}
	if f.logFormat != "" {
		c.Kube.Logging.Format = f.logFormat
	}
	if err := c.setNodeName(f.hostname); err != nil {
		return Config{}, err
	}
	return c, c.Validate(backends)
}

// complete carries over the flags that have no field of their own.
func (f *Flags) complete(k *v1alpha1.KubeProxyConfiguration) {
	set := func(flag string, to *time.Duration, d time.Duration) {
		if f.fs.Changed(flag) {
			*to = d
		}
	}
	set("iptables-sync-period", &k.IPTables.SyncPeriod.Duration, f.iptablesSync.period)
	set("iptables-min-sync-period", &k.IPTables.MinSyncPeriod.Duration, f.iptablesSync.minPeriod)
	set("ipvs-sync-period", &k.IPVS.SyncPeriod.Duration, f.ipvsSync.period)
	set("ipvs-min-sync-period", &k.IPVS.MinSyncPeriod.Duration, f.ipvsSync.minPeriod)
	k.HealthzBindAddress = f.address("healthz", k.HealthzBindAddress, f.healthzPort, healthzPort)
	k.MetricsBindAddress = f.address("metrics", k.MetricsBindAddress, f.metricsPort, metricsPort)
	k.HostnameOverride = f.hostname
}

// address settles --NAME-bind-address and the deprecated --NAME-port, of which 0 switches the
// server off. By default the family follows --bind-address.
func (f *Flags) address(name, addr string, port int32, defaultPort string) string {
	if port == 0 || addr == "" {
		return ""
	}
	if !f.fs.Changed(name + "-bind-address") {
		k := v1alpha1.KubeProxyConfiguration{BindAddress: f.c.Kube.BindAddress}
		setDefaults(&k)
		addr = map[string]string{"healthz": k.HealthzBindAddress, "metrics": k.MetricsBindAddress}[name]
		if f.fs.Changed(name + "-port") {
			addr = strings.TrimSuffix(addr, defaultPort) + strconv.Itoa(int(port))
		}
	}
	return withPort(addr, "", strconv.Itoa(int(port)))
}

// fromFile reads the file that --config names and adds the flags that count beside it.
func (f *Flags) fromFile() (Config, error) {
	c, err := Read(f.c.File)
	if err != nil {
		return Config{}, err
	}
	c.Master, c.Manifests, c.AdminSocket, c.IPTablesVariant = f.c.Master, f.c.Manifests, f.c.AdminSocket, f.c.IPTablesVariant
	c.ExternalIPRanges, c.DNS = f.c.ExternalIPRanges, f.c.DNS
	c.Cleanup, c.InitOnly, c.WriteConfigTo = f.c.Cleanup, f.c.InitOnly, f.c.WriteConfigTo
	logs := pflag.NewFlagSet("", pflag.ContinueOnError)
	logsapi.AddFlags(&c.Kube.Logging, logs)
	var ignored []string
	f.fs.Visit(func(flag *pflag.Flag) {
		switch to := logs.Lookup(flag.Name); {
		case to != nil:
			err = to.Value.Set(flag.Value.String()) // it was parsed once already
		case !slices.Contains(withFile, flag.Name):
			ignored = append(ignored, "--"+flag.Name)
		}
	})
	if len(ignored) > 0 {
		slices.Sort(ignored)
		c.warnings = append(c.warnings, "ignored because of --config: "+strings.Join(ignored, ", "))
	}
	return c, err
}

// nodeName writes a host's name as a Node's name.
func nodeName(host string) string { return strings.ToLower(strings.TrimSpace(host)) }

type modeFlag v1alpha1.ProxyMode

func (m *modeFlag) Set(s string) error { *m = modeFlag(s); return nil }
func (m *modeFlag) String() string     { return string(*m) }
func (m *modeFlag) Type() string       { return "mode" }

type localModeFlag v1alpha1.LocalMode

func (m *localModeFlag) Set(s string) error { *m = localModeFlag(s); return nil }
func (m *localModeFlag) String() string     { return string(*m) }
func (m *localModeFlag) Type() string       { return "mode" }

// gatesFlag reads A=true,B=false.
type gatesFlag struct{ gates *map[string]bool }

func (g gatesFlag) Set(s string) error {
	for _, pair := range splitList(s) {
		name, value, ok := strings.Cut(pair, "=")
		on, err := strconv.ParseBool(strings.TrimSpace(value))
		if !ok || err != nil {
			return fmt.Errorf("%q is not NAME=true or NAME=false", pair)
		}
		if *g.gates == nil {
			*g.gates = map[string]bool{}
		}
		(*g.gates)[strings.TrimSpace(name)] = on
	}
	return nil
}

func (g gatesFlag) String() string {
	if g.gates == nil {
		return ""
	}
	var out []string
	for name, on := range *g.gates {
		out = append(out, name+"="+strconv.FormatBool(on))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (g gatesFlag) Type() string { return "mapStringBool" }
