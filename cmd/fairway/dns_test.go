package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/bench/listwatch"
)

// dnsPatience bounds every wait of the tests of the resolver. It is long because the machine may be
// busy.
const dnsPatience = 40 * time.Second

// A resolver is a running "fairway dns".
type resolver struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; valid after done

	mu  sync.Mutex
	out bytes.Buffer
}

// Write keeps what it prints.
func (r *resolver) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *resolver) printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// startResolver starts a resolver, which is killed when the test ends, and waits until it serves.
func startResolver(t *testing.T, args ...string) *resolver {
	t.Helper()
	r := &resolver{t: t, cmd: program(append([]string{"dns"}, args...)...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(r.done); r.err = r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it may have ended already
		<-r.done
		if t.Failed() {
			t.Logf("log of the resolver:\n%s", r.printed())
		}
	})
	r.eventually("started", func() bool { return strings.Contains(r.printed(), "Fairway-") })
	return r
}

// eventually waits until f returns true.
func (r *resolver) eventually(what string, f func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(dnsPatience)
	for !f() {
		select {
		case <-r.done:
			if !f() {
				r.t.Fatalf("not %s: the resolver ended: %v\n%s", what, r.err, r.printed())
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not %s", what)
		}
	}
}

var servedAt = regexp.MustCompile(`(?m)^\.:(\d+) on 127\.0\.0\.1$`)

// lookup returns the addresses of a name, or what the resolver says instead.
func (r *resolver) lookup(name string) string {
	r.t.Helper()
	port := servedAt.FindStringSubmatch(r.printed())
	if port == nil {
		r.t.Fatal("it does not say where it listens")
	}
	client := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port[1])
	}}
	ctx, cancel := context.WithTimeout(r.t.Context(), dnsPatience)
	defer cancel()
	addrs, err := client.LookupHost(ctx, name)
	if err != nil {
		return err.Error()
	}
	return strings.Join(addrs, " ")
}

func (r *resolver) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// ownAddress is an address of loopback that nobody else has: a port of 127.0.0.1 that is free now may
// be taken before it is used, or used again.
func ownAddress(port int) string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.N(250), rand.N(256), 1+rand.N(250), port)
}

