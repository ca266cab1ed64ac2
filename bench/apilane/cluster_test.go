package apilane

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/bench/apiserver"
	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

const (
	// patience bounds the wait for anything that is to reach the kernel. It takes well under a
	// second on a machine that does nothing else, unless the API server was away: the agent tries
	// again after up to 12 s.
	patience    = time.Minute
	backendPort = 8080
)

// A cluster is a lab with an API server and the agent on node-1.
type cluster struct {
	*netlab.Lab
	api    *apiserver.Server
	client *kubernetes.Clientset
	bin    string
	socket string // of the agent
	agent  *process.Process
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	netlab.Require(t)
	bin := filepath.Dir(peerbin.Need(t, peerbin.Fairway))
	c := &cluster{Lab: netlab.New(t, netlab.Options{Pods: []string{"a", "b", "f", "g"}}), bin: bin, socket: filepath.Join(t.TempDir(), "admin.sock")}
	for _, pod := range []string{"a", "f", "g"} {
		must(t, c.Serve(pod, proxier.TCP, netip.AddrPortFrom(netlab.Addr(pod), backendPort)))
	}
	c.api = apiserver.New(t, apiserver.Options{In: c.inNode, ServiceCIDRs: ranges(netlab.ServiceCIDRs)})
	var err error
	c.client, err = kubernetes.NewForConfig(c.api.Config())
	must(t, err)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: netlab.Node1}}
	node.Spec.PodCIDR = "10.244.1.0/24"
	node, err = c.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	must(t, err)
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: netlab.Node1Addr.String()},
		{Type: corev1.NodeInternalIP, Address: netlab.V6(netlab.Node1Addr).String()},
	}
	_, err = c.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	must(t, err)
	c.start(t)
	t.Cleanup(func() { c.agent.Kill() })
	return c
}

func (c *cluster) inNode(f func() error) error { return c.In(netlab.Node1, f) }

func ranges(ps []netip.Prefix) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

// start starts the agent.
func (c *cluster) start(t *testing.T) {
	t.Helper()
	must(t, c.inNode(func() (err error) {
		cmd := exec.Command(filepath.Join(c.bin, peerbin.Fairway), "proxy",
			"--proxy-mode", "iptables", "--kubeconfig", c.api.Kubeconfig(),
			"--admin-socket", c.socket, "--hostname-override", netlab.Node1, "--cluster-cidr", ranges(netlab.ClusterCIDRs))
		c.agent, err = process.Start(cmd)
		return err
	}))
}

// fresh stops the agent, removes all that it programmed, and starts it again.
func (c *cluster) fresh(t *testing.T) {
	t.Helper()
	must(t, c.agent.Stop(10*time.Second))
	must(t, c.inNode(func() error {
		out, err := exec.Command(filepath.Join(c.bin, peerbin.Fairway), "cleanup").CombinedOutput()
		if err != nil {
			return fmt.Errorf("cleanup: %w: %s", err, out)
		}
		return nil
	}))
	if left := c.kernel(t); len(left) > 0 {
		t.Errorf("cleanup left %v", left)
	}
	c.start(t)
}

// kernel returns the rules of node-1, by family, table and chain. Chains are unordered, and a
// chain of the kernel's own without rules says nothing.
func (c *cluster) kernel(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		var text []byte
		must(t, c.inNode(func() (err error) {
			text, err = exec.Command(save).Output()
			return err
		}))
		table := ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "*"):
				table = save + " " + line[1:] + " "
			case strings.HasPrefix(line, ":"):
				name, policy, _ := strings.Cut(line[1:], " ")
				if strings.HasPrefix(policy, "-") {
					out[table+name] = nil
				}
			case strings.HasPrefix(line, "-A "):
				name, rule, _ := strings.Cut(line[3:], " ")
				out[table+name] = append(out[table+name], rule)
			}
		}
	}
	return out
}

// settled waits until the kernel has not changed for a second, and returns what is in it.
func (c *cluster) settled(t *testing.T) map[string][]string {
	t.Helper()
	last, since := c.kernel(t), time.Now()
	for deadline := since.Add(patience); time.Since(since) < time.Second; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the kernel still changes after %s: %s", patience, c.agent.Output())
		}
		if now := c.kernel(t); !cmp.Equal(last, now) {
			last, since = now, time.Now()
		}
	}
	return last
}

// reaches waits until connections from one place to an address are answered by exactly the named
// pods, and by no other for a while. Without names, no connection may be answered.
func (c *cluster) reaches(t *testing.T, from, to string, pods ...string) {
	t.Helper()
	at := netip.MustParseAddrPort(to)
	var seen []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err := c.agent.Err(); err != nil {
			t.Fatal(err)
		}
		seen = nil
		// With 30 connections, one of two endpoints is missed once in 10^9.
		for _, a := range c.Probes(netlab.Probe{From: from, To: at}, 30) {
			if a.Verdict == netlab.Reached {
				seen = append(seen, a.Name)
			} else if len(pods) > 0 {
				seen = append(seen, a.String())
			}
		}
		slices.Sort(seen)
		if seen = slices.Compact(seen); slices.Equal(seen, pods) {
			return
		}
	}
	t.Fatalf("%s to %s reaches %q, want %q: %s", from, to, seen, pods, c.agent.Output())
}

// saysThatItWasAlone: the agent's log has a line for the time without the API server and one for its
// end, a second about the former after a minute at the earliest, and none by the client library.
func (c *cluster) saysThatItWasAlone(t *testing.T) {
	t.Helper()
	var about []string
	wait.Until(t, "the agent says that the API server is back", func() bool {
		about = nil
		for line := range strings.Lines(c.agent.Output()) {
			if strings.Contains(line, "API server") || strings.Contains(line, "reflector=") {
				about = append(about, line)
			}
		}
		return len(about) > 1 && strings.Contains(about[len(about)-1], "in contact with the API server again")
	})
	for _, line := range about[:len(about)-1] {
		if !strings.Contains(line, "out of contact with the API server") || !strings.Contains(line, "err=") {
			t.Errorf("the agent says: %s", line)
		}
	}
}

// metrics returns the page with the agent's metrics.
func (c *cluster) metrics(t *testing.T) string {
	t.Helper()
	dial := func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = c.inNode(func() (err error) { conn, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return conn, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}).Get("http://127.0.0.1:10249/metrics")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(body)
}

func web(name string, port int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports = []corev1.ServicePort{{Port: port}}
	s.Spec.Ports[0].TargetPort.IntVal = backendPort
	return s
}

// slice is an EndpointSlice of the Service with these pods, or addresses.
func slice(service string, pods ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	name, port, tcp := "", int32(backendPort), corev1.ProtocolTCP
	s.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	for _, p := range pods {
		e := discoveryv1.Endpoint{Addresses: []string{p}}
		if node := netlab.PodNode(p); node != "" {
			e = discoveryv1.Endpoint{Addresses: []string{netlab.Addr(p).String()}, NodeName: &node}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
