package metrics

import (
	"errors"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/proxier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func service(name string, endpoints ...string) *proxier.Service {
	s := &proxier.Service{
		NamespacedName: proxier.NamespacedName{Namespace: "shop", Name: name},
		Ports:          []proxier.ServicePort{{Name: "http", Protocol: proxier.TCP, Port: 80}},
	}
	for _, e := range endpoints {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, &proxier.Endpoint{Addr: netip.MustParseAddr(e), Port: 8080, Ready: true})
	}
	return s
}

func snapshot(revision uint64, services ...*proxier.Service) *proxier.Snapshot {
	return &proxier.Snapshot{Revision: revision, Node: &proxier.Node{}, Services: services}
}

// frontend returns one whose connections from outside go to a pool of this scope.
func frontend(owner, addr string, kind proxier.Kind, scope proxier.Scope, empty proxier.Verdict, endpoints ...string) *proxier.Frontend {
	f := &proxier.Frontend{
		FrontendKey: proxier.FrontendKey{Addr: netip.MustParseAddr(addr), Port: 80, Protocol: proxier.TCP},
		Kind:        kind, Owner: proxier.ServicePortName{NamespacedName: proxier.NamespacedName{Namespace: "shop", Name: owner}},
	}
	pool := &proxier.Pool{Owner: f.Owner, Scope: scope, Empty: empty}
	for _, e := range endpoints {
		pool.Endpoints = append(pool.Endpoints, &proxier.Endpoint{Addr: netip.MustParseAddr(e), Port: 8080})
	}
	for i := range f.From {
		f.From[i].Pool = pool
	}
	return f
}

