package resolve

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
)

// neighbour is a healthy Service of every kind, which no other object may disturb.
const neighbour = `
---
kind: Service
metadata: {namespace: ns, name: neighbour, creationTimestamp: 2020-01-01T00:00:00Z}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.200
  externalIPs: [203.0.113.200]
  externalTrafficPolicy: Local
  healthCheckNodePort: 32200
  ports: [{port: 80, nodePort: 30200}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.200}]}}
---
kind: EndpointSlice
metadata: {namespace: ns, name: neighbour-1, labels: {kubernetes.io/service-name: neighbour}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.244.1.15], nodeName: node-1}, {addresses: [10.244.2.25], nodeName: node-2}]
---
kind: Service
metadata: {namespace: default, name: kubernetes, creationTimestamp: 2020-01-01T00:00:00Z}
spec: {clusterIP: 10.96.0.254, ports: [{name: https, port: 443}]}
---
kind: EndpointSlice
metadata: {namespace: default, name: kubernetes, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443}]
endpoints: [{addresses: [192.168.10.9]}, {addresses: [192.168.10.1]}]`

// plain is what a broken object of Service web leaves behind: its healthy parts only.
const (
	plain      = "10.96.0.1:80/TCP ClusterIP web:: 10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M"
	plainEmpty = "10.96.0.1:80/TCP ClusterIP web:: reject | reject M | reject M"
)

// A hostile is an object that must not be obeyed.
type hostile struct {
	name    string
	objects string
	want    string // frontends of Services other than the neighbours
	reasons string // of all problems, distinct, sorted by object
}

func hostileObjects() []hostile {
	return slices.Concat(hostileEndpoints(), hostileAddresses(), hostileFields())
}

// webWith writes Service web with a healthy endpoint.
func webWith(spec string) string {
	return service("web", spec) + slice("web", "1", on("10.244.1.11"))
}

