package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/proxier/watch"
)

// resolver is deploy/dns.yaml, read strictly.
type resolver struct {
	account    corev1.ServiceAccount
	role       rbacv1.ClusterRole
	binding    rbacv1.ClusterRoleBinding
	config     corev1.ConfigMap
	deployment appsv1.Deployment
	service    corev1.Service
}

func readDNS(t *testing.T) (m resolver) {
	t.Helper()
	text, err := os.ReadFile("dns.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := bytes.Split(text, []byte("\n---\n"))
	into := []any{&m.account, &m.role, &m.binding, &m.config, &m.deployment, &m.service}
	if len(docs) != len(into) {
		t.Fatalf("%d objects, want %d", len(docs), len(into))
	}
	for i, doc := range docs {
		if err := yaml.UnmarshalStrict(doc, into[i]); err != nil {
			t.Fatalf("object %d: %v", i, err)
		}
	}
	return m
}

// TestAddon: the objects take the place of kubeadm's, so names, labels, ports and selectors are
// kubeadm's.
func TestAddon(t *testing.T) {
	m := readDNS(t)
	names := []string{}
	for _, o := range []struct{ namespace, name string }{
		{m.account.Namespace, m.account.Name}, {m.role.Namespace, m.role.Name}, {m.binding.Namespace, m.binding.Name},
		{m.config.Namespace, m.config.Name}, {m.deployment.Namespace, m.deployment.Name}, {m.service.Namespace, m.service.Name},
	} {
		names = append(names, o.namespace+"/"+o.name)
	}
	want := []string{"kube-system/coredns", "/system:coredns", "/system:coredns", "kube-system/coredns", "kube-system/coredns", "kube-system/kube-dns"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	label := map[string]string{"k8s-app": "kube-dns"}
	for what, got := range map[string]map[string]string{
		"deployment": m.deployment.Labels, "selector": m.deployment.Spec.Selector.MatchLabels,
		"pods": m.deployment.Spec.Template.Labels, "service's selector": m.service.Spec.Selector,
	} {
		if diff := cmp.Diff(label, got); diff != "" {
			t.Errorf("labels of the %s (-want +got):\n%s", what, diff)
		}
	}
	if m.service.Labels["k8s-app"] != "kube-dns" || m.service.Labels["kubernetes.io/cluster-service"] != "true" || m.service.Labels["kubernetes.io/name"] != "CoreDNS" {
		t.Errorf("labels of the service: %v", m.service.Labels)
	}
	var ports []string
	for _, p := range m.service.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%s %d/%s to %s", p.Name, p.Port, p.Protocol, p.TargetPort.String()))
	}
	if diff := cmp.Diff([]string{"dns 53/UDP to 53", "dns-tcp 53/TCP to 53", "metrics 9153/TCP to 9153"}, ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if ip := m.service.Spec.ClusterIP; ip != "10.96.0.10" {
		t.Errorf("clusterIP is %s", ip)
	}
	if m.binding.RoleRef.Name != m.role.Name || m.binding.Subjects[0].Name != m.account.Name || m.binding.Subjects[0].Namespace != m.account.Namespace ||
		m.deployment.Spec.Template.Spec.ServiceAccountName != m.account.Name {
		t.Error("role, binding and service account do not fit")
	}
}

// TestAddonPod: probes, rights and files of the pod.
func TestAddonPod(t *testing.T) {
	m := readDNS(t)
	pod := m.deployment.Spec.Template.Spec
	c := pod.Containers[0]
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, probe := range []struct {
		*corev1.Probe
		path string
		port int32
	}{{c.LivenessProbe, "/health", 8080}, {c.ReadinessProbe, "/ready", 8181}} {
		if got := probe.HTTPGet; got.Path != probe.path || ports[got.Port.StrVal] != probe.port {
			t.Errorf("probe %s %s is port %d, want %s at %d", got.Path, got.Port.String(), ports[got.Port.StrVal], probe.path, probe.port)
		}
	}
	if pod.HostNetwork || pod.HostPID || pod.DNSPolicy != corev1.DNSDefault || pod.PriorityClassName != "system-cluster-critical" {
		t.Errorf("hostNetwork %v, hostPID %v, dnsPolicy %s, priority %s", pod.HostNetwork, pod.HostPID, pod.DNSPolicy, pod.PriorityClassName)
	}
	s := c.SecurityContext
	if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !*pod.SecurityContext.RunAsNonRoot ||
		!slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_BIND_SERVICE"}) || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("security context %+v, %+v", s, pod.SecurityContext)
	}
	if sysctl := pod.SecurityContext.Sysctls[0]; sysctl.Name != "net.ipv4.ip_unprivileged_port_start" || sysctl.Value != "53" {
		t.Errorf("sysctl %+v: not root, and port 53", sysctl)
	}
	if limit := c.Resources.Limits.Memory().String(); limit != "170Mi" || c.Resources.Requests.Cpu().String() != "100m" {
		t.Errorf("resources %+v", c.Resources)
	}
	// The folder is mounted, not the file: only then a change of the ConfigMap gets to the pod.
	mount, volume := c.VolumeMounts[0], pod.Volumes[0]
	if mount.SubPath != "" || mount.Name != volume.Name || volume.ConfigMap.Name != m.config.Name ||
		!slices.Equal(c.Args, []string{"-conf", mount.MountPath + "/" + volume.ConfigMap.Items[0].Path}) {
		t.Errorf("args %q, mount %+v, volume %+v", c.Args, mount, volume.ConfigMap)
	}
}

// TestAddonCorefile: the Corefile of the ConfigMap is accepted, and is the one of kubeadm.
func TestAddonCorefile(t *testing.T) {
	c, err := corefile.Parse("Corefile", []byte(readDNS(t).config.Data["Corefile"]), corefile.Options{OwnObjects: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 || len(c.Blocks) != 1 || c.Blocks[0].Keys[0].String() != "dns://.:53" {
		t.Errorf("warnings %q, %d blocks, keys %v", c.Warnings, len(c.Blocks), c.Blocks[0].Keys)
	}
	var plugins []string
	for _, d := range c.Blocks[0].Plugins {
		plugins = append(plugins, d.Plugin())
	}
	want := []string{"reload", "ready", "health", "prometheus", "errors", "loadbalance", "cache", "kubernetes", "loop", "forward"}
	if diff := cmp.Diff(want, plugins); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}
	k, _ := corefile.Find[*corefile.Kubernetes](c.Blocks[0])
	cache, _ := corefile.Find[*corefile.Cache](c.Blocks[0])
	if k.TTL != 30 || k.Pods != corefile.PodsInsecure || k.PrimaryZone != "cluster.local." || !slices.Equal(cache.DenialExcept, k.Zones[:1]) || !slices.Equal(cache.SuccessExcept, k.Zones[:1]) {
		t.Errorf("kubernetes %+v\ncache %+v", k, cache)
	}
}

// asked runs the resolver's watches against a server that has nothing, and returns what they ask
// for until all of want was seen.
func asked(t *testing.T, want map[string]bool) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	got := map[string]bool{}
	seen := make(chan struct{}, 1)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		group := ""
		if parts[0] == "apis" {
			group = parts[1]
		}
		verb := "list"
		if r.URL.Query().Get("watch") != "" {
			verb = "watch"
		}
		mu.Lock()
		got[group+"/"+parts[len(parts)-1]+" "+verb] = true
		mu.Unlock()
		select {
		case seen <- struct{}{}:
		default:
		}
		switch {
		case r.Method != http.MethodGet:
			http.Error(w, "only lists and watches", http.StatusMethodNotAllowed)
		case r.URL.Query().Get("sendInitialEvents") != "": // an API server without WatchList
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case verb == "watch":
			<-r.Context().Done()
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`)
		}
	}))
	defer api.Close()
	client, err := watch.NewClient(watch.ClientOptions{Master: api.URL, QPS: 1000, Burst: 1000, ContentType: "application/json"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := watch.NewNames(watch.NamesOptions{PodNames: true, Pods: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- watch.ClusterNames(ctx, n, client, nil, slog.New(slog.DiscardHandler)) }()
	defer func() { cancel(); <-done; api.CloseClientConnections() }()
	for {
		select {
		case <-ctx.Done():
			return got
		case <-seen:
			mu.Lock()
			missing := false
			for w := range want {
				missing = missing || !got[w]
			}
			mu.Unlock()
			if !missing {
				return got
			}
		}
	}
}

// TestAddonRights: the role allows what the resolver asks for, and else only what CoreDNS asks for.
func TestAddonRights(t *testing.T) {
	allowed := map[string]bool{}
	for _, r := range readDNS(t).role.Rules {
		if len(r.ResourceNames)+len(r.NonResourceURLs) > 0 {
			t.Errorf("rule %+v", r)
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					allowed[group+"/"+resource+" "+verb] = true
				}
			}
		}
	}
	want := map[string]bool{}
	for a := range allowed {
		if !strings.HasPrefix(a, "/endpoints ") { // for the way back to CoreDNS
			want[a] = true
		}
	}
	if diff := cmp.Diff(want, asked(t, want)); diff != "" {
		t.Errorf("allowed (-) and asked for (+):\n%s", diff)
	}
}