// values returns the samples whose names have the prefix, without those of histograms' buckets.
func values(t *testing.T, m *Metrics, prefixes ...string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var out []string
	for line := range strings.Lines(w.Body.String()) {
		line = strings.TrimSpace(line)
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) && !strings.Contains(line, "_bucket") {
				out = append(out, line)
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestStory(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4", "IPv6"})
	web, api := service("web", "10.244.1.1"), service("api", "10.244.1.2", "10.244.1.3")
	first := snapshot(1, api, web)
	first.Frontends = []*proxier.Frontend{frontend("web", "10.96.0.1", proxier.ClusterIP, proxier.Everywhere, proxier.Reject)}
	m.Published(first, nil)
	m.Problems([]proxier.Problem{{Reason: "AddressConflict"}, {Reason: "AddressConflict"}, {Reason: "BadAddress"}})
	m.Applied(proxier.Applied{Now: first, Start: time.Unix(1000, 0), Took: 500 * time.Millisecond,
		Changes: proxier.Changes{Added: 7, Updated: 2, Lines: 40, Full: true}})
	// Endpoints of web change, api goes, and a new Service comes; the apply of it fails.
	second := snapshot(2, service("new"), service("web", "10.244.1.9"))
	m.Published(second, nil)
	m.Problems([]proxier.Problem{{Reason: "BadAddress"}, {Reason: "BadAddress"}})
	m.Applied(proxier.Applied{Now: second, Err: errors.New("no"), Took: time.Hour})

	want := []string{
		`fairway_applied_lines_total 40`,
		`fairway_applied_objects_total{change="added"} 7`,
		`fairway_applied_objects_total{change="removed"} 0`,
		`fairway_applied_objects_total{change="updated"} 2`,
		`fairway_applied_revision 1`,
		`fairway_apply_failures_total 1`,
		`fairway_build_info{backend="iptables",version="v1"} 1`,
		`fairway_endpoints 1`,
		`fairway_frontends 0`,
		`fairway_problems{reason="BadAddress"} 2`,
		`fairway_services 2`,
		`fairway_snapshot_revision 2`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.5`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.5`,
		`kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1`,
		`kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.5`,
		`kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.5`,
		`kubeproxy_sync_proxy_rules_endpoint_changes_pending 1`,
		`kubeproxy_sync_proxy_rules_endpoint_changes_total 1`,
		`kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv6"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 1`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1000.5`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1000.5`,
		`kubeproxy_sync_proxy_rules_service_changes_pending 2`,
		`kubeproxy_sync_proxy_rules_service_changes_total 4`,
	}
	got := slices.DeleteFunc(values(t, m, "fairway_", "kubeproxy_sync_"), func(s string) bool {
		return strings.Contains(s, "last_queued") || strings.Contains(s, "no_local")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after a failed apply (-want +got):\n%s", diff)
	}

	// The next reads the kernel first, and fails too.
	m.Applied(proxier.Applied{Now: second, Err: errors.New("no"), Changes: proxier.Changes{Full: true}})
	m.Applied(proxier.Applied{Prev: first, Now: second, Start: time.Unix(2000, 0), Took: time.Second,
		Changes: proxier.Changes{Removed: 1}})
	want = []string{
		`fairway_applied_revision 2`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1`,
		`kubeproxy_sync_proxy_rules_endpoint_changes_pending 0`,
		`kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv6"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 2`,
		`kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 2`,
		`kubeproxy_sync_proxy_rules_service_changes_pending 0`,
	}
	got = values(t, m, "fairway_applied_revision", "kubeproxy_sync_partial_proxy_rules_duration_seconds_count",
		"kubeproxy_sync_proxy_rules_iptables", "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "kubeproxy_sync_proxy_rules_service_changes_pending")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the retry (-want +got):\n%s", diff)
	}
}

// TestPendingAfterOldApply: changes that came during an Apply are still waiting after it.
func TestPendingAfterOldApply(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	one, two := snapshot(1, service("web")), snapshot(2, service("api"), service("web", "10.244.1.9"))
	m.Published(one, nil)
	m.Published(two, nil)
	m.Applied(proxier.Applied{Now: one})
	want := []string{
		`kubeproxy_sync_proxy_rules_endpoint_changes_pending 1`,
		`kubeproxy_sync_proxy_rules_service_changes_pending 1`,
	}
	got := values(t, m, "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "kubeproxy_sync_proxy_rules_service_changes_pending")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoLocalEndpoints(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4", "IPv6"})
	s := snapshot(1)
	s.Frontends = []*proxier.Frontend{
		frontend("internal", "10.96.0.1", proxier.ClusterIP, proxier.ThisNode, proxier.Drop),
		frontend("external", "203.0.113.1", proxier.ExternalIP, proxier.ThisNode, proxier.Drop),
		frontend("external", "203.0.113.2", proxier.ExternalIP, proxier.ThisNode, proxier.Drop), // the same port again
		frontend("has-some", "203.0.113.3", proxier.ExternalIP, proxier.ThisNode, proxier.Drop, "10.244.1.1"),
		frontend("none-anywhere", "203.0.113.4", proxier.ExternalIP, proxier.ThisNode, proxier.Reject),
		frontend("everywhere", "10.96.0.2", proxier.ClusterIP, proxier.Everywhere, proxier.Reject),
		frontend("six", "2001:db8::1", proxier.LoadBalancer, proxier.ThisNode, proxier.Drop),
	}
	m.Applied(proxier.Applied{Now: s})
	want := []string{
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 1`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 1`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="internal"} 0`,
	}
	if diff := cmp.Diff(want, values(t, m, "kubeproxy_sync_proxy_rules_no_local")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnswersAndFlows(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	m.Answered("/healthz", 200)
	m.Answered("/healthz", 503)
	m.Answered("/livez", 200)
	m.Answered("/livez", 200)
	m.Flows("IPv4", 3, 250*time.Millisecond)
	want := []string{
		`kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 3`,
		`kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_conntrack_reconciler_sync_duration_seconds_sum{ip_family="IPv4"} 0.25`,
		`kubeproxy_proxy_healthz_total{code="200"} 1`,
		`kubeproxy_proxy_healthz_total{code="503"} 1`,
		`kubeproxy_proxy_livez_total{code="200"} 2`,
		`kubeproxy_proxy_livez_total{code="503"} 0`,
	}
	if diff := cmp.Diff(want, values(t, m, "kubeproxy_conntrack", "kubeproxy_proxy")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRules(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4", "IPv6"})
	m.Rules([]proxier.RuleCount{{Table: "nat", Kept: 50, Written: 50}, {Table: "filter", Kept: 7, Written: 7}, {Table: "nat", IPv6: true, Kept: 20, Written: 20}})
	m.Rules([]proxier.RuleCount{{Table: "nat", Kept: 48, Written: 3}, {Table: "filter", Kept: 7}, {Table: "nat", IPv6: true, Kept: 20}})
	want := []string{
		`kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="filter"} 0`,
		`kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"} 3`,
		`kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="nat"} 0`,
		`kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="filter"} 7`,
		`kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 48`,
		`kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv6",table="nat"} 20`,
	}
	if diff := cmp.Diff(want, values(t, m, "kubeproxy_sync_proxy_rules_iptables_last", "kubeproxy_sync_proxy_rules_iptables_total")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNames: our names pass Prometheus' linter. Of kube-proxy's, two do not; they stay as
// they are, because dashboards read them.
func TestNames(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	s := snapshot(1)
	m.Published(s, nil)
	m.Problems([]proxier.Problem{{Reason: "BadAddress"}})
	m.Applied(proxier.Applied{Now: s})
	m.Applied(proxier.Applied{Now: s, Changes: proxier.Changes{Full: true}})
	m.Flows("IPv4", 1, time.Second)
	m.Rules([]proxier.RuleCount{{Table: "nat"}})
	problems, err := testutil.GatherAndLint(m.Registry())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Metric)
	}
	want := []string{"kubeproxy_sync_proxy_rules_iptables_total", "kubeproxy_sync_proxy_rules_no_local_endpoints_total"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names that the linter finds fault with (-want +got):\n%s\n%v", diff, problems)
	}
}

// TestEndpoints: the number of endpoints follows the Services, though only those are counted that
// changed.
func TestEndpoints(t *testing.T) {
	m := New("v1", "iptables", []string{"IPv4"})
	a, b, c := service("a", "10.244.1.1"), service("b", "10.244.1.1", "10.244.1.2"), service("c", "10.244.1.1", "10.244.1.2", "10.244.1.3")
	steps := [][]*proxier.Service{{b}, {b, c}, {a, b, c}, {a, service("b"), c}, {a, b}, {c}, {a, service("b", "10.244.1.9")}, {}}
	for i, want := range []string{"2", "5", "6", "4", "3", "3", "2", "0"} {
		m.Published(snapshot(uint64(i+1), steps[i]...), nil)
		if diff := cmp.Diff([]string{"fairway_endpoints " + want}, values(t, m, "fairway_endpoints")); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}
