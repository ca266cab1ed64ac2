package resolve

import (
	"fmt"
	"strings"
	"testing"
)

// routed is a Service with every kind of address but external IPs, with a policy.
func routed(policy string) string {
	return service("web", "{type: LoadBalancer, clusterIP: 10.96.0.1, "+policy+", ports: [{port: 80, nodePort: 30080}]}",
		"{loadBalancer: {ingress: [{ip: 198.51.100.1}]}}")
}

// columns writes what a routed Service comes to: the routes of its cluster IP and of its other
// addresses.
func columns(cluster, external string) string {
	return fmt.Sprintf("0.0.0.0:30080/TCP NodePort web:: %s\n10.96.0.1:80/TCP ClusterIP web:: %s\n198.51.100.1:80/TCP LoadBalancer web:: %s",
		external, cluster, external)
}

const (
	intLocal = "internalTrafficPolicy: Local"
	extLocal = "externalTrafficPolicy: Local"
	both     = "internalTrafficPolicy: Local, externalTrafficPolicy: Local"
	cluster  = "internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster"
)

func TestTerminating(t *testing.T) {
	eps := func(e ...string) string { return slice("web", "1", on(e...)) }
	testRows(t, []row{
		{name: "S-30 ready endpoints only", objects: routed(cluster) + eps("10.244.1.11", "10.244.1.12,"+leaving, "10.244.2.21,"+unready),
			want: columns("10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M", "10.244.1.11:8080 M")},
		{name: "S-30 no ready one: terminating ones that serve", objects: routed(cluster) + eps("10.244.1.12,"+leaving, "10.244.2.21,"+gone, "10.244.2.22,"+leaving),
			want: columns("10.244.1.12:8080,10.244.2.22:8080 | 10.244.1.12:8080,10.244.2.22:8080 M | 10.244.1.12:8080,10.244.2.22:8080 M",
				"10.244.1.12:8080,10.244.2.22:8080 M")},
		{name: "S-30 terminating ones without regard to hints", objects: routed(cluster) +
			eps("10.244.1.12,"+leaving+", hints: {forZones: [{name: zone-a}]}", "10.244.2.22,"+leaving+", hints: {forZones: [{name: zone-b}]}"),
			want: columns("10.244.1.12:8080,10.244.2.22:8080 | 10.244.1.12:8080,10.244.2.22:8080 M | 10.244.1.12:8080,10.244.2.22:8080 M",
				"10.244.1.12:8080,10.244.2.22:8080 M")},
		{name: "S-31 local: terminating ones although others are ready elsewhere", objects: routed(both) + eps("10.244.1.12,"+leaving, "10.244.2.21"),
			want: columns("10.244.1.12:8080 | 10.244.1.12:8080 M | 10.244.1.12:8080 M", "10.244.2.21:8080 | 10.244.2.21:8080 M | 10.244.1.12:8080")},
		{name: "S-31 local: ready before terminating", objects: routed(both) + eps("10.244.1.11", "10.244.1.12,"+leaving),
			want: columns("10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M", "10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080")},
		{name: "S-31 local set is not narrowed by hints", objects: routed(both) + eps("10.244.1.11,hints: {forZones: [{name: zone-b}]}", "10.244.2.21,hints: {forZones: [{name: zone-a}]}"),
			want: columns("10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 M", "10.244.2.21:8080 | 10.244.2.21:8080 M | 10.244.1.11:8080")},
		{name: "S-32 remote terminating endpoints make it a drop", objects: routed(both) + eps("10.244.2.21,"+leaving),
			want: columns("drop | drop M | drop M", "10.244.2.21:8080 | 10.244.2.21:8080 M | drop")},
		{name: "S-32 endpoints that do not serve make it a reject", objects: routed(both) + eps("10.244.1.12,"+unready, "10.244.2.21,"+gone),
			want: columns("reject | reject M | reject M", "reject | reject M | reject")},
	})
}

