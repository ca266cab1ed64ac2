package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/proxier/wait"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestTruncated: a reply that was cut is fetched whole over TCP; if that fails, the client gets
// what there is, marked.
func TestTruncated(t *testing.T) {
	tcp := true
	up := (&fake{answer: func(a ask) [][]byte {
		switch {
		case a.proto == "tcp" && tcp:
			return always("192.0.2.1")(a)
		case a.proto == "tcp":
			return [][]byte{nil}
		case a.Question[0].Name == "long.example.":
			// Cut in the middle of a record, as some servers do.
			m := a.says(0, "long.example. 60 IN A 192.0.2.9")
			m.Truncated = true
			b := packed(m)
			return [][]byte{b[:len(b)-14]}
		}
		m := a.says(0)
		m.Truncated = true
		return [][]byte{packed(m)}
	}}).start(t)
	d := quick(up)
	d.PreferUDP = true
	f := made(t, d)
	for _, q := range []string{"www.example. A", "long.example. A", "www.example. A tcp"} {
		if got := got(serve(f, q)); !strings.HasPrefix(got, "NOERROR ") || !strings.HasSuffix(got, " 192.0.2.1") {
			t.Error(q, got)
		}
	}
	tcp = false
	f = made(t, quick(up))
	for _, q := range []string{"www.example. A", "long.example. A"} {
		if got := got(serve(f, q)); got != "NOERROR tc" {
			t.Error(q, got)
		}
	}
	n := len(up.asked())
	serve(f, "www.example. A")
	if up.asked()[len(up.asked())-1].proto != "udp" || len(up.asked()) != n+1 {
		t.Error("TCP is tried again though it just failed")
	}
}

// TestWhichProto: who is asked over what.
func TestWhichProto(t *testing.T) {
	for _, tt := range []struct {
		client     string
		force, udp bool
		want       string
	}{
		{"udp", false, false, "udp"}, {"tcp", false, false, "tcp"}, {"udp", true, false, "tcp"},
		{"tcp", false, true, "udp"}, {"tcp", true, true, "tcp"},
	} {
		up := (&fake{answer: always("192.0.2.1")}).start(t)
		d := quick(up)
		d.ForceTCP, d.PreferUDP = tt.force, tt.udp
		serve(made(t, d), "www.example. A "+tt.client)
		if got := up.asked()[0].proto; got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestNoEDNS: a server that refuses EDNS is asked without, and again only after some time.
func TestNoEDNS(t *testing.T) {
	up := (&fake{answer: func(a ask) [][]byte {
		if a.IsEdns0() == nil {
			return always("192.0.2.1")(a)
		}
		m := a.says(dnswire.RcodeFormatError)
		m.Extra = nil
		if a.Question[0].Name == "header.example." {
			m.Question = nil
		}
		return [][]byte{packed(m)}
	}}).start(t)
	f := made(t, quick(up))
	for i, q := range []string{"header.example. A", "www.example. A"} {
		if got := got(serve(f, q)); got != "NOERROR "+strings.Fields(q)[0]+" 192.0.2.1" {
			t.Error(q, got)
		}
		if n := len(up.asked()); n != 2+i {
			t.Errorf("%s: asked %d times", q, n)
		}
	}
	if got := got(serve(f, "www.example. A do")); got != "FORMERR" {
		t.Error("a client with EDNS:", got)
	}
}

// TestConnections: connections are used again, replaced when the other side closed them, and
// closed when they are old or too many.
func TestConnections(t *testing.T) {
	hold := make(chan struct{})
	up := (&fake{answer: func(a ask) [][]byte {
		out := always("192.0.2.1")(a)
		switch a.Question[0].Name {
		case "last.example.":
			out = append(out, nil)
		case "wait1.example.", "wait2.example.":
			<-hold
		}
		return out
	}}).start(t)
	d := quick(up)
	d.MaxIdleConns = 1
	f := made(t, d)
	u := f.Upstreams()[0]
	ask := func(name string) int {
		t.Helper()
		p := serve(f, name+" A tcp")
		if got := got(p); got != "NOERROR "+name+" 192.0.2.1" {
			t.Fatal(got, p.Err)
		}
		all := up.asked()
		return all[len(all)-1].conn
	}
	if a, b := ask("a.example."), ask("b.example."); a != 1 || b != 1 {
		t.Errorf("connections %d and %d", a, b)
	}
	ask("last.example.")
	if c := ask("c.example."); c != 2 {
		t.Errorf("connection %d after the first was closed", c)
	}
	done := make(chan int, 2)
	for _, n := range []string{"wait1.example.", "wait2.example."} {
		go func() { serve(f, n+" A tcp"); done <- 0 }()
	}
	wait.Until(t, "both are asked", func() bool { return len(up.asked()) == 6 })
	close(hold)
	<-done
	<-done
	if n := len(u.idle.conns); n != 1 {
		t.Errorf("%d connections are kept", n)
	}
	u.idle.mu.Lock()
	u.idle.maxAge = time.Nanosecond
	u.idle.mu.Unlock()
	if c := ask("d.example."); c < 4 {
		t.Errorf("connection %d is too old", c)
	}
	hits := testutil.ToFloat64(f.metrics.connHits.WithLabelValues("forward", up.addr.String(), "tcp"))
	misses := testutil.ToFloat64(f.metrics.connMisses.WithLabelValues("forward", up.addr.String(), "tcp"))
	if hits != 4 || misses != 4 {
		t.Errorf("%v hits, %v misses", hits, misses)
	}
}

// TestPoolExpires: a connection that nobody uses is closed.
func TestPoolExpires(t *testing.T) {
	var p pool
	p.init(time.Millisecond, 0, 0)
	a, b := net.Pipe()
	defer b.Close()
	p.put(&idleConn{Conn: a, created: time.Now()})
	if _, err := b.Read(make([]byte, 1)); err == nil { // until the other side closes
		t.Error("read something")
	}
	wait.Until(t, "the pool is empty", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns) == 0 && p.timer == nil
	})
	p.close()
	a2, b2 := net.Pipe()
	defer b2.Close()
	p.put(&idleConn{Conn: a2})
	if _, err := b2.Read(make([]byte, 1)); err == nil {
		t.Error("a closed pool keeps a connection")
	}
}

