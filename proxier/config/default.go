package config

import (
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
)

// The ports that kube-proxy's addresses have by default.
const (
	healthzPort = "10256"
	metricsPort = "10249"
)

// defaultMinSync is the least time between two applies. kube-proxy waits 1 s because each of its
// syncs is expensive at scale; here an apply costs what changed.
const defaultMinSync = 100 * time.Millisecond

// Default returns a complete configuration: kube-proxy's defaults, but for minSyncPeriod.
func Default() Config {
	c := Config{DNS: DNS{Service: defaultDNSService}}
	setDefaults(&c.Kube)
	return c
}

// setDefaults fills in what is missing, as kube-proxy does for its configuration file: zero
// means the default, also for fields in which zero could be meant.
func setDefaults(k *v1alpha1.KubeProxyConfiguration) {
	k.APIVersion, k.Kind = apiVersion, kind
	setDefault(&k.BindAddress, "0.0.0.0")
	all, loopback := "0.0.0.0", "127.0.0.1"
	if a, err := parseAddr(k.BindAddress); err != nil || !a.Is4() {
		all, loopback = "::", "::1"
	}
	k.HealthzBindAddress = withPort(k.HealthzBindAddress, all, healthzPort)
	k.MetricsBindAddress = withPort(k.MetricsBindAddress, loopback, metricsPort)

	setDefault(&k.ClientConnection.ContentType, "application/vnd.kubernetes.protobuf")
	setDefault(&k.ClientConnection.QPS, 5)
	setDefault(&k.ClientConnection.Burst, 10)
	logsapi.SetRecommendedLoggingConfiguration(&k.Logging)

	setPointer(&k.IPTables.MasqueradeBit, 14)
	setPointer(&k.IPTables.LocalhostNodePorts, true)
	setDefault(&k.IPTables.SyncPeriod.Duration, 30*time.Second)
	setDefault(&k.IPTables.MinSyncPeriod.Duration, defaultMinSync)
	setDefault(&k.IPVS.SyncPeriod.Duration, 30*time.Second)
	setPointer(&k.NFTables.MasqueradeBit, 14)
	setDefault(&k.NFTables.SyncPeriod.Duration, 30*time.Second)
	setDefault(&k.NFTables.MinSyncPeriod.Duration, defaultMinSync)

	setPointer(&k.OOMScoreAdj, -999)
	setPointer(&k.Conntrack.MaxPerCore, 32*1024)
	setPointer(&k.Conntrack.Min, 128*1024)
	setPointer(&k.Conntrack.TCPEstablishedTimeout, metav1.Duration{Duration: 24 * time.Hour})
	setPointer(&k.Conntrack.TCPCloseWaitTimeout, metav1.Duration{Duration: time.Hour})
	setDefault(&k.ConfigSyncPeriod.Duration, 15*time.Minute)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func setPointer[T any](v **T, d T) {
	if *v == nil {
		*v = ptr.To(d)
	}
}

// withPort returns addr with a port: that of its own, or the default. An empty addr is the
// default one.
func withPort(addr, defaultAddr, port string) string {
	if addr == "" {
		addr = defaultAddr
	}
	if _, err := parseAddr(addr); err == nil {
		return net.JoinHostPort(addr, port)
	}
	return addr
}