func TestPolicies(t *testing.T) {
	remote := slice("web", "1", on("10.244.2.21"))
	local := slice("web", "1", on("10.244.1.11"))
	testRows(t, []row{
		{name: "S-26 nodeName decides, not the address", objects: routed(intLocal) +
			slice("web", "1", "[{addresses: [10.244.2.21], nodeName: node-1}, {addresses: [10.244.1.11], nodeName: node-2}, {addresses: [10.244.1.12]}]"),
			want: columns("10.244.2.21:8080 | 10.244.2.21:8080 M | 10.244.2.21:8080 M", "10.244.1.11:8080,10.244.1.12:8080,10.244.2.21:8080 M")},
		{name: "S-33 both local, not reachable from outside", objects: service("web", "{clusterIP: 10.96.0.1, "+both+", ports: [{port: 80}]}") + local, want: webEndpoint},
		{name: "S-37 internal Local without local endpoint drops on the cluster IP only", objects: routed(intLocal) + remote,
			want: columns("drop | drop M | drop M", "10.244.2.21:8080 M")},
		{name: "S-38 external Local does not affect the cluster IP", objects: routed(extLocal) + remote,
			want: columns("10.244.2.21:8080 | 10.244.2.21:8080 M | 10.244.2.21:8080 M", "10.244.2.21:8080 | 10.244.2.21:8080 M | drop")},
		{name: "S-38 external Local without effect on a ClusterIP Service", objects: service("web", "{clusterIP: 10.96.0.1, externalTrafficPolicy: Local, ports: [{port: 80}]}") + local, want: webEndpoint},
		{name: "S-38 external Local with external IPs", objects: service("web", "{clusterIP: 10.96.0.1, externalTrafficPolicy: Local, externalIPs: [203.0.113.1], ports: [{port: 80}]}") + remote,
			want: strings.ReplaceAll(webEndpoint, "10.244.1.11", "10.244.2.21") + "203.0.113.1:80/TCP ExternalIP web:: 10.244.2.21:8080 | 10.244.2.21:8080 M | drop"},
		{name: "S-39a no endpoints at all rejects everywhere", objects: routed(both), want: columns("reject | reject M | reject M", "reject | reject M | reject")},
		{name: "S-39b short-circuited sources still pass", objects: routed(both) + remote,
			want: columns("drop | drop M | drop M", "10.244.2.21:8080 | 10.244.2.21:8080 M | drop")},
		{name: "S-45 no detector", opts: func(o *Options) { o.Detect.ClusterCIDRs = nil }, objects: routed(extLocal) + remote,
			want: columns("10.244.2.21:8080", "drop | 10.244.2.21:8080 M | drop")},
		{name: "S-45 masqueradeAll", opts: func(o *Options) { o.MasqueradeAll = true }, objects: routed(extLocal) + local,
			want: columns("10.244.1.11:8080 M", "10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080")},
		{name: "S-47 detector of the other family is none", opts: func(o *Options) { o.Detect.ClusterCIDRs = prefixes("fd00:244::/32") }, objects: routed(extLocal) + remote,
			want: columns("10.244.2.21:8080", "drop | 10.244.2.21:8080 M | drop")},
		{name: "S-47 detection by interface tells pods of both families", opts: func(o *Options) { o.Detect = Detect{Mode: DetectInterfaceNamePrefix, Interface: "veth"} }, objects: routed(extLocal) + remote,
			want: columns("10.244.2.21:8080 | 10.244.2.21:8080 M | 10.244.2.21:8080 M", "10.244.2.21:8080 | 10.244.2.21:8080 M | drop")},
		{name: "S-54 affinity, default", objects: service("web", "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, ports: [{port: 80}]}") + local,
			want: strings.TrimSpace(webEndpoint) + " sticky 3h0m0s"},
		{name: "S-54 affinity, given", objects: service("web", "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}, ports: [{port: 80}]}") + local,
			want: strings.TrimSpace(webEndpoint) + " sticky 7s"},
		{name: "S-54 affinity, too long", objects: service("web", "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, ports: [{port: 80}]}") + local,
			want: strings.TrimSpace(webEndpoint) + " sticky 24h0m0s\n! Service ns/web InvalidField"},
		{name: "S-54 affinity None with a time-out", objects: service("web", "{clusterIP: 10.96.0.1, sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}, ports: [{port: 80}]}") + local,
			want: webEndpoint},
		{name: "S-58 affinity with Local policies", objects: service("web", "{type: NodePort, clusterIP: 10.96.0.1, sessionAffinity: ClientIP, "+both+", ports: [{port: 80, nodePort: 30080}]}") + local,
			want: "0.0.0.0:30080/TCP NodePort web:: 10.244.1.11:8080 | 10.244.1.11:8080 M | 10.244.1.11:8080 sticky 3h0m0s\n" + strings.TrimSpace(webEndpoint) + " sticky 3h0m0s"},
		{name: "S-43 balance by annotation", objects: annotated("balance: maglev") + local, want: strings.TrimSpace(webEndpoint) + " by maglev"},
		{name: "S-43 unknown balance", objects: annotated("balance: fastest") + local, want: webEndpoint + "! Service ns/web UnknownAnnotation"},
		{name: "S-43 unknown annotation of ours", objects: annotated("colour: blue") + local, want: webEndpoint + "! Service ns/web UnknownAnnotation"},
		{name: "S-43 annotations of others", objects: strings.Replace(service("web", webSpec), "namespace: ns,", "namespace: ns, annotations: {example.org/balance: x},", 1) + local, want: webEndpoint},
	})
}

