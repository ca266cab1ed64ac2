package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/proxier"
)

// TestMain lets the test binary play another proxy that holds a lock.
func TestMain(m *testing.M) {
	if socket := os.Getenv("ADMIN_TEST_HOLD"); socket != "" {
		if _, err := Listen(socket, new(proxier.Feed)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("listening")
		time.Sleep(time.Hour) // until killed
	}
	goleak.VerifyTestMain(m)
}

func example() *proxier.Snapshot {
	name := proxier.NamespacedName{Namespace: "shop", Name: "web"}
	owner := proxier.ServicePortName{NamespacedName: name, Port: "http", Protocol: proxier.TCP}
	here := &proxier.Endpoint{Addr: netip.MustParseAddr("10.244.1.11"), Port: 8080, Local: true, Ready: true, Serving: true, NodeName: "node-1", Zone: "a", Target: "shop/web-1"}
	there := &proxier.Endpoint{Addr: netip.MustParseAddr("10.244.2.21"), Port: 8080, Serving: true, Terminating: true, NodeName: "node-2"}
	all := &proxier.Pool{Owner: owner, Endpoints: []*proxier.Endpoint{here, there}}
	local := &proxier.Pool{Owner: owner, Scope: proxier.ThisNode, Empty: proxier.Drop}
	return &proxier.Snapshot{
		Revision: 7, Node: &proxier.Node{Name: "node-1"},
		Services: []*proxier.Service{
			{NamespacedName: proxier.NamespacedName{Namespace: "other", Name: "web"}, Type: "ExternalName", ExternalName: "example.org", Ignored: "ExternalName"},
			{NamespacedName: name, Type: "LoadBalancer", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")}, LocalReady: 1, HealthCheckPort: 32000,
				LoadBalancer: []netip.Addr{netip.MustParseAddr("198.51.100.7")},
				Ports:        []proxier.ServicePort{{Name: "http", Protocol: proxier.TCP, Port: 80, NodePort: 30080, Endpoints: []*proxier.Endpoint{here, there}}}},
		},
		Frontends: []*proxier.Frontend{
			{FrontendKey: proxier.FrontendKey{Addr: netip.MustParseAddr("198.51.100.7"), Port: 80, Protocol: proxier.TCP}, Kind: proxier.LoadBalancer, Owner: owner,
				Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Affinity: 3 * time.Hour,
				From: [proxier.Origins]proxier.Route{{Pool: all}, {Pool: all, Masquerade: true}, {Pool: local}}},
		},
		Problems: []proxier.Problem{{Kind: "Service", Object: name, Reason: "AddressConflict", Message: "203.0.113.7 belongs to other/web"}},
	}
}

// serve runs a Server until the test ends.
func serve(t *testing.T, feed *proxier.Feed) (*Server, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "fairway.sock")
	s, err := Listen(socket, feed)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, socket
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestGet(t *testing.T) {
	feed := new(proxier.Feed)
	s, socket := serve(t, feed)
	if _, err := Get[Service](t.Context(), socket, "services", ""); err == nil || !strings.Contains(err.Error(), "has not seen the cluster yet") {
		t.Errorf("before the first snapshot: error %v", err)
	}
	feed.Publish(example())
	s.Applied(proxier.Applied{Now: &proxier.Snapshot{Revision: 6}})
	s.Applied(proxier.Applied{Now: example(), Err: context.Canceled})

	frontends, err := Get[Frontend](t.Context(), socket, "frontends", "web")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"revision":7,"applied":6,"items":[{"address":"198.51.100.7","port":80,"protocol":"TCP","kind":"LoadBalancer","service":"shop/web","portName":"http","sources":["192.0.2.0/24"],"affinitySeconds":10800,"balance":"random",` +
		`"fromPod":{"endpoints":["10.244.1.11:8080","10.244.2.21:8080"],"masquerade":false},` +
		`"fromNode":{"endpoints":["10.244.1.11:8080","10.244.2.21:8080"],"masquerade":true},` +
		`"fromOutside":{"empty":"drop","masquerade":false}}]}`
	if diff := cmp.Diff(want, text(t, frontends)); diff != "" {
		t.Errorf("frontends (-want +got):\n%s", diff)
	}
	services, err := Get[Service](t.Context(), socket, "services", "")
	if err != nil {
		t.Fatal(err)
	}
	want = `[{"namespace":"other","name":"web","type":"ExternalName","externalName":"example.org","localReady":0,"ignored":"ExternalName"},` +
		`{"namespace":"shop","name":"web","type":"LoadBalancer","clusterIPs":["10.96.0.7"],"loadBalancerIPs":["198.51.100.7"],` +
		`"ports":[{"name":"http","protocol":"TCP","port":80,"nodePort":30080,"endpoints":2}],"healthCheckNodePort":32000,"localReady":1}]`
	if diff := cmp.Diff(want, text(t, services.Items)); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	endpoints, err := Get[Endpoint](t.Context(), socket, "endpoints", "shop/web")
	if err != nil {
		t.Fatal(err)
	}
	want = `[{"service":"shop/web","portName":"http","protocol":"TCP","address":"10.244.1.11","port":8080,"ready":true,"serving":true,"terminating":false,"local":true,"node":"node-1","zone":"a","target":"shop/web-1"},` +
		`{"service":"shop/web","portName":"http","protocol":"TCP","address":"10.244.2.21","port":8080,"ready":false,"serving":true,"terminating":true,"local":false,"node":"node-2"}]`
	if diff := cmp.Diff(want, text(t, endpoints.Items)); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	problems, err := Get[Problem](t.Context(), socket, "problems", "shop/web")
	if err != nil {
		t.Fatal(err)
	}
	want = `[{"kind":"Service","object":"shop/web","reason":"AddressConflict","message":"203.0.113.7 belongs to other/web"}]`
	if diff := cmp.Diff(want, text(t, problems.Items)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if none, err := Get[Problem](t.Context(), socket, "problems", "other/web"); err != nil || len(none.Items) != 0 {
		t.Errorf("problems of another Service: %v, %v", none, err)
	}
}

func TestSocketIsPrivateAndGoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairway.sock")
	s, err := Listen(socket, new(proxier.Feed))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	s.Close()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still here: %v", err)
	}
	if _, err := Get[Service](t.Context(), socket, "services", ""); err == nil || !strings.Contains(err.Error(), "is fairway proxy running here?") {
		t.Errorf("without a proxy: error %v", err)
	}
}

// TestOneProxy: a second proxy is told who the first is; when the first is killed, its lock and
// the socket file that it left are no obstacle.
func TestOneProxy(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairway.sock")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "ADMIN_TEST_HOLD="+socket)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if string(line[:n]) != "listening\n" {
		t.Fatalf("the other proxy says %q", line[:n])
	}
	_, err = Listen(socket, new(proxier.Feed))
	if want := fmt.Sprintf("another fairway proxy (pid %d) runs on this node", other.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // "signal: killed"
	if _, err := os.Stat(socket); err != nil {
		t.Fatalf("the test is pointless, the socket file is gone: %v", err)
	}
	s, err := Listen(socket, new(proxier.Feed))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
