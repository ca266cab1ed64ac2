// Package apiserver runs a real Kubernetes API server with its etcd for tests and measurements.
//
// Both are children of the calling process and end with it. They listen on loopback addresses of
// one network namespace, the caller's or any other. All their data is in one directory that
// [Server.Close] removes. The API server is bench/peers' kube-apiserver, etcd is the one in PATH
// (Debian: etcd-server), which runs without fsync: it is quick and does not survive a power cut.
//
// There are no controllers: nobody makes EndpointSlices for Services, and nobody deletes what a
// deleted object owned. There is one user, who may do everything.
package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
)

// Options say how to run the server.
type Options struct {
	// In runs a function on a thread in the network namespace to use; nil for the namespace of
	// the process. See netlab's Lab.In.
	In func(func() error) error
	// ServiceCIDRs is the value of --service-cluster-ip-range.
	ServiceCIDRs string
}

// A Server is a running API server and its etcd. Its methods are not safe for concurrent use.
type Server struct {
	o         Options
	bin, dir  string
	port      int
	etcdURL   string
	etcd, api *process.Process
}

const (
	token     = "fairway-lab"
	startTime = 5 * time.Minute // the API server needs about 10 s on two cores that do nothing else
)

// New starts a Server for a test, which ends it. The test is skipped, or fails, where there can
// be none: see [peerbin.Need].
func New(t testing.TB, o Options) *Server {
	t.Helper()
	bin := peerbin.Need(t, peerbin.APIServer)
	if _, err := exec.LookPath("etcd"); err != nil {
		if peerbin.Required("apiserver") {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v (Debian: etcd-server)", err)
	}
	s, err := Start(t.Context(), bin, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Start starts the API server whose program is bin, and etcd, and returns when it is ready.
func Start(ctx context.Context, bin string, o Options) (_ *Server, err error) {
	if o.In == nil {
		o.In = func(f func() error) error { return f() }
	}
	s := &Server{o: o, bin: bin}
	if s.dir, err = process.TempDir("apiserver"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.writeFiles(); err != nil {
		return nil, err
	}
	if err := s.startEtcd(); err != nil {
		return nil, err
	}
	if s.port, err = s.freePort(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.Kubeconfig(), s.kubeconfig(), 0o600); err != nil {
		return nil, fmt.Errorf("api server: %w", err)
	}
	return s, s.Restart(ctx)
}

func (s *Server) writeFiles() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("api server key: %w", err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	for name, data := range map[string][]byte{
		"sa.key": pem.EncodeToMemory(block),
		"tokens": []byte(token + ",admin,admin,system:masters\n"),
	} {
		if err := os.WriteFile(s.file(name), data, 0o600); err != nil {
			return fmt.Errorf("api server: %w", err)
		}
	}
	return nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// freePort returns a port of 127.0.0.1 in the server's namespace that nobody has. Between this
// and its use somebody may take it; then the start fails.
func (s *Server) freePort() (port int, err error) {
	err = s.o.In(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port = l.Addr().(*net.TCPAddr).Port
		return l.Close()
	})
	return port, err
}

func (s *Server) start(name string, args ...string) (p *process.Process, err error) {
	err = s.o.In(func() error {
		p, err = process.Start(exec.Command(name, args...))
		return err
	})
	return p, err
}

func (s *Server) startEtcd() error {
	client, err := s.freePort()
	if err != nil {
		return err
	}
	peer, err := s.freePort()
	if err != nil {
		return err
	}
	s.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", client)
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", peer)
	s.etcd, err = s.start("etcd", "--data-dir", s.file("etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", s.etcdURL, "--advertise-client-urls", s.etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL,
		"--quota-backend-bytes", "4294967296")
	return err
}

// Restart starts the API server, which must not be running, on the same address with the same
// data, and returns when it is ready.
func (s *Server) Restart(ctx context.Context) (err error) {
	s.api, err = s.start(s.bin,
		"--etcd-servers", s.etcdURL,
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(s.port),
		// Loopback is refused here, and the lab's namespaces have no default route to guess by.
		"--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none",
		"--cert-dir", s.file("certs"),
		"--service-cluster-ip-range", s.o.ServiceCIDRs,
		"--service-account-issuer", "https://fairway.invalid",
		"--service-account-key-file", s.file("sa.key"), "--service-account-signing-key-file", s.file("sa.key"),
		"--token-auth-file", s.file("tokens"), "--authorization-mode", "RBAC",
		"--allow-privileged") // as kubeadm has it: pods of proxies need it
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.etcd.Done():
			return s.etcd.Err()
		case <-s.api.Done():
			return s.api.Err()
		case <-ctx.Done():
			return fmt.Errorf("api server is not ready after %s: %w: %s", startTime, err, s.api.Output())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Kill ends the API server with SIGKILL. etcd and the data stay; see [Server.Restart].
func (s *Server) Kill() { s.api.Kill() }

// Close ends both programs and removes their data.
func (s *Server) Close() error {
	for _, p := range []*process.Process{s.api, s.etcd} {
		if p != nil {
			p.Kill()
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("api server: %w", err)
	}
	return nil
}

// PID is the process id of the API server.
func (s *Server) PID() int { return s.api.PID() }

// Config returns a client configuration that works from any namespace and does not limit the
// rate of requests.
func (s *Server) Config() *rest.Config {
	c := &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", s.port),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // its certificate is its own
		QPS:             -1,
		WarningHandler:  rest.NoWarnings{}, // of fields that are deprecated
		Dial: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			err = s.o.In(func() error {
				c, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return c, err
		},
	}
	c.ContentType = runtime.ContentTypeProtobuf
	return c
}

// Kubeconfig is the path of a kubeconfig file for programs in the server's namespace.
func (s *Server) Kubeconfig() string { return s.file("kubeconfig") }

func (s *Server) kubeconfig() []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: admin}}]
current-context: lab
`, s.port, token)
}
