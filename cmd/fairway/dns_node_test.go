package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The TTLs tell which resolver answered: the node's own, or those of the Service kube-dns.
const (
	ttlNode    = 7
	ttlCluster = 30
)

// nodeTestCorefile is for the resolver in the proxy.
const nodeTestCorefile = `.:53 {
	errors
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		ttl 7
	}
	loadbalance
}
`

var dnsVIPs = []string{"10.96.0.53:53", "[fd00:96::35]:53"}

// A nodeStage is a stage on which kube-dns has resolvers of its own in pods, and node-1 an address for
// one more.
type nodeStage struct {
	*stage
	flags []string
}

func newNodeStage(t *testing.T, variant string) *nodeStage {
	s := &nodeStage{stage: newStage(t, variant, demoResolvers...)}
	s.on("ip", "address", "add", "169.254.20.10/32", "dev", "lo")
	list, err := startResolvers(t.Context(), s.Lab, filepath.Dir(s.dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killAll(list) })
	conf := filepath.Join(t.TempDir(), "Corefile")
	writeFile(t, conf, nodeTestCorefile)
	s.flags = []string{"--dns-listen", "169.254.20.10,fd00:10::1", "--dns-corefile", conf}
	return s
}

// dnsQuestion is a query for the addresses of a name.
func dnsQuestion(id uint16, name string) []byte {
	msg := binary.BigEndian.AppendUint16(nil, id)
	msg = append(msg, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // RD, one question
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		msg = append(append(msg, byte(len(label))), label...)
	}
	return append(msg, 0, 0, 1, 0, 1)
}

// exchangeTime is after which a query is sent again, or never was for this server.
const exchangeTime = 5 * time.Second

// exchange asks over a connection, and returns the TTL of the first answer; 0 if there is none.
func exchange(c net.Conn, stream bool, name string, wait time.Duration) (ttl int, err error) {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	id := uint16(rand.Uint32())
	msg := dnsQuestion(id, name)
	if stream {
		_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	} else {
		_, err = c.Write(msg)
	}
	if err != nil {
		return 0, err
	}
	reply := make([]byte, 4096)
	n := 0
	if stream {
		if _, err := io.ReadFull(c, reply[:2]); err != nil {
			return 0, err
		}
		n, err = io.ReadFull(c, reply[:binary.BigEndian.Uint16(reply)])
	} else {
		n, err = c.Read(reply)
	}
	if err != nil {
		return 0, err
	}
	reply = reply[:n]
	switch {
	case n < len(msg) || binary.BigEndian.Uint16(reply) != id:
		return 0, fmt.Errorf("reply %x to %x", reply, msg)
	case reply[3]&15 != 0 && reply[3]&15 != 3:
		return 0, fmt.Errorf("rcode %d", reply[3]&15)
	case reply[7] == 0:
		return 0, nil
	}
	return int(binary.BigEndian.Uint32(reply[len(msg)+6:])), nil
}

// ask asks a nameserver from a namespace, on a socket of its own.
func (s *nodeStage) ask(from, network, server, name string) (ttl int, err error) {
	return s.askFor(patience, from, network, server, name)
}

// askFor is ask with another bound: who asks again until the answer is right must not wait for one
// that never comes.
func (s *nodeStage) askFor(wait time.Duration, from, network, server, name string) (ttl int, err error) {
	err = s.In(from, func() error {
		c, err := net.DialTimeout(network, server, wait)
		if err != nil {
			return err
		}
		defer c.Close()
		ttl, err = exchange(c, network == "tcp", name, wait)
		return err
	})
	return ttl, err
}

const askedName = "web.shop.svc.cluster.local."

// answeredBy waits until the DNS Service is answered with a TTL, for pods, over UDP and TCP, IPv4 and
// IPv6. Connections of the node itself go to the Service's pods always.
func (s *nodeStage) answeredBy(when string, want int) {
	s.t.Helper()
	for from, want := range map[string]int{demoClient: want, netlab.Node1: ttlCluster} {
		for _, server := range dnsVIPs {
			for _, network := range []string{"udp", "tcp"} {
				s.eventually(fmt.Sprintf("%s: TTL of an answer to %s from %s over %s", when, from, server, network), strconv.Itoa(want), func() string {
					ttl, err := s.askFor(exchangeTime, from, network, server, askedName)
					if err != nil {
						return err.Error()
					}
					return strconv.Itoa(ttl)
				})
			}
		}
	}
}

