package dnsclients

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/peerbin"
)

// asGo is the argument that makes this program a client that resolves names as Go does.
const asGo = "resolve-as-go"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == asGo {
		goClient(os.Args[2:])
		return
	}
	goleak.VerifyTestMain(m)
}

func goClient(names []string) {
	r := &net.Resolver{PreferGo: true}
	for _, name := range names {
		fmt.Println("==", name)
		found, err := r.LookupHost(context.Background(), name)
		if err != nil {
			found = []string{"none"}
		}
		fmt.Println(strings.Join(found, "\n"))
		if strings.Contains(name, ".pod") {
			continue // a pod has no ports; CoreDNS says 0 (docs/dns-differences.md, pod-srv)
		}
		if _, srv, err := r.LookupSRV(context.Background(), "http", "tcp", name); err == nil {
			for _, s := range srv {
				fmt.Println("SRV", s.Target, s.Port, s.Priority, s.Weight)
			}
		}
	}
}

const (
	api      = "127.0.0.1:8001"
	upstream = "127.0.0.2:5300"
	// What the kubelet writes for a pod in namespace default.
	resolvConf = "nameserver 10.0.0.53\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
	nsswitch   = "hosts: files dns\n"
)

// names are what is looked up, with what every client must find.
var names = []struct {
	name string
	want []string
}{
	{"web", []string{"10.96.0.7"}},
	{"web.default", []string{"10.96.0.7"}},
	{"WEB.default.svc", []string{"10.96.0.7"}},
	{"web.default.svc.cluster.local", []string{"10.96.0.7"}},
	{"web.default.svc.cluster.local.", []string{"10.96.0.7"}},
	{"db.prod", []string{"10.96.0.8"}},
	{"db", []string{"none"}},
	{"both", []string{"10.96.0.9", "fd00:10:96::9"}},
	{"six", []string{"fd00:10:96::a"}},
	{"set", []string{"10.244.1.1", "10.244.1.2", "10.244.1.3"}},
	{"set-1.set", []string{"10.244.1.2"}},
	{"empty", []string{"none"}},
	{"out", []string{"192.0.2.80", "2001:db8::80"}},
	{"www.example.com", []string{"192.0.2.80", "2001:db8::80"}},
	{"chain.example.com.", []string{"192.0.2.80", "2001:db8::80"}},
	{"nobody.example.com", []string{"none"}},
	{"nobody.prod.svc.cluster.local.", []string{"none"}},
	{"10-244-1-9.default.pod", []string{"10.244.1.9"}},
}

// big is a headless Service with more addresses than a datagram takes.
const big = "big.prod.svc.cluster.local."

const bigSize = 200

func objects() []runtime.Object {
	service := func(ns, name string, ips ...string) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		s.Spec.ClusterIP, s.Spec.ClusterIPs = ips[0], ips
		s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}
		return s
	}
	slice := func(ns, name string, n int) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name, corev1.IsHeadlessService: ""}}, AddressType: discoveryv1.AddressTypeIPv4}
		s.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}}
		for i := range n {
			e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", 1+i)}}
			if name == "set" {
				e.Hostname = ptr.To(fmt.Sprintf("set-%d", i))
			}
			s.Endpoints = append(s.Endpoints, e)
		}
		return s
	}
	out := service("default", "out", "")
	out.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"}
	return []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod"}},
		service("default", "web", "10.96.0.7"), service("prod", "db", "10.96.0.8"), service("default", "both", "10.96.0.9", "fd00:10:96::9"),
		service("default", "six", "fd00:10:96::a"), service("default", "set", corev1.ClusterIPNone), service("default", "empty", corev1.ClusterIPNone),
		service("prod", "big", corev1.ClusterIPNone), slice("default", "set", 3), slice("prod", "big", bigSize), out,
	}
}

// A client is a program that resolves names. It prints "== NAME", and then a line for each thing
// it finds, in any order.
type client struct {
	name string
	args func(t *testing.T) []string // the command line before the names
	// full is set for a client that uses no search list: it is only asked for full names.
	full bool
	// udp is set for a client that never asks over TCP.
	udp bool
}

func shell(command string) func(*testing.T) []string {
	return func(*testing.T) []string {
		return []string{"sh", "-c", `for n in "$@"; do echo "== $n"; ` + command + ` || echo none; done`, "sh"}
	}
}

func dig(flags string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		peerbin.NeedProgram(t, "dig")
		return shell("dig +search +tries=5 +noall +answer +comments " + flags + " $n A $n AAAA")(t)
	}
}

