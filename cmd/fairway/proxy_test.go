package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// each runs a test on every variant of iptables.
func each(t *testing.T, f func(t *testing.T, s *stage)) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) { f(t, newStage(t, variant)) })
	}
}

// TestProxyFollowsTheFolder: a running proxy does what the files say, as they change.
func TestProxyFollowsTheFolder(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		a := s.start()
		const web = "10.96.0.10:80"
		at := func(to string) func() string {
			return func() string { return s.reached(demoClient, to, 30) }
		}
		if got := at(web)(); got != "a b f" {
			t.Errorf("at first: %s", got)
		}
		text, err := os.ReadFile(filepath.Join(s.dir, "endpoints.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		s.write("endpoints.yaml", strings.ReplaceAll(string(text), "{addresses: [10.244.1.11], nodeName: node-1, conditions: {ready: true}}",
			"{addresses: [10.244.1.11], nodeName: node-1, conditions: {ready: false}}"))
		s.eventually("an endpoint that is not ready", "b f", at(web))

		s.write("endpoints.yaml", "kind: [no manifest\n")
		s.eventually("problems", "InvalidManifest", func() string {
			out, _, _ := run(t, "get", "problems", "--admin-socket", s.socket)
			for _, word := range strings.Fields(out) {
				if word == "InvalidManifest" {
					return word
				}
			}
			return out
		})
		if got := at(web)(); got != "b f" {
			t.Errorf("with a broken file: %s, want the last good state", got)
		}
		s.write("endpoints.yaml", string(text))
		s.eventually("the file is good again", "a b f", at(web))

		s.write("more.yaml", `{apiVersion: v1, kind: Service, metadata: {name: more, namespace: shop},
  spec: {clusterIP: 10.96.0.99, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: more, namespace: shop, labels: {kubernetes.io/service-name: more}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.2.21]}]}
`)
		s.eventually("a new Service", "f", at("10.96.0.99:80"))
		if err := os.Remove(filepath.Join(s.dir, "more.yaml")); err != nil {
			t.Fatal(err)
		}
		s.eventually("a Service that went", "silent", at("10.96.0.99:80"))
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRestart: a proxy that ends and one that starts leave the kernel alone, and a connection
// with traffic notices neither.
func TestRestart(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			writes := spy(t, "iptables-"+variant+"-restore", "ip6tables-"+variant+"-restore")
			s := newStage(t, variant)
			first := s.start()
			if writes() == 0 {
				t.Fatal("the test is pointless: the first start wrote nothing that was seen")
			}
			stream, err := s.Stream(netlab.Outside, netip.MustParseAddrPort("198.51.100.10:80"))
			if err != nil {
				t.Fatal(err)
			}
			rules := s.rules()
			before := writes()
			for _, end := range []func(){func() {
				if err := first.stop(); err != nil {
					t.Error(err)
				}
			}, func() {}} {
				end()
				if err := stream.Alive(20); err != nil {
					t.Errorf("without a proxy: %v", err)
				}
				second := s.start()
				if err := stream.Alive(20); err != nil {
					t.Errorf("with the next proxy: %v", err)
				}
				second.kill()
			}
			if n := writes() - before; n != 0 {
				t.Errorf("two restarts wrote %d times to the kernel", n)
			}
			if after := s.rules(); after != rules {
				t.Errorf("rules before:\n%s\nafter:\n%s", rules, after)
			}
			if err := stream.Close(); err != nil {
				t.Errorf("the connection: %v", err)
			}
		})
	}
}