func annotated(annotation string) string {
	return strings.Replace(service("web", webSpec), "namespace: ns,", "namespace: ns, annotations: {fairway.dev/"+annotation+"},", 1)
}

func TestTopology(t *testing.T) {
	hint := func(addr, level string, names ...string) string {
		var refs []string
		for _, n := range names {
			refs = append(refs, "{name: "+n+"}")
		}
		return fmt.Sprintf("%s,hints: {%s: [%s]}", addr, level, strings.Join(refs, ", "))
	}
	only := func(addrs ...string) string {
		for i := range addrs {
			addrs[i] += ":8080"
		}
		return strings.ReplaceAll(webEndpoint, "10.244.1.11:8080", strings.Join(addrs, ","))
	}
	both := func(addr, zone, node string) string {
		return fmt.Sprintf("%s,hints: {forZones: [{name: %s}], forNodes: [{name: %s}]}", addr, zone, node)
	}
	const a, f, g = "10.244.1.11", "10.244.2.21", "10.244.2.22"
	tests := []struct {
		name      string
		endpoints []string
		want      string
	}{
		{"S-40 zone", []string{hint(a, "forZones", "zone-a"), hint(f, "forZones", "zone-b")}, only(a)},
		{"S-40 several zones", []string{hint(a, "forZones", "zone-b", "zone-a"), hint(f, "forZones", "zone-a", "zone-c"), hint(g, "forZones", "zone-c")}, only(a, f)},
		{"S-40 one endpoint without hints switches it off", []string{hint(a, "forZones", "zone-a"), hint(f, "forZones", "zone-b"), g}, only(a, f, g)},
		{"S-40 an unready endpoint without hints does not", []string{hint(a, "forZones", "zone-a"), hint(f, "forZones", "zone-b"), g + "," + unready}, only(a)},
		{"S-40 no hint for this zone", []string{hint(a, "forZones", "zone-b"), hint(f, "forZones", "zone-b")}, only(a, f)},
		{"S-40 only an unready one for this zone", []string{hint(a, "forZones", "zone-a") + ", " + unready, hint(f, "forZones", "zone-b")}, only(f)},
		{"S-40 empty hints are none", []string{hint(a, "forZones", "zone-a"), f + ",hints: {}"}, only(a, f)},
		{"S-40 node", []string{hint(a, "forNodes", "node-1"), hint(f, "forNodes", "node-2")}, only(a)},
		{"S-40 no hint for this node", []string{hint(a, "forNodes", "node-2"), hint(f, "forNodes", "node-2")}, only(a, f)},
		{"S-40 node before zone", []string{both(a, "zone-a", "node-1"), both(f, "zone-a", "node-2")}, only(a)},
		{"S-40 node although the zone is another", []string{both(a, "zone-b", "node-1"), both(f, "zone-a", "node-2")}, only(a)},
		{"S-40 no hint for this node: zone", []string{both(a, "zone-b", "node-3"), both(f, "zone-a", "node-2"), both(g, "zone-a", "node-3")}, only(f, g)},
		{"S-40 node hints not on all: zone", []string{both(a, "zone-a", "node-1"), hint(f, "forZones", "zone-a"), hint(g, "forZones", "zone-b")}, only(a, f)},
	}
	var rows []row
	for _, tc := range tests {
		rows = append(rows, row{name: tc.name, objects: service("web", webSpec) + slice("web", "1", on(tc.endpoints...)), want: tc.want})
	}
	testRows(t, rows)
	t.Run("S-42 node without a zone", func(t *testing.T) {
		in := mustInputs(t, strings.Replace(nodeYAML, "zone: zone-a", "zone: ''", 1), service("web", webSpec)+
			slice("web", "1", on(hint(a, "forZones", "''"), hint(f, "forZones", "zone-b"))))
		if got, want := render(mustResolve(t, defaults(), in)), only(a, f); got != want {
			t.Errorf("want:\n%s\ngot:\n%s", want, got)
		}
	})
	t.Run("S-42 the zone changes", func(t *testing.T) {
		objects := service("web", webSpec) + slice("web", "1", on(hint(a, "forZones", "zone-a"), hint(f, "forZones", "zone-b")))
		in := mustInputs(t, nodeYAML, objects)
		r := New(defaults())
		r.Resolve(in)
		in.Node = mustInputs(t, strings.Replace(nodeYAML, "zone-a", "zone-b", 1)).Node
		if got, want := render(r.Resolve(in)), only(f); got != want {
			t.Errorf("want:\n%s\ngot:\n%s", want, got)
		}
	})
}