// A pester asks all the time, in different ways.
type pester struct {
	stop  chan struct{}
	done  chan struct{}
	ttls  [ttlCluster + 1]atomic.Int64 // how many answers had a TTL
	again int                          // how many queries had to be sent twice
	err   error
}

// pester asks from a pod until stopped: over UDP from a new port each time and from one that
// stays, and over TCP. Every query must be answered. One over UDP is sent again after a while, as all
// resolvers do; see the test for how often that may be.
func (s *nodeStage) pester(from, server string) *pester {
	p := &pester{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = s.In(from, func() error {
			keeps, err := net.DialTimeout("udp", server, 10*time.Second)
			if err != nil {
				return err
			}
			defer keeps.Close()
			for i := 0; ; i++ {
				select {
				case <-p.stop:
					return nil
				default:
				}
				network, c := "udp", keeps
				if i%3 > 0 {
					network = []string{"", "udp", "tcp"}[i%3]
					if c, err = net.DialTimeout(network, server, 10*time.Second); err != nil {
						return fmt.Errorf("query %d: %w", i, err)
					}
				}
				ttl, err := exchange(c, network == "tcp", askedName, exchangeTime)
				if network == "udp" && errors.Is(err, os.ErrDeadlineExceeded) {
					p.again++
					ttl, err = exchange(c, false, askedName, exchangeTime)
				}
				if c != keeps {
					c.Close()
				}
				if err == nil && ttl != ttlNode && ttl != ttlCluster {
					err = fmt.Errorf("the TTL is %d", ttl)
				}
				if err != nil {
					return fmt.Errorf("query %d, over %s: %w", i, network, err)
				}
				p.ttls[ttl].Add(1)
			}
		})
	}()
	return p
}

// meets waits until the resolver that a TTL stands for has answered it several times.
func (p *pester) meets(t *testing.T, ttl int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); p.ttls[ttl].Load() < 10; time.Sleep(time.Millisecond) {
		select {
		case <-p.done:
			t.Fatal(p.err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d answers with TTL %d", p.ttls[ttl].Load(), ttl)
		}
	}
}

// end stops it and reports what went wrong; again is how many queries may have been sent twice.
func (p *pester) end(t *testing.T, again int, when string) {
	t.Helper()
	close(p.stop)
	<-p.done
	if p.err != nil {
		t.Errorf("%s: %v", when, p.err)
	}
	t.Logf("%s: %d answers of the node's resolver, %d of the Service's own, %d after a second try", when, p.ttls[ttlNode].Load(), p.ttls[ttlCluster].Load(), p.again)
	if p.again > again {
		t.Errorf("%s: %d queries had to be sent twice, want at most %d", when, p.again, again)
	}
}

// TestNodeDNS: the nameserver that pods have always had is this node's resolver while there is one,
// and not one query is lost when it comes or goes in good order.
func TestNodeDNS(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			s := newNodeStage(t, variant)
			s.start().kill() // kube-dns leads to its pods
			s.answeredBy("without a resolver on the node", ttlCluster)

			var pesters []*pester
			for _, server := range dnsVIPs {
				pesters = append(pesters, s.pester(demoClient, server))
			}
			for _, p := range pesters {
				p.meets(t, ttlCluster)
			}
			a := s.start(s.flags...)
			s.answeredBy("with one", ttlNode)
			for i, p := range pesters {
				p.meets(t, ttlNode)
				p.end(t, 0, "as it comes, "+dnsVIPs[i])
			}
			var page string
			s.eventually("the page of metrics says that the Service leads here", "true", func() string {
				_, page = s.httpGet(netlab.Node1, "127.0.0.1:10249", "/metrics")
				return strconv.FormatBool(strings.Contains(page, "\nfairway_dns_service_local 1\n"))
			})
			for _, want := range []string{"\nfairway_dns_staleness_seconds 0\n",
				`coredns_dns_requests_total{family="1",proto="udp",server="dns://169.254.20.10:53",type="A",view="",zone="."} `} {
				if !strings.Contains(page, want) {
					t.Errorf("the page of metrics lacks %q", want)
				}
			}
			s.lookUpAll()
			s.gateHolds()

			pesters = pesters[:0]
			for _, server := range dnsVIPs {
				pesters = append(pesters, s.pester(demoClient, server))
			}
			for _, p := range pesters {
				p.meets(t, ttlNode)
			}
			if err := a.stop(); err != nil {
				t.Error(err)
			}
			if _, err := s.ask(netlab.Node1, "tcp", "169.254.20.10:53", askedName); err == nil {
				t.Error("it still answers at its own address")
			}
			s.answeredBy("without it again", ttlCluster)
			for i, p := range pesters {
				p.meets(t, ttlCluster)
				// A flow of a port that is used again and again is cut in the end. A query that is on
				// its way at that moment, of which each pester has one, loses its reply.
				p.end(t, 1, "as it goes, "+dnsVIPs[i])
			}
		})
	}
}

