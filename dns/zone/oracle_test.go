package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/dns/dnstest"
)

// An oracle knows every name of a cluster.local zone and its records, by writing them all down.
// It is made from the API's objects and shares nothing with the package but the specification.
type oracle struct {
	records map[string]map[string]bool // name -> "TYPE data"
}

func (o *oracle) name(n string) map[string]bool {
	if o.records[n] == nil {
		o.records[n] = map[string]bool{}
	}
	return o.records[n]
}

// A pair is an address with a port, the unit that the specification counts.
type pair struct {
	host  string // "" for the Service itself
	ip    string
	port  string
	proto string
	n     int // -1: none
}

func newOracle(c *dnstest.Cluster, pods bool) *oracle {
	o := &oracle{records: map[string]map[string]bool{}}
	exists := map[string]bool{}
	for _, n := range []string{"cluster.local.", "svc.cluster.local.", "pod.cluster.local.", "ns.dns.cluster.local."} {
		o.name(n)
	}
	o.name("dns-version.cluster.local.")[`TXT "1.1.0"`] = true
	for _, ns := range c.Namespaces {
		exists[ns.Name] = true
		o.name(ns.Name + ".svc.cluster.local.")
		if pods {
			o.name(ns.Name + ".pod.cluster.local.")
		}
	}
	clusterIPs := map[string]string{}
	for _, s := range c.Services {
		if !exists[s.Namespace] {
			continue
		}
		name := s.Name + "." + s.Namespace + ".svc.cluster.local."
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			o.name(name)["CNAME "+s.Spec.ExternalName+"."] = true
			continue
		}
		endpoints := o.endpoints(c, s)
		own := endpoints
		if s.Spec.ClusterIP != corev1.ClusterIPNone {
			own = nil
			for _, ip := range s.Spec.ClusterIPs {
				clusterIPs[ip] = name
				for _, p := range servicePorts(s) {
					own = append(own, pair{"", ip, p.port, p.proto, p.n})
				}
			}
			if len(own) == 0 { // it has no address, but it is there
				for _, p := range servicePorts(s) {
					o.ports(p, name, func(owner string) { o.name(owner) })
				}
			}
		}
		o.pairs(name, name, own)
		byHost := map[string][]pair{}
		for _, p := range endpoints {
			byHost[p.host] = append(byHost[p.host], p)
		}
		for host, list := range byHost {
			o.set(host+"."+name, name, list)
		}
	}
	o.pointers(c, exists, clusterIPs)
	return o
}

func servicePorts(s *corev1.Service) (out []pair) {
	for _, p := range s.Spec.Ports {
		out = append(out, pair{port: p.Name, proto: strings.ToLower(string(p.Protocol)), n: int(p.Port)})
	}
	if len(out) == 0 {
		out = []pair{{n: -1}}
	}
	return out
}

func slicePorts(s *discoveryv1.EndpointSlice) (out []pair) {
	for _, p := range s.Ports {
		n := -1
		if p.Port != nil {
			n = int(*p.Port)
		}
		out = append(out, pair{port: *p.Name, proto: strings.ToLower(string(*p.Protocol)), n: n})
	}
	if len(out) == 0 {
		out = []pair{{n: -1}}
	}
	return out
}

// endpoints lists the ready addresses of a Service with their ports.
func (o *oracle) endpoints(c *dnstest.Cluster, s *corev1.Service) (out []pair) {
	eachReady(c, s.Namespace, s.Name, func(sl *discoveryv1.EndpointSlice, host, ip string) {
		for _, p := range slicePorts(sl) {
			out = append(out, pair{host, ip, p.port, p.proto, p.n})
		}
	})
	return out
}

func eachReady(c *dnstest.Cluster, namespace, name string, f func(sl *discoveryv1.EndpointSlice, host, ip string)) {
	for _, sl := range c.Slices {
		if sl.Namespace != namespace || sl.Labels[discoveryv1.LabelServiceName] != name {
			continue
		}
		for _, e := range sl.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, ip := range e.Addresses {
				host := strings.NewReplacer(".", "-", ":", "-").Replace(ip)
				if strings.HasSuffix(host, "-") {
					host += "0"
				}
				if e.Hostname != nil {
					host = *e.Hostname
				}
				f(sl, host, ip)
			}
		}
	}
}

