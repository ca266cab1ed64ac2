package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// gateExternalIPs is the one feature gate that changes what Fairway does.
const gateExternalIPs = "AllowServiceExternalIPs"

// effective are the fields, or parents of fields, that do something in every mode.
var effective = []string{
	"apiVersion", "kind", "featureGates." + gateExternalIPs, "clientConnection", "logging.format", "logging.verbosity",
	"hostnameOverride", "bindAddress", "healthzBindAddress", "metricsBindAddress", "bindAddressHardFail", "enableProfiling",
	"mode", "iptables.masqueradeAll", "iptables.localhostNodePorts", "detectLocalMode", "detectLocal", "clusterCIDR", "nodePortAddresses", "oomScoreAdj", "conntrack",
}

// effectiveIn are those that do something in one mode only.
var effectiveIn = map[string][]string{
	ModeIPTables: {"iptables.masqueradeBit", "iptables.syncPeriod", "iptables.minSyncPeriod"},
	ModeIPVS:     {"iptables.masqueradeBit", "ipvs"},
	ModeEBPF:     {"iptables.masqueradeBit", "iptables.syncPeriod", "iptables.minSyncPeriod"},
}

// NoEffect returns the fields that are set to something other than their default and that have
// no effect, by their paths in KubeProxyConfiguration, sorted.
func (c *Config) NoEffect() []string {
	effective := append(slices.Clone(effective), effectiveIn[c.Mode()]...)
	if c.Kube.Mode == "nftables" {
		effective = append(effective, "nftables.masqueradeAll")
	}
	if c.DetectMode() != detectClusterCIDR {
		effective = slices.DeleteFunc(effective, func(f string) bool { return f == "clusterCIDR" })
	}
	var out []string
	def := Default()
	changed(reflect.ValueOf(&c.Kube).Elem(), reflect.ValueOf(&def.Kube).Elem(), "", func(path string) {
		if !slices.ContainsFunc(effective, func(e string) bool { return path == e || strings.HasPrefix(path, e+".") }) {
			out = append(out, path)
		}
	})
	slices.Sort(out)
	return out
}

// unmarshaler marks types that are one value in a file whatever their fields, such as durations.
var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// changed calls f with the path of every field in which a and b differ.
func changed(a, b reflect.Value, path string, f func(path string)) {
	switch {
	case reflect.DeepEqual(a.Interface(), b.Interface()):
	case a.Kind() == reflect.Struct && !a.Addr().Type().Implements(unmarshaler):
		for i := range a.NumField() {
			field := a.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "" && path != "" {
				name = path + "." + name
			} else if name == "" {
				name = path
			}
			changed(a.Field(i), b.Field(i), name, f)
		}
	case a.Kind() == reflect.Map:
		for _, key := range a.MapKeys() {
			f(path + "." + key.String())
		}
	case a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0: // null or []
	default:
		f(path)
	}
}