// lookUpAll looks the demo's names up with a real resolver, which has the search list of a pod.
func (s *nodeStage) lookUpAll() {
	s.t.Helper()
	found, err := lookupNames(s.t.Context(), s.Lab, filepath.Dir(s.dir), []string{"web", "web.shop", askedName, "kube-dns.kube-system"})
	if err != nil {
		s.t.Error(err)
		return
	}
	for name, want := range map[string]string{"web": "[10.96.0.10 fd00:96::a]", askedName: "[10.96.0.10 fd00:96::a]", "kube-dns.kube-system": "[10.96.0.53 fd00:96::35]"} {
		if got := fmt.Sprint(found[name]); got != want {
			s.t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// gateHolds: once the name of a new Service resolves, its address works.
func (s *nodeStage) gateHolds() {
	s.t.Helper()
	for i := range 10 {
		ip := fmt.Sprintf("10.96.0.%d", 100+i)
		s.write("gate.yaml", fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: gate-%[1]d, namespace: shop},
  spec: {clusterIP: %[2]s, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: gate-%[1]d, namespace: shop, labels: {kubernetes.io/service-name: gate-%[1]d}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.2.21]}]}
`, i, ip))
		deadline := time.Now().Add(20 * time.Second)
		for {
			ttl, err := s.ask(demoClient, "udp", dnsVIPs[0], fmt.Sprintf("gate-%d.shop.svc.cluster.local.", i))
			if err != nil {
				s.t.Fatal(err)
			}
			if ttl == ttlNode { // a flow that began before may still lead to another resolver
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("Service gate-%d has no name", i)
			}
		}
		p := netlab.Probe{From: demoClient, To: netip.MustParseAddrPort(ip + ":80"), Protocol: proxier.TCP, Wait: 15 * time.Second}
		if got := s.Probes(p, 1)[0]; got.Verdict != netlab.Reached {
			s.t.Errorf("the name of gate-%d is there, its address is %v", i, got.Verdict)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, "gate.yaml")); err != nil {
		s.t.Fatal(err)
	}
}

// TestNodeDNSCluster: with an API server, headless Services and namespaces are known, and a directive
// may select by labels; the pages of both parts of the process are there, a port that is taken is
// tried again, and a signal ends both.
func TestNodeDNSCluster(t *testing.T) {
	s := newStage(t, "nft")
	api := listwatch.New()
	labelled := dnsService("green", "10.96.0.12")
	labelled.Labels = map[string]string{"colour": "green"}
	crew := dnsService("crew", corev1.ClusterIPNone)
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "crew-1",
		Labels: map[string]string{discoveryv1.LabelServiceName: "crew", corev1.IsHeadlessService: ""}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.11"}}}}
	if err := api.Set(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, dnsService("web", "10.96.0.11"), labelled, crew, slice); err != nil {
		t.Fatal(err)
	}
	var url string
	var taken net.Listener
	err := s.In(netlab.Node1, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		var stop func()
		url, stop = api.Start(l)
		t.Cleanup(stop)
		taken, err = net.Listen("tcp", "192.168.10.1:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "Corefile")
	writeFile(t, conf, ". {\nkubernetes cluster.local {\nttl 7\n}\nprometheus 127.0.0.1:9153\n}\ngreen.test {\nkubernetes green.test {\nlabels colour=green\n}\n}\n")
	a, err := startAgent(s.Lab, netlab.Node1, s.socket, "--master", url, "--hostname-override", netlab.Node1, "--cluster-cidr", "10.244.0.0/16", "--iptables-variant", "nft",
		"--conntrack-max-per-core", "0", "--dns-listen", "192.168.10.1", "--dns-corefile", conf, "--dns-service", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("log of the proxy:\n%s", a.logged())
		}
	})
	s.eventually("the port is taken", "true", func() string { return strconv.FormatBool(strings.Contains(a.logged(), "cannot serve; will try again")) })
	if err := a.ready(t.Context(), 2); err != nil { // nobody waits for the resolver
		t.Fatal(err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	n := &nodeStage{stage: s}
	s.strangers(n)
	for name, want := range map[string]bool{"web.shop.svc.cluster.local.": true, "crew.shop.svc.cluster.local.": true, "green.shop.svc.cluster.local.": true,
		"web.none.svc.cluster.local.": false, "green.shop.svc.green.test.": true, "web.shop.svc.green.test.": false} {
		s.eventually(name, strconv.FormatBool(want), func() string {
			ttl, err := n.askFor(exchangeTime, demoClient, "udp", "192.168.10.1:53", name)
			if err != nil {
				return err.Error()
			}
			return strconv.FormatBool(ttl > 0)
		})
	}
	for _, addr := range []string{"127.0.0.1:9153", "127.0.0.1:10249"} {
		if _, page := s.httpGet(netlab.Node1, addr, "/metrics"); !strings.Contains(page, `coredns_dns_requests_total{family="1",proto="udp",server="dns://192.168.10.1:53"`) {
			t.Errorf("the page at %s says nothing of queries", addr)
		}
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
}

// strangers checks that clients outside of the cluster get nothing from the node's resolver, over UDP
// or TCP, and that they are counted.
func (s *stage) strangers(n *nodeStage) {
	s.t.Helper()
	const at, name = "192.168.10.1:53", "web.shop.svc.cluster.local."
	s.eventually("a pod asks", "7", func() string {
		ttl, err := n.askFor(exchangeTime, demoClient, "udp", at, name)
		if err != nil {
			return err.Error()
		}
		return strconv.Itoa(ttl)
	})
	for _, network := range []string{"udp", "tcp"} {
		if ttl, err := n.askFor(exchangeTime, netlab.Outside, network, at, name); err == nil {
			s.t.Errorf("outside is answered over %s: TTL %d", network, ttl)
		}
		if _, err := n.ask(netlab.Node1, network, at, name); err != nil {
			s.t.Errorf("the node itself, over %s: %v", network, err)
		}
	}
	_, page := s.httpGet(netlab.Node1, "127.0.0.1:10249", "/metrics")
	if !strings.Contains(page, `fairway_dns_drops_total{reason="client"} 2`) {
		s.t.Error("the page of metrics does not count 2 strangers")
	}
}

// TestNodeDNSRefused: what cannot be meant ends the program before it touches anything.
func TestNodeDNSRefused(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "Corefile")
	for _, tc := range []struct{ corefile, flag, want string }{
		{". {\nnonsense\n}\n", "--dns-listen=192.0.2.1", conf + ":2"},
		{"example.org:5353 {\nwhoami\n}\n", "--dns-listen=192.0.2.1", "no block of the Corefile serves [192.0.2.1:53]"},
		{". {\nbind 192.0.2.7\nwhoami\n}\n", "--dns-listen=192.0.2.1", "no block of the Corefile serves [192.0.2.1:53]"},
		{". {\nwhoami\n}\n", "--dns-listen=::", "would answer the world"},
	} {
		writeFile(t, conf, tc.corefile)
		_, stderr, code := run(t, "proxy", "--manifests", t.TempDir(), tc.flag, "--dns-corefile", conf, "--admin-socket", filepath.Join(t.TempDir(), "s"))
		if code != 1 || !strings.Contains(stderr, tc.want) {
			t.Errorf("%s: exit code %d, want 1 and %q in\n%s", tc.flag, code, tc.want, stderr)
		}
	}
}
