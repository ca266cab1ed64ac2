package resolve

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier"
)

func labelled(doc, labels string) string {
	return strings.Replace(doc, "namespace: ns,", "namespace: ns, labels: {"+labels+"},", 1)
}

func TestSelection(t *testing.T) {
	local := slice("web", "1", on("10.244.1.11"))
	testRows(t, []row{
		{name: "S-13 ClusterIP", objects: service("web", webSpec) + local, want: webEndpoint},
		{name: "S-01 Service of another proxy", objects: labelled(service("web", webSpec), "service.kubernetes.io/service-proxy-name: ''") + local},
		{name: "S-01 Service of this proxy by name", opts: func(o *Options) { o.ServiceProxyName = "fairway" },
			objects: labelled(service("web", webSpec), "service.kubernetes.io/service-proxy-name: fairway") + local +
				service("unlabelled", "{clusterIP: 10.96.0.2, ports: [{port: 80}]}"),
			want: webEndpoint},
		{name: "S-02 slice hidden from proxies", objects: service("web", webSpec) +
			strings.Replace(local, "labels: {", "labels: {service.kubernetes.io/headless: '', ", 1),
			want: "10.96.0.1:80/TCP ClusterIP web:: reject | reject M | reject M"},
		{name: "S-02 hidden and shown slice with one address", objects: service("web", webSpec) + local +
			strings.Replace(slice("web", "2", on("10.244.1.11")), "labels: {", "labels: {service.kubernetes.io/headless: '', ", 1),
			want: webEndpoint},
		{name: "S-06 no cluster IP", objects: service("web", "{ports: [{port: 80}]}") + local},
		{name: "S-19 headless", objects: service("web", "{clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}") + local},
		{name: "S-18 ExternalName, even with a cluster IP", objects: service("web", "{type: ExternalName, externalName: example.org, clusterIP: 10.96.0.1, ports: [{port: 80}]}") + local},
		{name: "S-07 cluster IP by the index of its family",
			objects: service("web", `{clusterIP: "fd00:96::1", clusterIPs: ["fd00:96::1", 10.96.0.1], ipFamilies: [IPv6, IPv4], ports: [{port: 80}]}`) +
				local + slice("web", "2", on("fd00:244:2::21")),
			want: webEndpoint + "[fd00:96::1]:80/TCP ClusterIP web:: [fd00:244:2::21]:8080 | [fd00:244:2::21]:8080 M | [fd00:244:2::21]:8080 M"},
		{name: "S-07 cluster IP without families", objects: service("web", `{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]}`) + local, want: webEndpoint},
		{name: "S-08 node with one family", opts: func(o *Options) { o.IPv4 = true },
			objects: service("web", `{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00:96::1"], ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}`) +
				local + slice("web", "2", on("fd00:244:1::11")),
			want: webEndpoint},
		{name: "S-08 Service of the family that the node lacks", opts: func(o *Options) { o.IPv6 = true }, objects: service("web", webSpec) + local},
		{name: "S-09 slice of the other family is not mixed in", objects: service("web", webSpec) + local + slice("web", "2", on("fd00:244:1::11")), want: webEndpoint},
		{name: "S-09 slice of names", objects: service("web", webSpec) + local +
			strings.Replace(slice("web", "2", "[{addresses: [example.org]}]"), "IPv4", "FQDN", 1),
			want: webEndpoint + "! EndpointSlice ns/web-2 Unsupported"},
		{name: "S-10 leading zeros are decimal",
			objects: service("web", `{type: LoadBalancer, clusterIP: 10.96.0.041, externalIPs: ["203.0.113.010"], loadBalancerSourceRanges: ["198.051.100.000/025"], ports: [{port: 80}]}`,
				`{loadBalancer: {ingress: [{ip: "198.51.100.004"}]}}`) + slice("web", "1", on("10.244.01.011,zone: x")),
			want: `
			10.96.0.41:80/TCP ClusterIP web:: 10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M
			198.51.100.4:80/TCP LoadBalancer web:: 10.244.1.11:8080 M from [198.51.100.0/25]
			203.0.113.10:80/TCP ExternalIP web:: 10.244.1.11:8080 M
			! EndpointSlice ns/web-1 AmbiguousAddress
			! Service ns/web AmbiguousAddress`},
		{name: "S-11 fields that proxies do not read",
			objects: service("web", `{clusterIP: 10.96.0.1, selector: {a: b}, publishNotReadyAddresses: true, trafficDistribution: PreferClose, loadBalancerIP: 198.51.100.9,
				loadBalancerClass: x, allocateLoadBalancerNodePorts: false, ports: [{port: 80, appProtocol: h2, targetPort: 99}]}`) +
				slice("web", "1", on("10.244.1.11", "10.244.1.12,"+unready)),
			want: webEndpoint},
	})
}

