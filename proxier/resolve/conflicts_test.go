package resolve

import (
	"strings"
	"testing"
)

func created(doc, when string) string {
	return strings.Replace(doc, "namespace: ns,", "namespace: ns, creationTimestamp: "+when+",", 1)
}

const (
	oldest = "2025-01-01T00:00:00Z"
	newest = "2026-01-01T00:00:00Z"
)

func TestConflicts(t *testing.T) {
	ext := func(name, ip, more string) string {
		return service(name, "{clusterIP: "+ip+", "+more+"}")
	}
	testRows(t, []row{
		{name: "external IP: the older Service wins",
			objects: created(ext("a", "10.96.0.1", "externalIPs: [203.0.113.1], ports: [{port: 80}]"), newest) + created(ext("b", "10.96.0.2", "externalIPs: [203.0.113.1], ports: [{port: 80}]"), oldest),
			want: `
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			203.0.113.1:80/TCP ExternalIP b:: reject M
			! Service ns/a AddressConflict`},
		{name: "external IP: equal age, the first name wins",
			objects: created(ext("b", "10.96.0.2", "externalIPs: [203.0.113.1], ports: [{port: 80}]"), oldest) + created(ext("a", "10.96.0.1", "externalIPs: [203.0.113.1], ports: [{port: 80}]"), oldest),
			want: `
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			203.0.113.1:80/TCP ExternalIP a:: reject M
			! Service ns/b AddressConflict`},
		{name: "external IP: a Service of unknown age loses",
			objects: ext("a", "10.96.0.1", "externalIPs: [203.0.113.1], ports: [{port: 80}]") + created(ext("b", "10.96.0.2", "externalIPs: [203.0.113.1], ports: [{port: 80}]"), newest),
			want: `
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			203.0.113.1:80/TCP ExternalIP b:: reject M
			! Service ns/a AddressConflict`},
		{name: "external IP against load balancer: the older Service wins",
			objects: created(ext("a", "10.96.0.1", "externalIPs: [198.51.100.1], ports: [{port: 80}]"), newest) +
				created(service("b", "{type: LoadBalancer, clusterIP: 10.96.0.2, ports: [{port: 80}]}", "{loadBalancer: {ingress: [{ip: 198.51.100.1}]}}"), oldest),
			want: `
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			198.51.100.1:80/TCP LoadBalancer b:: reject M
			! Service ns/a AddressConflict`},
		{name: "another port or protocol of the address is no conflict",
			objects: ext("a", "10.96.0.1", "externalIPs: [203.0.113.1], ports: [{port: 80}]") + ext("b", "10.96.0.2", "externalIPs: [203.0.113.1], ports: [{port: 80, protocol: UDP}]"),
			want: `
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/UDP ClusterIP b:: reject | reject M | reject M
			203.0.113.1:80/TCP ExternalIP a:: reject M
			203.0.113.1:80/UDP ExternalIP b:: reject M`},
		{name: "cluster IP: the older Service wins",
			objects: created(ext("a", "10.96.0.1", "ports: [{port: 80}, {name: x, port: 81}]"), newest) + created(ext("b", "10.96.0.1", "ports: [{port: 80}]"), oldest),
			want: `
			10.96.0.1:80/TCP ClusterIP b:: reject | reject M | reject M
			10.96.0.1:81/TCP ClusterIP a:x: reject | reject M | reject M
			! Service ns/a AddressConflict`},
		{name: "no port of a cluster IP is for others, outside the known ranges too",
			objects: created(ext("a", "172.30.0.1", "ports: [{port: 443}]"), newest) + created(ext("b", "10.96.0.2", "externalIPs: [172.30.0.1], ports: [{port: 443}, {name: x, port: 80}]"), oldest),
			want: `
			10.96.0.2:80/TCP ClusterIP b:x: reject | reject M | reject M
			10.96.0.2:443/TCP ClusterIP b:: reject | reject M | reject M
			172.30.0.1:443/TCP ClusterIP a:: reject | reject M | reject M
			! Service ns/b AddressConflict`},
		{name: "the cluster IP of a Service of another proxy is not for others",
			objects: labelled(ext("a", "172.30.0.1", "ports: [{port: 443}]"), "service.kubernetes.io/service-proxy-name: mesh") + ext("b", "10.96.0.2", "externalIPs: [172.30.0.1], ports: [{port: 80}]"),
			want: `
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			! Service ns/b AddressConflict`},
		{name: "node port: the older Service wins, in each family",
			objects: created(service("a", `{type: NodePort, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00:96::1"], ports: [{port: 80, nodePort: 30080}]}`), newest) +
				created(service("b", "{type: NodePort, clusterIP: 10.96.0.2, ports: [{port: 80, nodePort: 30080}]}"), oldest),
			want: `
			0.0.0.0:30080/TCP NodePort b:: reject M
			10.96.0.1:80/TCP ClusterIP a:: reject | reject M | reject M
			10.96.0.2:80/TCP ClusterIP b:: reject | reject M | reject M
			[::]:30080/TCP NodePort a:: reject M
			[fd00:96::1]:80/TCP ClusterIP a:: reject | reject M | reject M
			! Service ns/a PortConflict`},
		{name: "two ports of one Service with one number",
			objects: ext("a", "10.96.0.1", "ports: [{name: x, port: 80}, {name: y, port: 80}]"),
			want: `
			10.96.0.1:80/TCP ClusterIP a:x: reject | reject M | reject M
			! Service ns/a DuplicatePort`},
	})
}