func dnsService(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDNS follows an API server that goes away and comes back: answers go on, the log and a metric
// say how old they are, and then they are up to date again. The Corefile changes meanwhile.
func TestDNS(t *testing.T) {
	t.Parallel() // it waits most of the time
	api := listwatch.New()
	if err := api.Set(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, dnsService("web", "10.96.0.10")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", ownAddress(6443))
	if err != nil {
		t.Fatal(err)
	}
	url, stop := api.Start(l)
	defer func() { stop() }()
	dir := t.TempDir()
	conf, pidfile, metrics := filepath.Join(dir, "Corefile"), filepath.Join(dir, "pid"), ownAddress(9153)
	text := fmt.Sprintf(".:0 {\n\tbind 127.0.0.1\n\tkubernetes cluster.local {\n\t\tendpoint %s\n\t}\n\tprometheus %s\n}\n", url, metrics)
	writeFile(t, conf, text)
	r := startResolver(t, "-conf", conf, "-pidfile", pidfile)
	if got := r.lookup("web.shop.svc.cluster.local."); got != "10.96.0.10" {
		t.Errorf("web is at %s", got)
	}
	if pid, err := os.ReadFile(pidfile); err != nil || strings.TrimSpace(string(pid)) != fmt.Sprint(r.cmd.Process.Pid) {
		t.Errorf("the file for the process id says %q, %v", pid, err)
	}
	page := func() string {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: dnsPatience}).Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if !strings.Contains(page(), `coredns_kubernetes_rest_client_requests_total{code="200",host="`+l.Addr().String()+`",method="GET"}`) {
		t.Error("requests to the API server are not counted")
	}

	stop() // the API server is lost
	r.eventually("said to be stale", func() bool { return strings.Contains(r.printed(), "out of contact with the API server") })
	if strings.Contains(page(), "fairway_dns_staleness_seconds 0\n") {
		t.Error("the metric says that nothing is stale")
	}
	if got := r.lookup("web.shop.svc.cluster.local."); got != "10.96.0.10" {
		t.Errorf("without an API server, web is at %s", got)
	}

	r.signal(syscall.SIGHUP) // ignored
	writeFile(t, conf, text+"nonsense {")
	r.signal(syscall.SIGUSR1)
	r.eventually("refused", func() bool { return strings.Contains(r.printed(), "reload failed") })
	writeFile(t, conf, strings.Replace(text, "cluster.local {", "cluster.local example.net {", 1))
	r.signal(syscall.SIGUSR1)
	r.eventually("reloaded", func() bool { return r.lookup("web.shop.svc.example.net.") == "10.96.0.10" }) // from what it knew

	if err := api.Set(dnsService("new", "10.96.0.11")); err != nil {
		t.Fatal(err)
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	_, stop = api.Start(l)
	r.eventually("caught up", func() bool { return r.lookup("new.shop.svc.cluster.local.") == "10.96.0.11" })
	r.eventually("said to be up to date", func() bool {
		return strings.Contains(r.printed(), "in contact with the API server again") && strings.Contains(page(), "fairway_dns_staleness_seconds 0\n")
	})

	r.signal(syscall.SIGTERM)
	<-r.done
	if r.err != nil {
		t.Errorf("it ended with %v", r.err)
	}
	if _, err := os.Stat(pidfile); !os.IsNotExist(err) {
		t.Errorf("the file for the process id is still there: %v", err)
	}
}

// TestDNSManifests answers from a folder, with the Corefile from standard input, and ends at once
// with SIGQUIT.
func TestDNSManifests(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.yaml"), "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n---\n"+
		"{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80}]}}\n")
	conf := filepath.Join(dir, "Corefile")
	writeFile(t, conf, ".:0 {\n\tbind 127.0.0.1\n\thealth "+ownAddress(9153)+" {\n\t\tlameduck 1h\n\t}\n\tkubernetes cluster.local\n}\n")
	r := startResolver(t, "--conf="+conf, "--manifests", dir)
	if got := r.lookup("web.shop.svc.cluster.local."); got != "10.96.0.10" {
		t.Errorf("web is at %s", got)
	}
	writeFile(t, filepath.Join(dir, "b.yaml"), "{apiVersion: v1, kind: Service, metadata: {name: till, namespace: shop}, spec: {clusterIP: 10.96.0.12, clusterIPs: [10.96.0.12], ports: [{port: 80}]}}\n")
	r.eventually("changed", func() bool { return r.lookup("till.shop.svc.cluster.local.") == "10.96.0.12" })
	r.signal(syscall.SIGQUIT)
	<-r.done
	if r.err != nil {
		t.Errorf("it ended with %v", r.err)
	}
}

// TestDNSFlags: the flags of CoreDNS, with one dash and with two, and what is wrong with a command
// line or a Corefile.
func TestDNSFlags(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	writeFile(t, good, ".:0 {\n\tbind 127.0.0.1\n\twhoami\n\tcache 30\n}\n")
	writeFile(t, bad, ".:0 {\n\tbind 127.0.0.1\n\tnonsense\n}\n")
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"-version", 0, "Fairway-"},
		{"--version", 0, "linux/"},
		{"-plugins", 0, "dns.kubernetes"},
		{"-help", 0, "-dns.port"},
		{"check " + good, 0, "cache whoami"},
		{"check " + bad, 1, bad + ":3 - Error during parsing: Unknown directive 'nonsense'"},
		{"check", 1, "arg"},
		{"-conf " + bad, 1, bad + ":3 - Error during parsing: Unknown directive 'nonsense'"},
		{"-conf /nonexistent/Corefile", 1, "/nonexistent/Corefile"},
		{"-conf " + good + " surplus", 1, "surplus"},
		{"-dns.port 65536", 1, "65536"},
		{"-p x", 1, "-p"},
		{"--no-such-flag", 1, "no-such-flag"},
		{"-conf " + good + " -pidfile /nonexistent/pid", 1, "/nonexistent/pid"},
	} {
		out, errs, code := run(t, append([]string{"dns"}, strings.Fields(tc.args)...)...)
		if code != tc.code || !strings.Contains(out+errs, tc.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tc.args, code, tc.code, tc.says, out, errs)
		}
	}
}

// TestCoreDNS: called as coredns, the program takes its command line.
func TestCoreDNS(t *testing.T) {
	link := filepath.Join(t.TempDir(), "coredns")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(link, "-version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "Fairway-") {
		t.Errorf("%v: %s", err, out)
	}
	c := exec.Command(link, "-conf", "stdin", "-dns.port", "0", "-quiet")
	c.Stdin = strings.NewReader("nonsense.example {\n nonsense\n}\n")
	out, err = c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "stdin:2 - Error during parsing: Unknown directive 'nonsense'") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestLimitMemory: what a container may use bounds the heap; no limit leaves it.
func TestLimitMemory(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	file := filepath.Join(t.TempDir(), "memory.max")
	for text, want := range map[string]int64{"178257920\n": 160432128, "max\n": before, "": before} {
		debug.SetMemoryLimit(before)
		writeFile(t, file, text)
		limitMemory(file)
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