func TestTypes(t *testing.T) {
	local := slice("web", "1", on("10.244.1.11"))
	lb := func(spec, ingress string) string {
		return service("web", "{type: LoadBalancer, clusterIP: 10.96.0.1, "+spec+"}", "{loadBalancer: {ingress: ["+ingress+"]}}") + local
	}
	testRows(t, []row{
		{name: "S-14 NodePort", objects: service("web", "{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}") + local,
			want: "0.0.0.0:30080/TCP NodePort web:: 10.244.1.11:8080 M\n" + webEndpoint},
		{name: "S-14 NodePort is not subject to source ranges", objects: lb("loadBalancerSourceRanges: [1.2.3.0/24], ports: [{port: 80, nodePort: 30080}]", ""),
			want: "0.0.0.0:30080/TCP NodePort web:: 10.244.1.11:8080 M\n" + webEndpoint},
		{name: "S-15 load balancer with several addresses", objects: lb("ports: [{port: 80, nodePort: 30080}]", "{ip: 198.51.100.1}, {ip: 198.51.100.2, ipMode: VIP}, {hostname: lb.example.org}"),
			want: "0.0.0.0:30080/TCP NodePort web:: 10.244.1.11:8080 M\n" + webEndpoint + `
			198.51.100.1:80/TCP LoadBalancer web:: 10.244.1.11:8080 M
			198.51.100.2:80/TCP LoadBalancer web:: 10.244.1.11:8080 M`},
		{name: "S-16 ipMode Proxy", objects: lb("ports: [{port: 80}]", "{ip: 198.51.100.1, ipMode: Proxy}"), want: webEndpoint},
		{name: "S-17 load balancer without node ports", objects: lb("allocateLoadBalancerNodePorts: false, ports: [{port: 80}]", "{ip: 198.51.100.1}"),
			want: webEndpoint + "198.51.100.1:80/TCP LoadBalancer web:: 10.244.1.11:8080 M"},
		{name: "S-20 external IPs of any type, without source ranges",
			objects: service("web", "{clusterIP: 10.96.0.1, externalIPs: [203.0.113.1, 203.0.113.2, 203.0.113.1], loadBalancerSourceRanges: [1.2.3.0/24], ports: [{port: 80}]}") + local,
			want: webEndpoint + `
			203.0.113.1:80/TCP ExternalIP web:: 10.244.1.11:8080 M
			203.0.113.2:80/TCP ExternalIP web:: 10.244.1.11:8080 M`},
		{name: "S-20 an external IP that is also the load balancer's keeps its source ranges",
			objects: lb("externalIPs: [198.51.100.1], loadBalancerSourceRanges: [1.2.3.0/24], ports: [{port: 80}]", "{ip: 198.51.100.1}"),
			want:    webEndpoint + "198.51.100.1:80/TCP LoadBalancer web:: 10.244.1.11:8080 M from [1.2.3.0/24]"},
		{name: "S-20 external IPs switched off", opts: func(o *Options) { o.DenyExternalIPs = true },
			objects: service("web", "{clusterIP: 10.96.0.1, externalIPs: [203.0.113.1], ports: [{port: 80}]}") + local,
			want:    webEndpoint + "! Service ns/web ExternalIPDenied"},
		{name: "S-20 external IPs by range", opts: func(o *Options) { o.ExternalIPRanges = prefixes("203.0.113.0/28") },
			objects: service("web", "{clusterIP: 10.96.0.1, externalIPs: [203.0.113.1, 203.0.113.99], ports: [{port: 80}]}") + local,
			want:    webEndpoint + "203.0.113.1:80/TCP ExternalIP web:: 10.244.1.11:8080 M\n! Service ns/web ExternalIPDenied"},
		{name: "S-21 one number for several protocols",
			objects: service("web", "{type: NodePort, clusterIP: 10.96.0.1, ports: [{name: t, port: 53, nodePort: 30053}, {name: u, port: 53, protocol: UDP, nodePort: 30053}]}") +
				slice("web", "1", on("10.244.1.11"), "[{name: t, port: 1}, {name: u, port: 2, protocol: UDP}]"),
			want: `
			0.0.0.0:30053/TCP NodePort web:t: 10.244.1.11:1 M
			0.0.0.0:30053/UDP NodePort web:u: 10.244.1.11:2 M
			10.96.0.1:53/TCP ClusterIP web:t: 10.244.1.11:1 | 10.244.1.11:1 M | 10.244.1.11:1 M
			10.96.0.1:53/UDP ClusterIP web:u: 10.244.1.11:2 | 10.244.1.11:2 M | 10.244.1.11:2 M`},
		{name: "S-21 one port name with several numbers", objects: service("web", "{clusterIP: 10.96.0.1, ports: [{name: p, port: 80}]}") +
			slice("web", "1", on("10.244.1.11"), "[{name: p, port: 8080}]") + slice("web", "2", on("10.244.1.12"), "[{name: p, port: 9090}, {name: q, port: 1}]"),
			want: "10.96.0.1:80/TCP ClusterIP web:p: 10.244.1.11:8080,10.244.1.12:9090 | 10.244.1.11:8080,10.244.1.12:9090 M | 10.244.1.11:8080,10.244.1.12:9090 M"},
		{name: "S-21 name and protocol must both fit", objects: service("web", "{clusterIP: 10.96.0.1, ports: [{name: p, port: 80}]}") +
			slice("web", "1", on("10.244.1.11"), "[{name: p, port: 8080, protocol: UDP}]"),
			want: "10.96.0.1:80/TCP ClusterIP web:p: reject | reject M | reject M"},
		{name: "S-22 SCTP", objects: service("web", "{clusterIP: 10.96.0.1, ports: [{port: 80, protocol: SCTP}]}") +
			slice("web", "1", on("10.244.1.11"), "[{name: '', port: 8080, protocol: SCTP}]"),
			want: strings.ReplaceAll(webEndpoint, "TCP", "SCTP")},
	})
}