// pairs writes down a Service's own name and those of its ports.
func (o *oracle) pairs(name, service string, list []pair) {
	if len(list) == 0 {
		return
	}
	o.set(name, service, list)
	byOwner := map[string][]pair{}
	for _, p := range list {
		o.ports(p, name, func(owner string) { byOwner[owner] = append(byOwner[owner], p) })
	}
	for owner, some := range byOwner {
		o.set(owner, service, some)
	}
}

// ports calls f with each name that asks for a port, each once.
func (o *oracle) ports(p pair, name string, f func(owner string)) {
	seen := map[string]bool{}
	for _, port := range []string{p.port, "_" + p.port, "_"} {
		for _, proto := range []string{p.proto, "_" + p.proto, "_"} {
			if owner := port + "." + proto + "." + name; port != "" && proto != "" && !seen[owner] {
				seen[owner] = true
				f(owner)
			}
		}
	}
}

// set writes down what some addresses and ports are to a name.
func (o *oracle) set(owner, service string, list []pair) {
	set := o.name(owner)
	for _, p := range list {
		set[address(p.ip)] = true
		if p.n >= 0 {
			target := service
			if p.host != "" {
				target = p.host + "." + service
			}
			set[fmt.Sprintf("SRV 0 %d %d %s", max(1, 100/len(list)), p.n, target)] = true
		}
	}
}

func address(ip string) string {
	if netip.MustParseAddr(ip).Is4() {
		return "A " + ip
	}
	return "AAAA " + ip
}

// pointers writes down the PTR records. A cluster IP leads to its Service alone.
func (o *oracle) pointers(c *dnstest.Cluster, exists map[string]bool, clusterIPs map[string]string) {
	for ip, name := range clusterIPs {
		o.name(reverseName(ip))["PTR "+name] = true
	}
	seen := map[string]bool{}
	for _, sl := range c.Slices {
		owner := sl.Namespace + "/" + sl.Labels[discoveryv1.LabelServiceName]
		if seen[owner] || !exists[sl.Namespace] || sl.Labels[discoveryv1.LabelServiceName] == "" {
			continue
		}
		seen[owner] = true
		eachReady(c, sl.Namespace, sl.Labels[discoveryv1.LabelServiceName], func(_ *discoveryv1.EndpointSlice, host, ip string) {
			if clusterIPs[ip] == "" {
				o.name(reverseName(ip))["PTR "+host+"."+sl.Labels[discoveryv1.LabelServiceName]+"."+sl.Namespace+".svc.cluster.local."] = true
			}
		})
	}
}

func reverseName(ip string) string {
	a := netip.MustParseAddr(ip)
	b := a.AsSlice()
	var out strings.Builder
	for _, c := range slices.Backward(b) {
		if a.Is4() {
			fmt.Fprintf(&out, "%d.", c)
		} else {
			fmt.Fprintf(&out, "%x.%x.", c&15, c>>4)
		}
	}
	if a.Is4() {
		return out.String() + "in-addr.arpa."
	}
	return out.String() + "ip6.arpa."
}

// answer returns what the zone is to say: the code, and the records without their owner, sorted.
func (o *oracle) answer(name, typ string) (rcode string, records []string) {
	name = strings.ToLower(name)
	set, exists := o.records[name]
	// CoreDNS's way, kept: the version is a name for TXT alone, and addresses for PTR alone.
	if name == "dns-version.cluster.local." && typ != "TXT" || strings.HasSuffix(name, ".arpa.") && typ != "PTR" {
		exists = false
	}
	if !exists {
		return "NXDOMAIN", nil
	}
	for r := range set {
		if kind, _, _ := strings.Cut(r, " "); kind == typ {
			records = append(records, r)
		}
	}
	slices.Sort(records)
	return "NOERROR", records
}

// leadsAway reports whether a name stands for another one.
func (o *oracle) leadsAway(name string) bool {
	for r := range o.records[strings.ToLower(name)] {
		if strings.HasPrefix(r, "CNAME ") {
			return true
		}
	}
	return false
}
