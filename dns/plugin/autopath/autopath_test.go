package autopath

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/acl"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

// pods knows one pod, in the namespace prod.
type pods struct{}

func (pods) SearchPath(client netip.Addr) []string {
	if client != netip.MustParseAddr("10.244.1.5") {
		return nil
	}
	return []string{"prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local."}
}

// world is what the plugins behind answer: NXDOMAIN for all that is not listed.
func world(t *testing.T) *plugintest.Next {
	ok := func(texts ...string) plugin.Reply { return plugintest.Answers(t, dnswire.RcodeSuccess, texts...) }
	nx := plugintest.Answers(t, dnswire.RcodeNameError, "--", "cluster.local. 5 IN SOA ns.dns.cluster.local. h.cluster.local. 1 2 3 4 5")
	w := map[string]plugin.Reply{
		"web.prod.svc.cluster.local. A":           ok("web.prod.svc.cluster.local. 5 IN A 10.96.1.1"),
		"alias.prod.svc.cluster.local. A":         ok("alias.prod.svc.cluster.local. 5 IN CNAME www.example.com.", "www.example.com. 300 IN A 192.0.2.1"),
		"kubernetes.default.svc.cluster.local. A": ok("kubernetes.default.svc.cluster.local. 5 IN A 10.96.0.1"),
		"lost.prod.svc.cluster.local. A":          plugintest.Answers(t, dnswire.RcodeNameError, "lost.prod.svc.cluster.local. 5 IN CNAME nx.example.com."),
		"www.example.com. A":                      ok("www.example.com. 300 IN A 192.0.2.1", "--", "example.com. 3600 IN NS ns.example.com."),
		"cdn.example.com. A":                      ok("cdn.example.com. 200 IN CNAME www.example.com.", "www.example.com. 300 IN A 192.0.2.1"),
		"v4.example.com. AAAA":                    ok("--", "example.com. 60 IN SOA ns.example.com. h.example.com. 1 2 3 4 5"),
		"db.host.domain. A":                       ok("db.host.domain. 1 IN A 192.0.2.2"),
		"bad.example.com. A":                      plugin.Fail("forward", dnswire.RcodeServerFailure, os.ErrDeadlineExceeded),
		"gone.svc.cluster.local. A":               {Drop: true},
		"gone. A":                                 ok("gone. 1 IN A 192.0.2.3"),
		"prod.svc.cluster.local. A":               ok("--", "cluster.local. 5 IN SOA ns.dns.cluster.local. h.cluster.local. 1 2 3 4 5"),
	}
	for _, host := range []string{"www.example.com.", "kubernetes.default.", "cdn.example.com.", "bad.example.com.", "none.example.com.", "db.", "gone."} {
		for _, domain := range []string{"prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "host.domain."} {
			if _, ok := w[host+domain+" A"]; !ok {
				w[host+domain+" A"] = nx
			}
		}
	}
	for _, name := range []string{"none.example.com. A", "db. A"} {
		w[name] = nx
	}
	for _, domain := range []string{"prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "host.domain."} {
		w["v4.example.com."+domain+" AAAA"] = nx
	}
	return &plugintest.Next{Replies: w}
}

func TestAutopath(t *testing.T) {
	const nx = "NXDOMAIN rd\nauth cluster.local. 5 IN SOA ns.dns.cluster.local. h.cluster.local. 1 2 3 4 5\n"
	tests := []struct {
		name  string
		ask   string
		want  string
		asked int // names of the walk
	}{
		{"the first name", "web.prod.svc.cluster.local. A", "NOERROR rd\nweb.prod.svc.cluster.local. 5 IN A 10.96.1.1\n", 1},
		{"the first name is an alias", "alias.prod.svc.cluster.local. A", "NOERROR rd\nalias.prod.svc.cluster.local. 5 IN CNAME www.example.com.\nwww.example.com. 300 IN A 192.0.2.1\n", 1},
		{"an alias to what is not there", "lost.prod.svc.cluster.local. A", "NXDOMAIN rd\nlost.prod.svc.cluster.local. 5 IN CNAME nx.example.com.\n", 1},
		{"another domain", "Kubernetes.default.PROD.svc.cluster.local. A",
			"NOERROR rd\nKubernetes.default.PROD.svc.cluster.local. 5 IN CNAME Kubernetes.default.svc.cluster.local.\nkubernetes.default.svc.cluster.local. 5 IN A 10.96.0.1\n", 2},
		{"the host's domain", "db.prod.svc.cluster.local. A", "NOERROR rd\ndb.prod.svc.cluster.local. 1 IN CNAME db.host.domain.\ndb.host.domain. 1 IN A 192.0.2.2\n", 4},
		{"bare", "www.example.com.prod.svc.cluster.local. A",
			"NOERROR rd\nwww.example.com.prod.svc.cluster.local. 300 IN CNAME www.example.com.\nwww.example.com. 300 IN A 192.0.2.1\nauth example.com. 3600 IN NS ns.example.com.\n", 5},
		{"bare alias", "cdn.example.com.prod.svc.cluster.local. A",
			"NOERROR rd\ncdn.example.com.prod.svc.cluster.local. 200 IN CNAME cdn.example.com.\ncdn.example.com. 200 IN CNAME www.example.com.\nwww.example.com. 300 IN A 192.0.2.1\n", 5},
		{"no such record", "v4.example.com.prod.svc.cluster.local. AAAA", "NOERROR rd\nauth example.com. 60 IN SOA ns.example.com. h.example.com. 1 2 3 4 5\n", 5},
		{"nowhere", "none.example.com.prod.svc.cluster.local. A", nx, 5},
		{"a failure ends it", "bad.example.com.prod.svc.cluster.local. A", "SERVFAIL rd error: i/o timeout\n", 5},
		{"dropped on the way", "gone.prod.svc.cluster.local. A", "dropped\n", 2},
		{"another client", "kubernetes.default.prod.svc.cluster.local. A from=10.244.9.9", nx, 1},
		{"mapped client", "kubernetes.default.prod.svc.cluster.local. A from=::ffff:10.244.1.5",
			"NOERROR rd\nkubernetes.default.prod.svc.cluster.local. 5 IN CNAME kubernetes.default.svc.cluster.local.\nkubernetes.default.svc.cluster.local. 5 IN A 10.96.0.1\n", 2},
		{"not below the first domain", "kubernetes.default.svc.cluster.local. A", "NOERROR rd\nkubernetes.default.svc.cluster.local. 5 IN A 10.96.0.1\n", 1},
		{"the first domain itself", "prod.svc.cluster.local. A", "NOERROR rd\nauth cluster.local. 5 IN SOA ns.dns.cluster.local. h.cluster.local. 1 2 3 4 5\n", 1},
		{"refused", "x.prod.svc.cluster.local. MX", "REFUSED\n", 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			next := world(t)
			h := New(&corefile.Autopath{Zones: []string{"."}, From: "kubernetes"}, pods{}, []string{"host.domain."}, Metrics()).Wrap(next)
			got := h.Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
			if n := len(next.Asked()); n != tc.asked {
				t.Errorf("asked %q, want %d names", next.Asked(), tc.asked)
			}
		})
	}
}

