package apilane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Services and slices that are created, changed and deleted through the API reach the kernel.
// While the API server is dead, traffic goes on; when it is back, new changes apply.
func TestFollowsTheAPIServer(t *testing.T) {
	c := newCluster(t)
	services, slices := c.client.CoreV1().Services("default"), c.client.DiscoveryV1().EndpointSlices("default")
	svc, err := services.Create(t.Context(), web("web", 80), metav1.CreateOptions{})
	must(t, err)
	clusterIP := fmt.Sprintf("%s:%d", svc.Spec.ClusterIP, 80)
	nodePort := fmt.Sprintf("%s:%d", netlab.Node1Addr, svc.Spec.Ports[0].NodePort)
	c.reaches(t, "b", clusterIP)
	_, err = slices.Create(t.Context(), slice("web", "a", "f"), metav1.CreateOptions{})
	must(t, err)
	c.reaches(t, "b", clusterIP, "a", "f")
	c.reaches(t, netlab.Outside, nodePort, "a", "f")

	update := func(pods ...string) {
		t.Helper()
		_, err := slices.Update(t.Context(), slice("web", pods...), metav1.UpdateOptions{})
		must(t, err)
	}
	update("f")
	c.reaches(t, "b", clusterIP, "f")
	svc.Spec.Ports[0].Port = 81
	svc, err = services.Update(t.Context(), svc, metav1.UpdateOptions{})
	must(t, err)
	c.reaches(t, "b", clusterIP) // the old port
	clusterIP = fmt.Sprintf("%s:%d", svc.Spec.ClusterIP, 81)
	c.reaches(t, "b", clusterIP, "f")

	stream, err := c.Stream("b", netip.MustParseAddrPort(clusterIP))
	must(t, err)
	stop := c.Churn("b", proxier.TCP, 1, 5*time.Second, netip.MustParseAddrPort(clusterIP), netip.MustParseAddrPort(nodePort))
	c.api.Kill()
	time.Sleep(time.Second) // long enough for the agent's watches to break and be tried again
	must(t, stream.Alive(100))
	must(t, c.api.Restart(t.Context()))
	update("f", "g")
	c.reaches(t, "b", clusterIP, "f", "g")
	c.saysThatItWasAlone(t)
	page := c.metrics(t)
	host := strings.TrimPrefix(c.api.Config().Host, "https://")
	for _, series := range []string{
		`rest_client_requests_total{code="200",host="` + host + `",method="GET"} `,
		`rest_client_requests_total{code="<error>",host="` + host + `",method="GET"} `,
		`rest_client_request_duration_seconds_count{host="` + host + `",verb="GET"} `,
		`rest_client_response_size_bytes_count{host="` + host + `",verb="GET"} `,
		`kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} `,
		"fairway_watch_staleness_seconds 0\n",
	} {
		if !strings.Contains(page, series) {
			t.Errorf("the metrics have no %s", series)
		}
	}
	churn := stop()
	must(t, churn.Err())
	must(t, stream.Close())
	t.Logf("%d connections while the API server was killed and restarted, the longest took %s", churn.OK, churn.Longest)

	must(t, slices.Delete(t.Context(), "web-1", metav1.DeleteOptions{}))
	c.reaches(t, "b", clusterIP)
	update2, err := slices.Create(t.Context(), slice("web", "a"), metav1.CreateOptions{})
	must(t, err)
	c.reaches(t, netlab.Outside, nodePort, "a")
	must(t, services.Delete(t.Context(), "web", metav1.DeleteOptions{}))
	c.reaches(t, "b", clusterIP)
	c.reaches(t, netlab.Outside, nodePort)
	must(t, slices.Delete(t.Context(), update2.Name, metav1.DeleteOptions{}))
}

