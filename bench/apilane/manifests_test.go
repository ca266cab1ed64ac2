package apilane

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// deployed creates every object of a file of deploy on the API server, which checks them strictly.
func (c *cluster) deployed(t *testing.T, file string) (config corev1.ConfigMap) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", file))
	must(t, err)
	strict := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		must(t, yaml.Unmarshal(doc, &kind))
		into := func(o any) { must(t, yaml.UnmarshalStrict(doc, o)) }
		var err error
		switch kind.Kind {
		case "ServiceAccount":
			var o corev1.ServiceAccount
			into(&o)
			_, err = c.client.CoreV1().ServiceAccounts(o.Namespace).Create(t.Context(), &o, strict)
		case "ClusterRole":
			var o rbacv1.ClusterRole
			into(&o)
			_, err = c.client.RbacV1().ClusterRoles().Create(t.Context(), &o, strict)
		case "ClusterRoleBinding":
			var o rbacv1.ClusterRoleBinding
			into(&o)
			_, err = c.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &o, strict)
		case "ConfigMap":
			into(&config)
			_, err = c.client.CoreV1().ConfigMaps(config.Namespace).Create(t.Context(), &config, strict)
		case "Deployment":
			var o appsv1.Deployment
			into(&o)
			_, err = c.client.AppsV1().Deployments(o.Namespace).Create(t.Context(), &o, strict)
		case "DaemonSet":
			var o appsv1.DaemonSet
			into(&o)
			_, err = c.client.AppsV1().DaemonSets(o.Namespace).Create(t.Context(), &o, strict)
		case "Service":
			var o corev1.Service
			into(&o)
			_, err = c.client.CoreV1().Services(o.Namespace).Create(t.Context(), &o, strict)
		default:
			t.Fatalf("%s has a %s", file, kind.Kind)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", file, kind.Kind, err)
		}
	}
	return config
}

// asPod is what a container runtime makes of the resolver's pod: its user, no rights, port 53 for
// everybody, the token of its service account, its Corefile. Everything is in a /run of its own.
const asPod = `set -e
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount /run/conf
cp "$1"/token "$1"/ca.crt "$1"/namespace /run/secrets/kubernetes.io/serviceaccount/
cp "$1"/Corefile /run/conf/Corefile
cp "$2" /run/coredns
chmod -R a+rX /run
echo 53 >/proc/sys/net/ipv4/ip_unprivileged_port_start
exec setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \
	/run/coredns -conf /run/conf/Corefile`

// startResolver runs "fairway dns" as the manifests say, with the rights that they give it.
func (c *cluster) startResolver(t *testing.T, corefile string) *process.Process {
	t.Helper()
	token, err := c.client.CoreV1().ServiceAccounts("kube-system").CreateToken(t.Context(), "coredns", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	ca, err := os.ReadFile(filepath.Join(filepath.Dir(c.api.Kubeconfig()), "certs", "apiserver.crt"))
	must(t, err)
	dir := t.TempDir()
	for name, text := range map[string]string{"token": token.Status.Token, "ca.crt": string(ca), "namespace": "kube-system", "Corefile": corefile} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	api, err := url.Parse(c.api.Config().Host)
	must(t, err)
	var p *process.Process
	must(t, c.inNode(func() (err error) {
		cmd := exec.Command("unshare", "--mount", "sh", "-c", asPod, "sh", dir, filepath.Join(c.bin, peerbin.Fairway))
		cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST="+api.Hostname(), "KUBERNETES_SERVICE_PORT="+api.Port())
		p, err = process.Start(cmd)
		return err
	}))
	t.Cleanup(p.Kill)
	return p
}

// page asks for a page of the resolver's HTTP servers, without net/http, which would connect from
// another thread and so from another namespace.
func page(port int, path string) (string, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// lookup asks the resolver on node-1.
func (c *cluster) lookup(name string, qtype uint16) (m *dnswire.Msg, err error) {
	err = c.inNode(func() error {
		client := dnswire.Client{Timeout: patience}
		m, _, err = client.Exchange(new(dnswire.Msg).SetQuestion(name, qtype), netip.AddrPortFrom(netlab.Node1Addr, 53).String())
		return err
	})
	return m, err
}

// TestManifests: the API server takes the manifests of deploy as they are. With the rights, the
// user and the Corefile that they give it, the resolver becomes ready and answers.
func TestManifests(t *testing.T) {
	c := newCluster(t)
	c.deployed(t, "fairway.yaml")
	p := c.startResolver(t, c.deployed(t, "dns.yaml").Data["Corefile"])
	defer func() {
		if t.Failed() {
			t.Logf("log of the resolver:\n%s", p.Output())
		}
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ready := ""
		err := c.inNode(func() (err error) { ready, err = page(8181, "/ready"); return err })
		if err == nil && strings.HasPrefix(ready, "HTTP/1.0 200") {
			break
		}
		select {
		case <-p.Done():
			t.Fatalf("the resolver ended: %v", p.Err())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the resolver is not ready: %v %s", err, ready)
		}
	}
	for port, path := range map[int]string{8080: "/health", 9153: "/metrics"} {
		must(t, c.inNode(func() error {
			text, err := page(port, path)
			if err == nil && !strings.HasPrefix(text, "HTTP/1.0 200") {
				err = fmt.Errorf("%s: %s", path, text)
			}
			return err
		}))
	}
	tests := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"kube-dns.kube-system.svc.cluster.local.", dnswire.TypeA, "10.96.0.10"},
		{"10.0.96.10.in-addr.arpa.", dnswire.TypePTR, "kube-dns.kube-system.svc.cluster.local."},
		{"kubernetes.default.svc.cluster.local.", dnswire.TypeA, "10.96.0.1"},
		{"10-1-2-3.kube-system.pod.cluster.local.", dnswire.TypeA, "10.1.2.3"},
		{"nothing.kube-system.svc.cluster.local.", dnswire.TypeA, ""},
	}
	for _, tc := range tests {
		m, err := c.lookup(tc.name, tc.qtype)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if tc.want == "" && m.Rcode != dnswire.RcodeNameError || tc.want != "" && (len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+tc.want)) {
			t.Errorf("%s: want %q\n%v", tc.name, tc.want, m)
		}
	}
	if log := p.Output(); strings.Contains(log, "forbidden") {
		t.Error("the role is too narrow")
	}
}