var clients = []client{
	{name: "glibc", args: shell("getent ahosts $n")},
	{name: "musl", udp: true, args: func(t *testing.T) []string {
		exe := filepath.Join(t.TempDir(), "getaddrinfo")
		out, err := exec.Command(peerbin.NeedProgram(t, "musl-gcc"), "-static", "-o", exe, "testdata/getaddrinfo.c").CombinedOutput()
		if err != nil {
			t.Fatalf("musl-gcc: %v: %s", err, out)
		}
		return []string{exe}
	}},
	{name: "Go", args: func(t *testing.T) []string {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return []string{self, asGo}
	}},
	{name: "Node.js", args: func(t *testing.T) []string {
		script, err := filepath.Abs("testdata/lookup.js")
		if err != nil {
			t.Fatal(err)
		}
		return []string{peerbin.NeedProgram(t, "node"), script}
	}},
	{name: "dig", args: dig("")},
	{name: "dig +noedns", args: dig("+noedns")},
	{name: "dig +tcp", args: dig("+tcp")},
	{name: "dig +dnssec", args: dig("+dnssec")},
	{name: "dig +edns=1", args: dig("+edns=1"), full: true},
}

// Every client finds under Fairway what it finds under CoreDNS.
func TestClients(t *testing.T) {
	objs := listwatch.New()
	if err := objs.Set(objects()...); err != nil {
		t.Fatal(err)
	}
	theirs, ours := start(t, nameserver.CoreDNS, objs), start(t, nameserver.Fairway, objs)
	dir := t.TempDir()
	for name, text := range map[string]string{"resolv.conf": resolvConf, "nsswitch.conf": nsswitch} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			var ask []string
			for _, n := range names {
				if !c.full || strings.HasSuffix(n.name, ".") {
					ask = append(ask, n.name)
				}
			}
			if !c.udp {
				ask = append(ask, big)
			}
			args := append(c.args(t), ask...)
			want, got := run(t, theirs, dir, args), run(t, ours, dir, args)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-CoreDNS +Fairway)\n%s", diff)
			}
			c.check(t, got)
		})
	}
}

// check compares what a client found with what there is.
func (c client) check(t *testing.T, got map[string][]string) {
	t.Helper()
	for _, n := range names {
		found, asked := got[n.name]
		if !asked || strings.HasPrefix(c.name, "dig") {
			continue // dig prints whole replies
		}
		found = slices.DeleteFunc(slices.Clone(found), func(s string) bool { return strings.HasPrefix(s, "SRV") })
		if !slices.Equal(found, n.want) {
			t.Errorf("%s: found %q, want %q", n.name, found, n.want)
		}
	}
	addresses := 0
	for _, line := range got[big] {
		if strings.Contains(line, "10.244.1.") {
			addresses++
		}
	}
	if !c.udp && !c.full && addresses != bigSize {
		t.Errorf("%s has %d addresses, want %d", big, addresses, bigSize)
	}
}

// start runs a resolver with kubeadm's Corefile and the objects of api, in a space of its own.
func start(t *testing.T, kind string, objs *listwatch.Server) *nameserver.Server {
	t.Helper()
	addr := netip.MustParseAddrPort("10.0.0.53:53")
	space := nameserver.TestSpace(t, addr.Addr(), netip.MustParseAddr("fd00::53")) // getent looks for IPv6 where there is some
	nameserver.TestInternet(t, upstream, space)
	l, err := space.Listen("tcp", api)
	if err != nil {
		t.Fatal(err)
	}
	url, stop := objs.Start(l)
	t.Cleanup(stop)
	return nameserver.StartTest(t, nameserver.Options{
		Kind: kind, Space: space, Addr: addr, Ready: "127.0.0.1:8181",
		Corefile: nameserver.Expand(nameserver.Kubeadm, map[string]string{"API": "endpoint " + url, "UPSTREAM": upstream}),
	})
}

// inPod runs a command as in a pod: with the files of dir in the place of those in /etc.
const inPod = `cd "$1" && shift && for f in resolv.conf nsswitch.conf; do mount --bind $f /etc/$f || exit; done && exec "$@"`

// run runs a client beside a server, and returns what it printed for each name.
func run(t *testing.T, s *nameserver.Server, dir string, args []string) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", inPod, "sh", dir}, args...)...)
	var out []byte
	err := s.Space.In(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return normal(string(out))
}

// What differs from run to run, or on purpose (docs/dns-differences.md, edns-options).
var noise = regexp.MustCompile(`, id: \d+|^; COOKIE: .*|^;; (Got answer|OPT PSEUDOSECTION|ANSWER SECTION|communications error|.*timed out).*|;; .*retrying in TCP mode.*`)

// normal sorts what a client printed by name. TTLs and the kinds of sockets of getent do not
// count.
func normal(text string) map[string][]string {
	out := map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(noise.ReplaceAllString(strings.TrimSpace(line), ""))
		if n, ok := strings.CutPrefix(line, "== "); ok {
			name = n
			out[name] = nil
			continue
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case len(words) >= 5 && words[2] == "IN": // a record, after its TTL
			words[1] = "TTL"
		case len(words) >= 2 && (words[1] == "STREAM" || words[1] == "DGRAM" || words[1] == "RAW"):
			words = words[:1]
		}
		out[name] = append(out[name], strings.Join(words, " "))
	}
	for name := range out {
		slices.Sort(out[name])
		out[name] = slices.Compact(out[name])
	}
	return out
}