func TestSliceFields(t *testing.T) {
	web := service("web", webSpec)
	testRows(t, []row{
		{name: "S-23 union over slices", objects: web + slice("web", "1", on("10.244.1.12")) + slice("web", "2", on("10.244.1.11")),
			want: strings.ReplaceAll(webEndpoint, "10.244.1.11:8080", "10.244.1.11:8080,10.244.1.12:8080")},
		{name: "S-23 duplicate: the one that is not terminating wins, first", objects: web + slice("web", "1", on("10.244.1.11")) + slice("web", "2", on("10.244.1.11,"+leaving)), want: webEndpoint},
		{name: "S-23 duplicate: the one that is not terminating wins, last", objects: web + slice("web", "1", on("10.244.1.11,"+leaving)) + slice("web", "2", on("10.244.1.11")), want: webEndpoint},
		{name: "S-23 duplicate: the last wins", objects: web + slice("web", "1", on("10.244.1.11")) + slice("web", "2", on("10.244.1.11,"+unready)),
			want: "10.96.0.1:80/TCP ClusterIP web:: reject | reject M | reject M"},
		{name: "S-24 only the first address", objects: web + slice("web", "1", `[{addresses: [10.244.1.11, 10.244.1.99], nodeName: node-1}]`), want: webEndpoint},
		{name: "S-25 nil name, nil port, zero port", objects: web + slice("web", "1", on("10.244.1.11"), `[{port: 1}, {name: ""}, {name: "", port: 0}, {name: "", port: 8080}]`),
			want: webEndpoint + "! EndpointSlice ns/web-1 InvalidPort\n! EndpointSlice ns/web-1 Unsupported"},
		{name: "S-25 protocol defaults to TCP", objects: web + slice("web", "1", on("10.244.1.11"), `[{name: "", port: 8080}]`), want: webEndpoint},
		{name: "S-27 ready and serving default to true, terminating to false", objects: web +
			slice("web", "1", `[{addresses: [10.244.1.11], conditions: {}}, {addresses: [10.244.1.12], conditions: {ready: false}}, {addresses: [10.244.1.13], conditions: {terminating: true, ready: false}}]`),
			want: webEndpoint},
		{name: "S-27 serving does not follow ready", objects: web +
			slice("web", "1", `[{addresses: [10.244.1.11], conditions: {ready: false, terminating: true}}]`), want: webEndpoint},
	})
}