// TestCleanup: "fairway cleanup" brings back what was there before, somebody else's rules
// included.
func TestCleanup(t *testing.T) {
	each(t, func(t *testing.T, s *stage) {
		for _, program := range []string{"iptables-" + s.variant, "ip6tables-" + s.variant} {
			for _, args := range []string{
				"-t filter -A FORWARD -p tcp --dport 4444 -j DROP", "-t filter -N OTHERS", "-t filter -A INPUT -j OTHERS",
				"-t nat -A POSTROUTING -p udp --dport 4444 -j MASQUERADE", "-t mangle -A PREROUTING -j MARK --set-mark 1",
			} {
				s.on(program, strings.Fields(args)...)
			}
		}
		before := s.rules()
		a := s.start()
		if s.rules() == before {
			t.Fatal("the test is pointless: nothing was programmed")
		}
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		s.on(os.Args[0], "cleanup")
		if after := s.rules(); after != before {
			t.Errorf("rules before:\n%s\nafter:\n%s", before, after)
		}
		s.on(os.Args[0], "cleanup") // there is nothing to do
	})
}

// TestOneProxyPerNode: a second proxy ends at once, with an error that names the first.
func TestOneProxyPerNode(t *testing.T) {
	s := newStage(t, "nft")
	s.start()
	second := s.startUnready()
	select {
	case <-second.done:
	case <-time.After(patience):
		t.Fatal("it runs")
	}
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(second.logged(), "another fairway proxy (pid ") {
		t.Errorf("exit code %d:\n%s", code, second.logged())
	}
}