func TestSourceRanges(t *testing.T) {
	lb := func(ranges string) string {
		return service("web", `{type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00:96::1"], loadBalancerSourceRanges: [`+ranges+`], ports: [{port: 80}]}`,
			`{loadBalancer: {ingress: [{ip: 198.51.100.1}, {ip: "2001:db8:100::1"}]}}`)
	}
	const (
		v4 = "10.96.0.1:80/TCP ClusterIP web:: reject | reject M | reject M\n198.51.100.1:80/TCP LoadBalancer web:: reject M"
		v6 = "[2001:db8:100::1]:80/TCP LoadBalancer web:: reject M"
		c6 = "[fd00:96::1]:80/TCP ClusterIP web:: reject | reject M | reject M\n"
	)
	testRows(t, []row{
		{name: "S-50 none", objects: lb(""), want: v4 + "\n" + v6 + "\n" + c6},
		{name: "S-50 by family, trimmed, sorted, distinct", objects: lb(`" 192.0.2.0/24 ", "2001:db8::/48", "10.0.0.5/8", "192.0.2.0/24"`),
			want: v4 + " from [10.0.0.0/8 192.0.2.0/24]\n" + v6 + " from [2001:db8::/48]\n" + c6},
		{name: "S-50 a range of length 0 lets in everyone of its family", objects: lb(`192.0.2.0/24, 0.0.0.0/0, "2001:db8::/48"`), want: v4 + "\n" + v6 + " from [2001:db8::/48]\n" + c6},
		{name: "S-50 only the other family is named", objects: lb("192.0.2.0/24"), want: v4 + " from [192.0.2.0/24]\n" + v6 + "\n" + c6},
		{name: "S-52 with the node's own address, the address itself may come", objects: lb("192.168.10.0/24"), want: v4 + " from [192.168.10.0/24 198.51.100.1/32]\n" + v6 + "\n" + c6},
		{name: "S-52 IPv6", objects: lb(`"fd00:10::/64"`), want: v4 + "\n" + v6 + " from [2001:db8:100::1/128 fd00:10::/64]\n" + c6},
		{name: "S-50 one of two ranges is unreadable", objects: lb("192.0.2.0/24, 192.0.2.0/33"), want: v4 + " from [192.0.2.0/24]\n" + c6 + "! Service ns/web InvalidSourceRange"},
		{name: "S-50 all ranges are unreadable: nobody can be meant", objects: lb("example.org/24"),
			want: "10.96.0.1:80/TCP ClusterIP web:: reject | reject M | reject M\n" + c6 + "! Service ns/web InvalidSourceRange"},
	})
}