func TestHealthPortConflicts(t *testing.T) {
	lb := func(name, ip, port, when string) string {
		return created(service(name, "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: "+port+", clusterIP: "+ip+", ports: [{port: 80}]}"), when)
	}
	node := func(name, ip, port, when string) string {
		return created(service(name, "{type: NodePort, clusterIP: "+ip+", ports: [{port: 80, nodePort: "+port+"}]}"), when)
	}
	tests := []struct {
		name    string
		objects string
		ports   []uint16 // health check ports of the Services, in order
		nodes   int      // node port frontends
		loser   string
	}{
		{"two health check ports", lb("a", "10.96.0.1", "32000", newest) + lb("b", "10.96.0.2", "32000", oldest), []uint16{0, 32000}, 0, "ns/a"},
		{"against a newer node port", lb("a", "10.96.0.1", "32000", oldest) + node("b", "10.96.0.2", "32000", newest), []uint16{32000, 0}, 0, "ns/b"},
		{"against an older node port", lb("a", "10.96.0.1", "32000", newest) + node("b", "10.96.0.2", "32000", oldest), []uint16{0, 0}, 1, "ns/a"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := mustResolve(t, defaults(), mustInputs(t, nodeYAML, tc.objects))
			nodes := 0
			for _, f := range s.Frontends {
				if f.IsNodePort() {
					nodes++
				}
			}
			if got := []uint16{s.Services[0].HealthCheckPort, s.Services[1].HealthCheckPort}; got[0] != tc.ports[0] || got[1] != tc.ports[1] || nodes != tc.nodes {
				t.Errorf("want ports %v and %d node ports, got %v and %d", tc.ports, tc.nodes, got, nodes)
			}
			if len(s.Problems) != 1 || s.Problems[0].Object.String() != tc.loser || s.Problems[0].Reason != ReasonPortConflict {
				t.Errorf("got %v", s.Problems)
			}
		})
	}
}

// TestTakeOver lets winners go and come back: the loser has the address in between.
func TestTakeOver(t *testing.T) {
	a := created(service("a", "{clusterIP: 10.96.0.1, externalIPs: [203.0.113.1], ports: [{port: 80}]}"), oldest)
	b := created(service("b", "{clusterIP: 10.96.0.2, externalIPs: [203.0.113.1], ports: [{port: 80}]}"), newest)
	owner := created(service("c", "{clusterIP: 203.0.113.1, ports: [{port: 443}]}"), newest)
	r := New(defaults())
	for _, step := range []struct{ objects, owner, problems string }{
		{a + b, "a", "ns/b"},
		{b, "b", ""},
		{b + owner, "", "ns/b"},
		{b, "b", ""},
		{a + b + owner, "", "ns/a ns/b"},
		{a + b, "a", "ns/b"},
		{strings.ReplaceAll(a, "203.0.113.1", "203.0.113.2") + b, "b", ""},
	} {
		s := r.Resolve(mustInputs(t, nodeYAML, step.objects))
		got, problems := "", []string(nil)
		for _, f := range s.Frontends {
			if f.Addr == addr("203.0.113.1") && f.Port == 80 {
				got = f.Owner.Name
			}
		}
		for _, p := range s.Problems {
			problems = append(problems, p.Object.String())
		}
		if got != step.owner || strings.Join(problems, " ") != step.problems {
			t.Errorf("want owner %q and problems of %q, got %q and %v", step.owner, step.problems, got, s.Problems)
		}
	}
}

// TestSteps takes a Resolver through changes that random ones rarely hit, and compares each
// snapshot with a fresh Resolver's.
func TestSteps(t *testing.T) {
	ext := func(name, ip, external, ports string) string {
		return created(service(name, "{clusterIP: "+ip+", externalIPs: ["+external+"], ports: ["+ports+"]}"), newest)
	}
	tests := []struct {
		name  string
		steps []string
	}{
		{"one of two ports of an address goes, then the address becomes a cluster IP", []string{
			ext("a", "10.96.0.1", "203.0.113.1", "{name: x, port: 80}, {name: y, port: 81}"),
			ext("a", "10.96.0.1", "203.0.113.1", "{name: x, port: 80}"),
			ext("a", "10.96.0.1", "203.0.113.1", "{name: x, port: 80}") + ext("b", "203.0.113.1", "", "{port: 443}"),
		}},
		{"an external IP becomes a load balancer's", []string{
			service("a", "{type: LoadBalancer, clusterIP: 10.96.0.1, externalIPs: [198.51.100.1], ports: [{port: 80}]}"),
			service("a", "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}", "{loadBalancer: {ingress: [{ip: 198.51.100.1}]}}"),
		}},
		{"another Service takes the winner's place", []string{
			ext("a", "10.96.0.1", "203.0.113.1", "{port: 80}") + ext("c", "10.96.0.3", "203.0.113.1", "{port: 80}"),
			ext("b", "10.96.0.2", "203.0.113.1", "{port: 80}") + ext("c", "10.96.0.3", "203.0.113.1", "{port: 80}"),
		}},
		{"the owner of a cluster IP changes", []string{
			ext("a", "10.96.0.1", "203.0.113.1", "{port: 80}") + ext("b", "203.0.113.1", "", "{port: 80}"),
			ext("a", "10.96.0.1", "203.0.113.1", "{port: 80}") + ext("c", "203.0.113.1", "", "{port: 80}"),
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := New(defaults())
			for i, objects := range tc.steps {
				in := mustInputs(t, nodeYAML, objects)
				if diff := differs(New(defaults()).Resolve(in), r.Resolve(in)); diff != "" {
					t.Errorf("step %d (-fresh +incremental)\n%s", i, diff)
				}
			}
		})
	}
}