// TestServices looks at the facts that DNS and health checks read.
func TestServices(t *testing.T) {
	in := mustInputs(t, nodeYAML,
		service("headless", "{clusterIP: None, publishNotReadyAddresses: true, ports: [{name: p, port: 80}]}"),
		strings.Replace(slice("headless", "1", on("10.244.1.11,hostname: db-0, zone: zone-a, targetRef: {kind: Pod, namespace: ns, name: db-0}", "10.244.2.21,"+unready), "[{name: p, port: 8080}]"),
			"labels: {", "labels: {service.kubernetes.io/headless: '', ", 1),
		service("name", "{type: ExternalName, externalName: example.org}"),
		service("pending", "{ports: [{port: 80}]}"),
		labelled(service("other", "{clusterIP: 10.96.0.3, ports: [{port: 80}]}"), "service.kubernetes.io/service-proxy-name: mesh"),
		service("lb", "{type: LoadBalancer, clusterIP: 10.96.0.4, sessionAffinity: ClientIP, externalIPs: [203.0.113.1], ports: [{port: 80, nodePort: 30080}]}",
			"{loadBalancer: {ingress: [{ip: 198.51.100.1, ipMode: Proxy}, {ip: 198.51.100.2}]}}"),
	)
	s := mustResolve(t, defaults(), in)
	var got []string
	for _, svc := range s.Services {
		got = append(got, svc.Name+" "+svc.Type+": "+svc.Ignored)
	}
	want := []string{
		"headless ClusterIP: it is headless, which only DNS serves",
		"lb LoadBalancer: ",
		"name ExternalName: it is an ExternalName, which only DNS serves",
		"other ClusterIP: label service.kubernetes.io/service-proxy-name gives it to another proxy",
		"pending ClusterIP: it has no usable cluster IP",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	headless := s.Service(proxier.NamespacedName{Namespace: "ns", Name: "headless"})
	wantEndpoints := []*proxier.Endpoint{
		{Addr: addr("10.244.1.11"), Port: 8080, Local: true, Ready: true, Serving: true, NodeName: "node-1", Zone: "zone-a", Hostname: "db-0", Target: "ns/db-0"},
		{Addr: addr("10.244.2.21"), Port: 8080, NodeName: "node-2"},
	}
	if diff := cmp.Diff(wantEndpoints, headless.Port("p", proxier.TCP).Endpoints, cmpAddr); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !headless.Headless || !headless.PublishNotReady || headless.LocalReady != 1 {
		t.Errorf("got %+v", headless)
	}
	if name := s.Service(proxier.NamespacedName{Namespace: "ns", Name: "name"}); name.ExternalName != "example.org" || name.Headless {
		t.Errorf("got %+v", name)
	}
	lb := s.Service(proxier.NamespacedName{Namespace: "ns", Name: "lb"})
	if got := []any{lb.ClusterIPs, lb.ExternalIPs, lb.LoadBalancer, lb.Affinity}; !cmp.Equal(got, []any{
		addrs("10.96.0.4"), addrs("203.0.113.1"), addrs("198.51.100.1", "198.51.100.2"), defaultAffinity}, cmpAddr) {
		t.Errorf("got %v", got)
	}
}