// TestFile has the path of a file, and zones in which alone it holds.
func TestFile(t *testing.T) {
	next := world(t)
	found := Metrics()
	h := New(&corefile.Autopath{Zones: []string{"cluster.local."}, Search: []string{"prod.svc.cluster.local.", "svc.cluster.local.", ""}}, nil, nil, found).Wrap(next)
	h.Serve(t.Context(), plugintest.Ask(t, "www.example.com.prod.svc.cluster.local. A from=192.0.2.99"))
	want := []string{"www.example.com.prod.svc.cluster.local. A", "www.example.com.svc.cluster.local. A", "www.example.com. A"}
	if diff := cmp.Diff(want, next.Asked()); diff != "" {
		t.Error(diff)
	}
	if got := testutil.ToFloat64(found); got != 1 {
		t.Errorf("found %v, want 1", got)
	}
	next = world(t)
	h = New(&corefile.Autopath{Zones: []string{"example.com."}, Search: []string{"prod.svc.cluster.local."}}, nil, nil, found).Wrap(next)
	h.Serve(t.Context(), plugintest.Ask(t, "www.example.com.prod.svc.cluster.local. A"))
	if n := len(next.Asked()); n != 1 {
		t.Errorf("a name outside of the zones is walked: %q", next.Asked())
	}
}

// TestTooLong leaves out names that no message could carry.
func TestTooLong(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 60)+".", 3) + strings.Repeat("b", 45) + "."
	next := &plugintest.Next{Replies: map[string]plugin.Reply{}}
	for _, domain := range []string{"x.", strings.Repeat("c", 60) + "."} {
		next.Replies[long+domain+" A"] = plugin.Fail("", dnswire.RcodeNameError, nil)
	}
	h := New(&corefile.Autopath{Zones: []string{"."}, Search: []string{"x.", strings.Repeat("c", 60) + "."}}, nil, nil, Metrics()).Wrap(next)
	h.Serve(t.Context(), plugintest.Ask(t, long+"x. A"))
	if diff := cmp.Diff([]string{long + "x. A", long + " A"}, next.Asked()); diff != "" {
		t.Error(diff)
	}
}

// TestACL has a name that the client may not look up, directly or through its search path.
func TestACL(t *testing.T) {
	walls := acl.New(&corefile.ACL{Rules: []corefile.ACLRule{{Zones: []string{"example.com."}, Policies: []corefile.ACLPolicy{{Action: "block"}}}}}, acl.NewMetrics())
	h := plugin.HandlerFunc(New(&corefile.Autopath{Zones: []string{"."}}, pods{}, nil, Metrics()).Wrap(walls.Wrap(world(t))).Serve)
	for ask, want := range map[string]int{
		"www.example.com. A":                        dnswire.RcodeRefused,
		"www.example.com.prod.svc.cluster.local. A": dnswire.RcodeRefused,
		"web.prod.svc.cluster.local. A":             dnswire.RcodeSuccess,
	} {
		got := h.Serve(t.Context(), plugintest.Ask(t, ask))
		if got.Code() != want || want != dnswire.RcodeSuccess && len(got.Msg.Answer) > 0 {
			t.Errorf("%s: %s", ask, plugintest.Show(got))
		}
	}
}

func TestOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 10.0.0.1\nsearch Host.Domain other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"host.domain.", "other."}, Own(path)); diff != "" {
		t.Error(diff)
	}
	if got := Own(path + ".none"); got != nil {
		t.Errorf("no file has %v", got)
	}
}