// hostileEndpoints are endpoints that must get no connection (CVE-2021-25737).
func hostileEndpoints() []hostile {
	local := slice("web", "1", on("10.244.1.11"))
	endpoint := func(ip string) string {
		return service("web", webSpec) + slice("web", "1", "[{addresses: ['"+ip+"']}]")
	}
	endpoint6 := func(ip string) string {
		return service("web", `{clusterIP: "fd00:96::1", ports: [{port: 80}]}`) + strings.Replace(slice("web", "1", "[{addresses: ['"+ip+"']}]"), "addressType: IPv4", "addressType: IPv6", 1)
	}
	const empty6 = "[fd00:96::1]:80/TCP ClusterIP web:: reject | reject M | reject M"
	return []hostile{
		{"endpoint: loopback", endpoint("127.0.0.1"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: loopback with leading zeros", endpoint("0127.0.0.01"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: link-local, metadata", endpoint("169.254.169.254"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: multicast", endpoint("224.0.0.1"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: broadcast", endpoint("255.255.255.255"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: unspecified", endpoint("0.0.0.0"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: no address", endpoint("example.org"), plainEmpty, ReasonInvalidAddress},
		{"endpoint: empty address", endpoint(""), plainEmpty, ReasonInvalidAddress},
		{"endpoint: no addresses", service("web", webSpec) + slice("web", "1", "[{addresses: []}]"), plainEmpty, ReasonInvalidAddress},
		{"endpoint: IPv4 in IPv6", endpoint("::ffff:10.244.1.11"), plainEmpty, ReasonInvalidAddress},
		{"endpoint: IPv4 in IPv6, in an IPv6 slice", endpoint6("::ffff:10.244.1.11"), empty6, ReasonInvalidAddress},
		{"endpoint: IPv6 in an IPv4 slice", service("web", webSpec) + strings.Replace(slice("web", "1", "[{addresses: ['fd00:244::5']}]"), "IPv6", "IPv4", 1), plainEmpty, ReasonWrongFamily},
		{"endpoint: IPv4 in an IPv6 slice", endpoint6("10.244.1.11"), empty6, ReasonWrongFamily},
		{"endpoint: IPv6 loopback", endpoint6("::1"), empty6, ReasonForbiddenAddress},
		{"endpoint: IPv6 link-local", endpoint6("fe80::11"), empty6, ReasonForbiddenAddress},
		{"endpoint: IPv6 with a zone", endpoint6("fe80::11%eth0"), empty6, ReasonInvalidAddress},
		{"endpoint: IPv6 multicast", endpoint6("ff02::1"), empty6, ReasonForbiddenAddress},
		{"endpoint: the Service's own cluster IP", endpoint("10.96.0.1"), plainEmpty, ReasonForbiddenAddress},
		{"endpoint: the Service's own external IP", service("web", "{clusterIP: 10.96.0.1, externalIPs: [203.0.113.1], ports: [{port: 80}]}") + slice("web", "1", "[{addresses: [203.0.113.1]}]"),
			plainEmpty + "\n203.0.113.1:80/TCP ExternalIP web:: reject M", ReasonForbiddenAddress},
		{"endpoint: port 0", service("web", webSpec) + slice("web", "1", on("10.244.1.11"), `[{name: "", port: 0}]`), plainEmpty, ReasonInvalidPort},
		{"endpoint: port 65536", service("web", webSpec) + slice("web", "1", on("10.244.1.11"), `[{name: "", port: 65536}]`), plainEmpty, ReasonInvalidPort},
		{"endpoint: port -1", service("web", webSpec) + slice("web", "1", on("10.244.1.11"), `[{name: "", port: -1}]`), plainEmpty, ReasonInvalidPort},
		{"endpoint: unknown protocol", service("web", webSpec) + slice("web", "1", on("10.244.1.11"), `[{name: "", port: 1, protocol: ICMP}]`), plainEmpty, ReasonInvalidProtocol},
		{"slice: of names", service("web", webSpec) + strings.Replace(slice("web", "1", on("example.org")), "IPv4", "FQDN", 1), plainEmpty, ReasonUnsupported},
		{"slice: unknown address type", service("web", webSpec) + strings.Replace(slice("web", "1", on("10.244.1.11")), "IPv4", "X25", 1), plainEmpty, ReasonUnsupported},
		{"slice: without a Service", slice("nobody", "1", on("10.244.1.11")), "", ReasonNoService},
		{"slice: twice the same", service("web", webSpec) + local + slice("web", "2", on("10.244.1.11")), plain, ""},
		{"slice: a thousand broken endpoints", service("web", webSpec) + local + slice("web", "2", "["+strings.Repeat("{addresses: [127.0.0.1]},", 1000)+"]"), plain, ReasonForbiddenAddress},
	}
}

// hostileAddresses are addresses that Services must not get (CVE-2020-8554).
func hostileAddresses() []hostile {
	external := func(ip string) string {
		return webWith("{clusterIP: 10.96.0.1, externalIPs: ['" + ip + "'], ports: [{port: 80}]}")
	}
	balanced := func(ip string) string {
		return service("web", "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}", "{loadBalancer: {ingress: [{ip: '"+ip+"'}]}}") + slice("web", "1", on("10.244.1.11"))
	}
	return []hostile{
		{"external IP: the node's", external("192.168.10.1"), plain, ReasonForbiddenAddress},
		{"external IP: the node's, with leading zeros", external("192.168.010.001"), plain, ReasonAmbiguousAddress + " " + ReasonForbiddenAddress},
		{"external IP: the API server's cluster IP", external("10.96.0.254"), plain, ReasonForbiddenAddress},
		{"external IP: the API server's own", external("192.168.10.9"), plain, ReasonForbiddenAddress},
		{"external IP: any cluster IP", external("10.96.7.7"), plain, ReasonForbiddenAddress},
		{"external IP: a pod's", external("10.244.2.21"), plain, ReasonForbiddenAddress},
		{"external IP: loopback", external("127.0.0.1"), plain, ReasonForbiddenAddress},
		{"external IP: metadata", external("169.254.169.254"), plain, ReasonForbiddenAddress},
		{"external IP: metadata of another cloud", external("168.63.129.16"), plain, ReasonForbiddenAddress},
		{"external IP: multicast", external("239.1.1.1"), plain, ReasonForbiddenAddress},
		{"external IP: unspecified", external("0.0.0.0"), plain, ReasonForbiddenAddress},
		{"external IP: IPv6 unspecified", external("::"), plain, ReasonForbiddenAddress},
		{"external IP: IPv4 in IPv6", external("::ffff:192.168.10.1"), plain, ReasonInvalidAddress},
		{"external IP: of a family that the Service lacks", external("2001:db8:113::1"), plain, ReasonWrongFamily},
		{"external IP: no address", external("203.0.113.1; reboot"), plain, ReasonInvalidAddress},
		{"external IP: a neighbour's", external("203.0.113.200"), plain, ReasonAddressConflict},
		{"external IP: a neighbour's load balancer address", external("198.51.100.200"), plain, ReasonAddressConflict},
		{"external IP: a thousand broken ones", webWith("{clusterIP: 10.96.0.1, externalIPs: [" + strings.Repeat("x,", 1000) + "], ports: [{port: 80}]}"), plain, ReasonInvalidAddress},
		{"load balancer: a neighbour's address", balanced("198.51.100.200"), plain, ReasonAddressConflict},
		{"load balancer: a cluster IP", balanced("10.96.0.254"), plain, ReasonForbiddenAddress},
		{"load balancer: a pod's", balanced("10.244.2.21"), plain, ReasonForbiddenAddress},
		{"load balancer: loopback", balanced("127.0.0.1"), plain, ReasonForbiddenAddress},
		{"load balancer: metadata", balanced("169.254.169.254"), plain, ReasonForbiddenAddress},
		{"load balancer: unspecified", balanced("0.0.0.0"), plain, ReasonForbiddenAddress},
		{"load balancer: no address", balanced("lb.example.org"), plain, ReasonInvalidAddress},
		{"load balancer: API server's port on its node", strings.ReplaceAll(balanced("192.168.10.9"), "port: 80}", "port: 6443}"),
			strings.Replace(plain, ":80/", ":6443/", 1), ReasonForbiddenAddress},
		{"load balancer: kubelet's port on this node", strings.ReplaceAll(balanced("192.168.20.1"), "port: 80}", "port: 10250}"),
			strings.Replace(plain, ":80/", ":10250/", 1), ReasonForbiddenAddress},
		{"load balancer: status on another type", strings.Replace(balanced("198.51.100.1"), "type: LoadBalancer", "type: ClusterIP", 1), plain, ReasonInvalidField},
		{"load balancer: unknown ipMode", strings.Replace(balanced("198.51.100.1"), "'198.51.100.1'", "'198.51.100.1', ipMode: Wormhole", 1), plain, ReasonInvalidField},
		{"load balancer: unreadable source range", strings.Replace(balanced("198.51.100.1"), "ports:", "loadBalancerSourceRanges: [everyone], ports:", 1), plain, ReasonInvalidSourceRange},
		{"load balancer: unreadable source range, and an external IP too", strings.Replace(balanced("198.51.100.1"), "ports:", "externalIPs: [198.51.100.1], loadBalancerSourceRanges: [everyone], ports:", 1), plain, ReasonInvalidSourceRange},
		{"cluster IP: loopback", webWith("{clusterIP: 127.0.0.1, ports: [{port: 80}]}"), "", ReasonForbiddenAddress},
		{"cluster IP: unspecified", webWith("{clusterIP: 0.0.0.0, ports: [{port: 80}]}"), "", ReasonForbiddenAddress},
		{"cluster IP: link-local", webWith("{clusterIP: 169.254.1.1, ports: [{port: 80}]}"), "", ReasonForbiddenAddress},
		{"cluster IP: the node's", webWith("{clusterIP: 192.168.10.1, ports: [{port: 10250}]}"), "", ReasonForbiddenAddress},
		{"cluster IP: no address", webWith("{clusterIP: none, ports: [{port: 80}]}"), "", ReasonInvalidAddress},
		{"cluster IP: not of its family", webWith("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ipFamilies: [IPv6], ports: [{port: 80}]}"), "", ReasonWrongFamily},
		{"cluster IP: not the first of clusterIPs", webWith("{clusterIP: 10.96.0.9, clusterIPs: [10.96.0.1], ports: [{port: 80}]}"), plain, ReasonInvalidField},
		{"cluster IP: two of one family", webWith("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 10.96.0.2], ports: [{port: 80}]}"), plain, ReasonWrongFamily},
		{"cluster IP: a neighbour's", webWith("{clusterIP: 10.96.0.200, ports: [{port: 80}]}"), "", ReasonAddressConflict},
	}
}

// hostileFields are ports, names and values that make no sense.
func hostileFields() []hostile {
	local := slice("web", "1", on("10.244.1.11"))
	return []hostile{
		{"port: none", webWith("{clusterIP: 10.96.0.1, ports: []}"), "", ""},
		{"port: 0", webWith("{clusterIP: 10.96.0.1, ports: [{port: 0}, {name: x, port: 80}]}"), strings.Replace(plainEmpty, "web:", "web:x", 1), ReasonInvalidPort},
		{"port: 65536 and negative", webWith("{clusterIP: 10.96.0.1, ports: [{port: 65536}, {name: x, port: -1}]}"), "", ReasonInvalidPort},
		{"port: unknown protocol", webWith("{clusterIP: 10.96.0.1, ports: [{port: 80, protocol: ICMP}, {name: x, port: 80}]}"), strings.Replace(plainEmpty, "web:", "web:x", 1), ReasonInvalidProtocol},
		{"port: a name twice", webWith("{clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 81}]}"), plain, ReasonDuplicatePort},
		{"port: a name with a line break", webWith(`{clusterIP: 10.96.0.1, ports: [{port: 80}, {name: "x\n-A INPUT -j ACCEPT", port: 81}]}`), plain, ReasonInvalidName},
		{"node port: a neighbour's", webWith("{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30200}]}"), plain, ReasonPortConflict},
		{"node port: a neighbour's health check port", webWith("{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 32200}]}"), plain, ReasonPortConflict},
		{"node port: out of range", webWith("{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 70000}]}"), plain, ReasonInvalidPort},
		{"node port: of the wrong type", webWith("{clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"), plain, ReasonInvalidPort},
		{"health check port: a neighbour's", webWith("{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32200, clusterIP: 10.96.0.1, ports: [{port: 80}]}"), plain, ReasonPortConflict},
		{"health check port: out of range", webWith("{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 70000, clusterIP: 10.96.0.1, ports: [{port: 80}]}"), plain, ReasonInvalidPort},
		{"name: not a DNS label", service(`"Web_1"`, webSpec), "", ReasonInvalidName},
		{"name: with a line break", service(`"web\n-j ACCEPT"`, webSpec), "", ReasonInvalidName},
		{"name: 64 characters", service(strings.Repeat("w", 64), webSpec), "", ReasonInvalidName},
		{"name: 63 characters", strings.ReplaceAll(service("web", webSpec)+local, " web", " "+strings.Repeat("w", 63)), strings.Replace(plain, "web", strings.Repeat("w", 63), 1), ""},
		{"field: unknown type", webWith("{type: Teapot, clusterIP: 10.96.0.1, ports: [{port: 80}]}"), plain, ReasonInvalidField},
		{"field: unknown policies", webWith("{clusterIP: 10.96.0.1, internalTrafficPolicy: Moon, externalTrafficPolicy: Mars, ports: [{port: 80}]}"), plain, ReasonInvalidField},
		{"field: unknown affinity", webWith("{clusterIP: 10.96.0.1, sessionAffinity: Cookie, ports: [{port: 80}]}"), plain, ReasonInvalidField},
		{"field: affinity time-out of 0", webWith("{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ports: [{port: 80}]}"), plain + " sticky 3h0m0s", ReasonInvalidField},
		{"annotation: unknown value", annotated("balance: ''") + local, plain, ReasonUnknownAnnotation},
	}
}

func TestHostileObjects(t *testing.T) {
	calmInputs := mustInputs(t, nodeYAML, cidrsYAML, neighbour)
	base := mustResolve(t, defaults(), calmInputs)
	if len(base.Problems) > 0 {
		t.Fatalf("the neighbours have problems: %v", base.Problems)
	}
	cases := hostileObjects()
	if len(cases) < 40 {
		t.Fatalf("want at least 40 cases, got %d", len(cases))
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := New(defaults())
			calm := r.Resolve(calmInputs)
			in := calmInputs
			in.Groups = slices.Concat(in.Groups, mustInputs(t, tc.objects).Groups)
			sortGroups(in.Groups)
			s := r.Resolve(in)
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			mustBeSafe(t, s)
			var got []string
			kept := map[*proxier.Frontend]bool{}
			for _, f := range s.Frontends {
				if f.Owner.Name == "neighbour" || f.Owner.Name == "kubernetes" {
					kept[f] = true
				} else {
					got = append(got, renderFrontend(f))
				}
			}
			if diff := cmp.Diff(lines(tc.want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, f := range calm.Frontends {
				if !kept[f] {
					t.Errorf("frontend %s of a healthy neighbour changed", f)
				}
			}
			var reasons []string
			for _, p := range s.Problems {
				reasons = append(reasons, p.Reason)
				if len(p.Message) > 1000 {
					t.Errorf("problem of %d characters: %.200s", len(p.Message), p.Message)
				}
			}
			if got := strings.Join(reasons, " "); got != tc.reasons {
				t.Errorf("want problems %q, got %v", tc.reasons, s.Problems)
			}
			if diff := cmp.Diff(render(base), render(r.Resolve(calmInputs))); diff != "" {
				t.Errorf("after it is gone (-want +got)\n%s", diff)
			}
		})
	}
}

// mustBeSafe fails if a snapshot holds an address that no snapshot may.
func mustBeSafe(t rapid.TB, s *proxier.Snapshot) {
	t.Helper()
	clusterIPs := map[netip.Addr]bool{}
	for _, svc := range s.Services {
		for _, a := range svc.ClusterIPs {
			clusterIPs[a] = true
		}
	}
	own := map[proxier.NamespacedName][]netip.Addr{}
	for _, f := range s.Frontends {
		if f.Kind == proxier.ClusterIP {
			own[f.Owner.NamespacedName] = append(own[f.Owner.NamespacedName], f.Addr)
		}
		if why := notUnicast(f.Addr); f.Kind != proxier.NodePort && why != "" {
			t.Errorf("frontend %s is %s", f, why)
		}
		external := f.Kind == proxier.ExternalIP || f.Kind == proxier.LoadBalancer
		if external && clusterIPs[f.Addr] {
			t.Errorf("frontend %s of kind %s is a cluster IP", f, f.Kind)
		}
		for _, p := range s.Node.ServiceCIDRs {
			if external && p.Contains(f.Addr) {
				t.Errorf("frontend %s of kind %s is in the range of cluster IPs", f, f.Kind)
			}
		}
		for _, a := range s.Node.Addresses {
			if a == f.Addr && f.Kind != proxier.LoadBalancer {
				t.Errorf("frontend %s of kind %s is the node's address", f, f.Kind)
			}
		}
		if f.Sources != nil && len(f.Sources) == 0 {
			t.Errorf("frontend %s has sources that are empty but not nil", f)
		}
	}
	for _, f := range s.Frontends {
		for _, r := range f.From {
			for _, e := range r.Pool.Endpoints {
				if why := notUnicast(e.Addr); why != "" || e.Addr.Zone() != "" {
					t.Errorf("endpoint %s of %s is %s", e, f.Owner, why)
				}
				for _, a := range own[f.Owner.NamespacedName] {
					if a == e.Addr {
						t.Errorf("endpoint %s of %s is its own cluster IP", e, f.Owner)
					}
				}
			}
		}
	}
}

// TestLoadBalancerOnNode pins what a load balancer may have and an ordinary user may not.
func TestLoadBalancerOnNode(t *testing.T) {
	onNode := func(ip, endpoints string) string {
		return service("web", "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}", "{loadBalancer: {ingress: [{ip: '"+ip+"'}]}}") + endpoints
	}
	host := slice("web", "1", "[{addresses: [192.168.10.2], nodeName: node-2}]")
	flat := func(o *Options) { o.Detect.ClusterCIDRs = prefixes("192.168.0.0/16") }
	remote := "10.96.0.1:80/TCP ClusterIP web:: 192.168.10.2:8080 | 192.168.10.2:8080 M | 192.168.10.2:8080 M\n"
	testRows(t, []row{
		{name: "the node's own address, as with the service load balancer of k3s", objects: onNode("192.168.10.1", slice("web", "1", on("10.244.1.11"))),
			want: plain + "\n192.168.10.1:80/TCP LoadBalancer web:: 10.244.1.11:8080 M"},
		{name: "another node's address, which is also the endpoint's", objects: onNode("192.168.10.2", host),
			want: remote + "192.168.10.2:80/TCP LoadBalancer web:: 192.168.10.2:8080 M"},
		{name: "an address in a range that pods and nodes share", opts: flat, objects: onNode("192.168.77.1", host),
			want: remote + "192.168.77.1:80/TCP LoadBalancer web:: 192.168.10.2:8080 M"},
		{name: "an external IP in a range that pods and nodes share", opts: flat, objects: service("web", "{clusterIP: 10.96.0.1, externalIPs: [192.168.77.1], ports: [{port: 80}]}") + host,
			want: remote + "! Service ns/web ForbiddenAddress"},
	})
}