// certificates makes a certificate authority, a server certificate and a client certificate, and
// returns the server's configuration and the folder of the files.
func certificates(t *testing.T, name string) (*tls.Config, string) {
	t.Helper()
	dir := t.TempDir()
	caKey, ca := certificate(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", "CERTIFICATE", ca.Raw)
	serverKey, server := certificate(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}}, ca, caKey)
	clientKey, client := certificate(t, &x509.Certificate{SerialNumber: big.NewInt(3), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, caKey)
	key, err := x509.MarshalECPrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	write("client.pem", "CERTIFICATE", client.Raw)
	write("client.key", "EC PRIVATE KEY", key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, dir
}

func certificate(t *testing.T, c, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, out
}

// TestTLS: upstreams over TLS are asked only if they are who they should be.
func TestTLS(t *testing.T) {
	conf, dir := certificates(t, "dns.example")
	up := (&fake{answer: always("192.0.2.1"), secure: conf}).start(t)
	good := func() *corefile.Forward {
		d := quick(up)
		d.To[0].Scheme, d.TLSServerName = "tls", "dns.example"
		d.TLS = corefile.ForwardTLS{Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"), CA: filepath.Join(dir, "ca.pem")}
		return d
	}
	f := made(t, good())
	for range 3 {
		if p := serve(f, "www.example. A"); got(p) != "NOERROR www.example. 192.0.2.1" {
			t.Fatal(got(p), p.Err)
		}
	}
	if last := up.asked()[2]; last.conn != 1 {
		t.Error("connection", last.conn)
	}
	own := good()
	own.To[0].ServerName, own.TLSServerName = "dns.example", ""
	if p := serve(made(t, own), "www.example. A"); p.Code() != 0 {
		t.Error("name of its own:", p.Err)
	}
	for what, spoil := range map[string]func(*corefile.Forward){
		"another name":   func(d *corefile.Forward) { d.TLSServerName = "other.example" },
		"no name":        func(d *corefile.Forward) { d.TLSServerName = "" },
		"unknown signer": func(d *corefile.Forward) { d.TLS.CA = "" },
		"no certificate": func(d *corefile.Forward) { d.TLS.Cert, d.TLS.Key = "", "" },
	} {
		d := good()
		spoil(d)
		before := len(up.asked())
		if p := serve(made(t, d), "www.example. A"); p.Code() != dnswire.RcodeServerFailure || p.Err == nil || len(up.asked()) != before {
			t.Error(what, got(p), p.Err)
		}
	}
	for _, bad := range []corefile.ForwardTLS{{CA: filepath.Join(dir, "none")}, {CA: filepath.Join(dir, "client.key")}, {Cert: "none", Key: "none"}} {
		if _, err := tlsConfig(bad); err == nil {
			t.Error("taken:", bad)
		}
	}
}

// TestConnectTime: connecting leaves time for another attempt, if there will be one.
func TestConnectTime(t *testing.T) {
	f := made(t, quick(&fake{addr: nobody}))
	end := time.Now().Add(time.Hour)
	outer, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	middle := func() time.Time { now := time.Now(); return now.Add(end.Sub(now) / 2) }
	least := middle()
	inner, cancel := f.Upstreams()[0].connectTime(outer)
	most := middle()
	cancel()
	if got, _ := inner.Deadline(); got.Before(least) || got.After(most) {
		t.Errorf("%v of an hour", got.Sub(least))
	}
	f.o.MaxConnectAttempts = 1
	inner, cancel = f.Upstreams()[0].connectTime(outer)
	defer cancel()
	if got, _ := inner.Deadline(); !got.Equal(end) {
		t.Error("the only attempt ends early")
	}
}

// BenchmarkForward asks an upstream on loopback, one query after the other.
func BenchmarkForward(b *testing.B) {
	up := (&fake{answer: always("192.0.2.1")}).start(b)
	h := made(b, quick(up)).Wrap(plugin.End)
	r := request("www.example. A")
	b.ReportAllocs()
	for b.Loop() {
		if p := h.Serve(context.Background(), r); p.Err != nil {
			b.Fatal(p.Err)
		}
	}
}