// TestServers: the addresses that kube-proxy's users ask.
func TestServers(t *testing.T) {
	s := newStage(t, "nft")
	s.start("--profiling")
	const local = "127.0.0.1:10249"
	tests := []struct {
		from, addr, path string
		code             int
		body             string // part of it
	}{
		{netlab.Node1, local, "/proxyMode", 200, "iptables"},
		{netlab.Node1, local, "/healthz", 200, "ok"},
		{netlab.Node1, local, "/metrics", 200, `kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} `},
		{netlab.Node1, local, "/metrics", 200, "\nfairway_frontends " + strconv.Itoa(demoFrontends) + "\n"},
		{netlab.Node1, local, "/configz", 200, `{"kubeproxy.config.k8s.io":{"kind":"KubeProxyConfiguration"`},
		{netlab.Node1, local, "/configz", 200, `"clusterCIDR":"10.244.0.0/16,fd00:244::/32"`},
		{netlab.Node1, local, "/debug/pprof/cmdline", 200, "--profiling"},
		{netlab.Outside, "192.168.20.1:10256", "/healthz", 200, `"nodeEligible":true,"healthy":true,"status":{"IPv4":`},
		{netlab.Outside, "192.168.20.1:10256", "/livez", 200, `"healthy":true`},
		{netlab.Outside, "192.168.20.1:32081", "/", 200, `{"service":{"namespace":"shop","name":"till"},"localEndpoints":1,"serviceProxyHealthy":true}`},
		{netlab.Outside, "[fd00:20::1]:32081", "/", 200, `"localEndpoints":1`},
	}
	for _, tc := range tests {
		code, body := s.httpGet(tc.from, tc.addr, tc.path)
		if code != tc.code || !strings.Contains(body, tc.body) {
			t.Errorf("GET %s%s: %d, want %d with %q in\n%s", tc.addr, tc.path, code, tc.code, tc.body, body)
		}
	}
	// The node is about to go: load balancers must leave it, kubelet must not restart it.
	text, err := os.ReadFile(filepath.Join(s.dir, "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("node.yaml", strings.Replace(string(text), "spec:", "spec:\n  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]", 1))
	s.eventually("/healthz of a node that goes", "503", func() string {
		if code, _ := s.httpGet(netlab.Outside, "192.168.20.1:10256", "/healthz"); code == 503 {
			return "503"
		}
		return "200"
	})
	if code, _ := s.httpGet(netlab.Outside, "192.168.20.1:10256", "/livez"); code != 200 {
		t.Errorf("/livez of a node that goes: %d", code)
	}
}

// TestLocalhostNodePort: TCP NodePorts answer on the loopback addresses.
func TestLocalhostNodePort(t *testing.T) {
	s := newStage(t, "nft")
	s.start()
	for _, to := range []string{"127.0.0.1:30080", "[::1]:30080"} {
		s.eventually(to, "a b f", func() string { return s.reached(netlab.Node1, to, 40) })
	}
	if out := s.on("cat", "/proc/sys/net/ipv4/conf/all/route_localnet"); strings.TrimSpace(out) != "0" {
		t.Errorf("route_localnet is %s", out)
	}
}

// TestLeastPrivilege: the capabilities that deploy/fairway.yaml gives are enough.
func TestLeastPrivilege(t *testing.T) {
	for variant, caps := range map[string]string{"nft": "net_admin", "legacy": "net_admin,net_raw"} {
		t.Run(variant, func(t *testing.T) {
			s := newStage(t, variant)
			bounded := strings.ReplaceAll("-all,+"+caps, ",net", ",+net")
			args := append([]string{"--bounding-set", bounded, "--inh-caps", bounded, "--no-new-privs", "--", os.Args[0], "proxy", "--admin-socket", s.socket}, s.flags()...)
			a := &agent{socket: s.socket, done: make(chan struct{})}
			started := make(chan error)
			go a.run(s.Lab, netlab.Node1, started, "setpriv", args...)
			if err := <-started; err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.kill)
			if err := a.ready(t.Context(), demoFrontends); err != nil {
				t.Fatal(err)
			}
			if got := s.reached(netlab.Outside, "198.51.100.10:80", 40); got != "a b f" {
				t.Errorf("outside reaches %s", got)
			}
			if log := a.logged(); strings.Contains(log, "level=ERROR") {
				t.Errorf("errors in the log:\n%s", log)
			}
			if err := a.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSignals: each of them ends the proxy with 0 and leaves the rules.
func TestSignals(t *testing.T) {
	s := newStage(t, "nft")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		a := s.start()
		rules := s.rules()
		if err := a.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		select {
		case <-a.done:
		case <-time.After(patience):
			t.Fatalf("%v does not end the proxy", sig)
		}
		if code := a.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%v: exit code %d\n%s", sig, code, a.logged())
		}
		if after := s.rules(); after != rules {
			t.Errorf("%v changed the rules to\n%s", sig, after)
		}
	}
	if got := s.reached(demoClient, "10.96.0.10:80", 40); got != "a b f" {
		t.Errorf("without a proxy: %s", got)
	}
}

// TestNetworkProgramming: the objective of Kubernetes is measured from what the endpoint
// controller wrote into a slice until the rules are there.
func TestNetworkProgramming(t *testing.T) {
	s := newStage(t, "nft")
	s.start()
	metric := func(name string) string {
		_, body := s.httpGet(netlab.Node1, "127.0.0.1:10249", "/metrics")
		for line := range strings.Lines(body) {
			if value, found := strings.CutPrefix(line, "kubeproxy_network_programming_duration_seconds_"+name+" "); found {
				return strings.TrimSpace(value)
			}
		}
		return "none"
	}
	if got := metric(`count{ip_family="IPv4"}`); got != "0" {
		t.Errorf("the first state counts: %s", got)
	}
	began := time.Now()
	s.write("more.yaml", `{apiVersion: v1, kind: Service, metadata: {name: more, namespace: shop},
  spec: {clusterIP: 10.96.0.99, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: more, namespace: shop, labels: {kubernetes.io/service-name: more},
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: "`+began.UTC().Format(time.RFC3339Nano)+`"}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.2.21]}]}
`)
	s.eventually("a change of endpoints", "1", func() string { return metric(`count{ip_family="IPv4"}`) })
	took, err := strconv.ParseFloat(metric(`sum{ip_family="IPv4"}`), 64)
	if err != nil || took <= 0 || took > time.Since(began).Seconds() {
		t.Errorf("it took %v s of %v, %v", took, time.Since(began), err)
	}
	if got := s.reached(demoClient, "10.96.0.99:80", 1); got != "f" {
		t.Errorf("the Service leads to %s", got)
	}
	if got := metric(`count{ip_family="IPv6"}`); got != "0" {
		t.Errorf("IPv6: %s", got)
	}
}