// After 1,000 random operations on the API, with the API server killed in the middle, the kernel
// is what a fresh start makes of the same objects.
func TestRandomOperations(t *testing.T) {
	c := newCluster(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	start := time.Now()
	for i := range 1000 {
		if i == 500 {
			c.api.Kill()
			must(t, c.api.Restart(t.Context()))
		}
		if err := c.randomOperation(t, r); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
	}
	t.Logf("1000 operations took %s", time.Since(start).Round(time.Millisecond))
	svc := c.marker(t)
	c.reaches(t, "b", svc, "a")
	got := c.settled(t)
	c.fresh(t)
	c.reaches(t, "b", svc, "a")
	want := c.settled(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kernel after 1000 operations (-fresh +got)\n%s", diff)
	}
	rules := 0
	for _, chain := range want {
		rules += len(chain)
	}
	t.Logf("%d chains with %d rules are equal", len(want), rules)
	if rules < 100 {
		t.Errorf("only %d rules: the operations left nothing to compare", rules)
	}
}

// marker makes a last Service that works once everything before it was seen.
func (c *cluster) marker(t *testing.T) string {
	t.Helper()
	svc, err := c.client.CoreV1().Services("default").Create(t.Context(), web("marker", 80), metav1.CreateOptions{})
	must(t, err)
	_, err = c.client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice("marker", "a"), metav1.CreateOptions{})
	must(t, err)
	return fmt.Sprintf("%s:80", svc.Spec.ClusterIP)
}

// randomOperation creates, changes or deletes one of 40 Services or its slice.
func (c *cluster) randomOperation(t *testing.T, r *rand.Rand) error {
	services, slices := c.client.CoreV1().Services("default"), c.client.DiscoveryV1().EndpointSlices("default")
	name := fmt.Sprintf("svc-%d", r.IntN(40))
	switch op := r.IntN(10); {
	case op < 3: // create or replace the Service
		svc := randomService(r, name)
		old, err := services.Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = services.Create(t.Context(), svc, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		svc.ResourceVersion = old.ResourceVersion
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = old.Spec.ClusterIP, old.Spec.ClusterIPs
		svc.Spec.HealthCheckNodePort = 0
		_, err = services.Update(t.Context(), svc, metav1.UpdateOptions{})
		return err
	case op < 4: // its load balancer gives it an address, or another
		svc, err := services.Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return nil
		}
		if err != nil {
			return err
		}
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("198.51.100.%d", 1+r.IntN(200))}}
		_, err = services.UpdateStatus(t.Context(), svc, metav1.UpdateOptions{})
		return err
	case op < 5:
		return ignoreNotFound(services.Delete(t.Context(), name, metav1.DeleteOptions{}))
	case op < 6:
		return ignoreNotFound(slices.Delete(t.Context(), name+"-1", metav1.DeleteOptions{}))
	default: // create or replace the slice
		s := slice(name, randomEndpoints(r)...)
		for i := range s.Endpoints {
			ready := r.IntN(4) > 0
			s.Endpoints[i].Conditions.Ready = &ready
		}
		_, err := slices.Update(t.Context(), s, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = slices.Create(t.Context(), s, metav1.CreateOptions{})
		}
		return err
	}
}

func randomService(r *rand.Rand, name string) *corev1.Service {
	svc := web(name, int32(80+r.IntN(3)))
	svc.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}[r.IntN(3)]
	if svc.Spec.Type != corev1.ServiceTypeClusterIP && r.IntN(2) == 0 {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && r.IntN(2) == 0 {
		svc.Spec.LoadBalancerSourceRanges = []string{"192.168.20.0/24"}
	}
	if r.IntN(3) == 0 {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if r.IntN(3) == 0 {
		svc.Spec.ExternalIPs = []string{fmt.Sprintf("203.0.113.%d", 1+r.IntN(200))}
	}
	return svc
}

// randomEndpoints are up to four pods, of the lab or not.
func randomEndpoints(r *rand.Rand) []string {
	var out []string
	for range r.IntN(5) {
		out = append(out, fmt.Sprintf("10.244.%d.%d", 1+r.IntN(2), 100+r.IntN(100)))
	}
	return out
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
