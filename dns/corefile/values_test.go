package corefile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
)

// inBlock parses the inside of one block for the zone example.org. The name of the file has no
// folder.
func inBlock(t *testing.T, inside string) *Block {
	t.Helper()
	c, err := Parse("Corefile", []byte("example.org:5399 {\n"+inside+"\n}\n"), Options{OwnObjects: true})
	if err != nil {
		t.Fatalf("%s: %v", inside, err)
	}
	return c.Blocks[0]
}

// equal are the options to compare directives: without places, patterns by their source.
var equal = cmp.Options{
	cmp.Transformer("pattern", func(r *regexp.Regexp) string { return fmt.Sprint(r) }),
	cmp.Transformer("address", func(a netip.Addr) string { return a.String() }),
	cmp.Transformer("addrport", func(a netip.AddrPort) string { return a.String() }),
	cmp.Transformer("prefix", func(p netip.Prefix) string { return p.String() }),
	cmp.Comparer(func(Pos, Pos) bool { return true }),
}

// TestValues says what directives mean: the defaults, and one of everything.
func TestValues(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	zones := []string{"example.org."}
	re := regexp.MustCompile
	tests := []struct {
		inside string
		want   Directive
	}{
		{"health", &Health{Addr: ":8080"}},
		{"health {\n lameduck 5s\n}", &Health{Addr: ":8080", Lameduck: 5 * time.Second}},
		{"ready", &Ready{Addr: ":8181"}},
		{"ready :81 {\n monitor continuously\n}", &Ready{Addr: ":81", Continuously: true}},
		{"prometheus", &Prometheus{Addr: "localhost:9153"}},
		{"prometheus :9153 {\n runtime_metrics\n tls f\n}", &Prometheus{Addr: ":9153", RuntimeMetrics: true, TLSConfig: "f"}},
		{"pprof", &Pprof{Addr: "localhost:6053"}},
		{"pprof :1 {\n block\n}", &Pprof{Addr: ":1", Block: 1}},
		{"reload", &Reload{Interval: 30 * time.Second, Jitter: 15 * time.Second}},
		{"reload 4s", &Reload{Interval: 4 * time.Second, Jitter: 2 * time.Second}},
		{"reload 1m 1s", &Reload{Interval: time.Minute, Jitter: time.Second}},
		{"cancel", &Cancel{Timeout: 5001 * time.Millisecond}},
		{"cancel 1s", &Cancel{Timeout: time.Second}},
		{"timeouts {\n read 5\n write 1m\n idle 2s\n maxtcpqueries 9\n}", &Timeouts{Read: 5 * time.Second, Write: time.Minute, Idle: 2 * time.Second, MaxTCPQueries: 9}},
		{"multisocket", &Multisocket{}},
		{"multisocket 4", &Multisocket{Sockets: 4}},
		{"bufsize", &Bufsize{Size: 1232}},
		{"bufsize 512", &Bufsize{Size: 512}},
		{"nsid a b", &NSID{Data: "a b"}},
		{"metadata", &Metadata{Zones: zones}},
		{"debug", &Debug{}},
		{"errors stdout", &Errors{}},
		{"errors {\n stacktrace\n consolidate 1m a.*b warning show_first\n consolidate 1s c\n}", &Errors{Stacktrace: true, Consolidate: []Consolidate{
			{time.Minute, re("a.*b"), "warning", true}, {time.Second, re("c"), "error", false}}}},
		{"log", &Log{Rules: []LogRule{{".", CommonLogFormat, []string{"all"}}}}},
		{"log A.org", &Log{Rules: []LogRule{{"a.org.", CommonLogFormat, []string{"all"}}}}},
		{"log a.org b.org \"x {combined}\" {\n class error denial\n}\nlog . {type}", &Log{Rules: []LogRule{
			{"a.org.", "x " + CombinedLogFormat, []string{"error", "denial"}}, {"b.org.", "x " + CombinedLogFormat, []string{"error", "denial"}}, {".", "{type}", []string{"all"}}}}},
		{"local {\n localhost_prefix off\n}", &Local{NoLocalhostPrefix: true}},
		{"dns64", &DNS64{Prefix: netip.MustParsePrefix("64:ff9b::/96")}},
		{"dns64 {\n prefix 2001:db8::1/64\n translate_all\n allow_ipv4\n}", &DNS64{Prefix: netip.MustParsePrefix("2001:db8::/64"), TranslateAll: true, AllowIPv4: true}},
		{"any", &Any{}},
		{"chaos", &Chaos{}},
		{"chaos v b a b", &Chaos{Version: "v", Authors: []string{"a", "b"}}},
		{"loadbalance", &Loadbalance{Reload: 30 * time.Second}},
		{"loadbalance weighted w {\n reload 1s\n prefer 10.1.2.3/8\n}", &Loadbalance{Weights: "w", Reload: time.Second, Prefer: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		{"autopath @kubernetes", &Autopath{Zones: zones, From: "kubernetes"}},
		{"acl", &ACL{Rules: []ACLRule{{Zones: zones}}}},
		{"acl a.org 10.0.0.0/15 {\n Block type A AAAA net 10.0.0.1 fd00::/8 \n allow type * A net *\n filter net 10.1.0.0/8 type MX\n drop\n}", &ACL{Rules: []ACLRule{{
			Zones: []string{"a.org.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa."},
			Policies: []ACLPolicy{
				{"block", []uint16{dnswire.TypeA, dnswire.TypeAAAA}, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::/8")}},
				{Action: "allow"}, {"filter", []uint16{dnswire.TypeMX}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, {Action: "drop"}}}}}},
		{"cache", &Cache{Zones: zones, SuccessCap: 9984, SuccessTTL: time.Hour, SuccessMinTTL: 5 * time.Second, DenialCap: 9984, DenialTTL: 30 * time.Minute, DenialMinTTL: 5 * time.Second,
			ServfailTTL: 5 * time.Second, PrefetchDuration: time.Minute, PrefetchPercentage: 10}},
		{"cache 30 b.org {\n success 1 2 3\n denial 4 5 6\n prefetch 7 8s 11%\n serve_stale 9m verify 10ms 11s 12s\n serve_stale_policy prefer_positive\n servfail 0s\n disable success\n disable denial B.org c.org\n keepttl\n}", &Cache{
			Zones: []string{"b.org."}, SuccessCap: 1, SuccessTTL: 2 * time.Second, SuccessMinTTL: 3 * time.Second, DenialCap: 4, DenialTTL: 5 * time.Second, DenialMinTTL: 6 * time.Second,
			Prefetch: 7, PrefetchDuration: 8 * time.Second, PrefetchPercentage: 11, StaleUpTo: 9 * time.Minute, StaleVerify: true, StaleVerifyTimeout: 10 * time.Millisecond,
			StaleTTL: 11 * time.Second, StaleRecheck: 12 * time.Second, PreferPositive: true, SuccessExcept: []string{"."}, DenialExcept: []string{"b.org.", "c.org."}, KeepTTL: true}},
		{"header {\n query clear RD\n response set aa ra\n}", &Header{Query: []HeaderRule{{"rd", false}}, Response: []HeaderRule{{"aa", true}, {"ra", true}}}},
		{"minimal", &Minimal{}},
		{"loop", &Loop{Zone: "example.org."}},
		{"whoami", &Whoami{}},
		{"view v {\n expr name() == \"a\"\n expr b\n}", &View{Name: "v", Exprs: []string{"name() == a", "b"}}},
		{"forward . 9.9.9.9", &Forward{From: ".", To: []Upstream{{Scheme: "dns", Addr: netip.MustParseAddrPort("9.9.9.9:53")}}, Expire: 10 * time.Second, ReadTimeout: 2 * time.Second,
			MaxFails: 2, MaxConnectAttempts: -1, Policy: "random", HealthCheck: 500 * time.Millisecond, HealthDomain: "."}},
		{"forward B.org 9.9.9.9:5 [::1]:54 9.9.9.9:5 tls://1.1.1.1%one.one tls://[::2%two]:85 dns.example:99 tls://host fe80::1%eth0 {\n except C.org\n force_tcp\n prefer_udp\n expire 1s\n max_age 2s\n max_idle_conns 3\n read_timeout 4s\n max_fails 5\n max_connect_attempts 6\n tls a b c\n policy sequential\n health_check 7s no_rec domain D.org\n max_concurrent 8\n next nxdomain\n next_on_nodata\n failfast_all_unhealthy_upstreams\n failover SERVFAIL\n source_address 10.0.0.1\n resolver 10.0.0.2\n}", &Forward{
			From: "b.org.", To: []Upstream{
				{Scheme: "dns", Addr: netip.MustParseAddrPort("9.9.9.9:5")}, {Scheme: "dns", Addr: netip.MustParseAddrPort("[::1]:54")},
				{Scheme: "tls", Addr: netip.MustParseAddrPort("1.1.1.1:853"), ServerName: "one.one"}, {Scheme: "tls", Addr: netip.MustParseAddrPort("[::2]:85"), ServerName: "two"},
				{Scheme: "dns", Host: "dns.example", Port: 99}, {Scheme: "tls", Host: "host", Port: 853}, {Scheme: "dns", Addr: netip.MustParseAddrPort("[fe80::1%eth0]:53")}},
			Except: []string{"c.org."}, ForceTCP: true, PreferUDP: true, Expire: time.Second, MaxAge: 2 * time.Second, MaxIdleConns: 3, ReadTimeout: 4 * time.Second, MaxFails: 5,
			MaxConnectAttempts: 6, TLS: ForwardTLS{"a", "b", "c"}, Policy: "sequential", HealthCheck: 7 * time.Second, HealthNoRec: true, HealthDomain: "d.org.", MaxConcurrent: 8,
			NextRcodes: []int{3}, NextOnNoData: true, FailfastUnhealthy: true, FailoverRcodes: []int{2}, SourceAddress: netip.MustParseAddr("10.0.0.1"), Resolver: []string{"10.0.0.2"}}},
		{"kubernetes", &Kubernetes{Zones: zones, PrimaryZone: "example.org.", TTL: 5, Pods: PodsDisabled, StartupTimeout: 5 * time.Second}},
		{"kubernetes in-addr.arpa Cluster.local set.local {\n endpoint http://x\n tls a b c\n apiserver_qps 1.5\n apiserver_burst 2\n apiserver_max_inflight 3\n namespaces b a b\n labels a=b, c in (d)\n pods verified\n endpoint_pod_names\n ttl 30\n fallthrough in-addr.arpa\n ignore empty_service\n multicluster set.local\n zonal\n startup_timeout 1s\n}", &Kubernetes{
			Zones: []string{"in-addr.arpa.", "cluster.local.", "set.local."}, PrimaryZone: "cluster.local.", Endpoint: "http://x", ClientCert: "a", ClientKey: "b", CA: "c", QPS: 1.5, Burst: 2, MaxInflight: 3,
			Namespaces: []string{"a", "b"}, Labels: "a=b, c in (d)", Pods: PodsVerified, EndpointPodNames: true, TTL: 30, Fallthrough: []string{"in-addr.arpa."}, IgnoreEmpty: true,
			MulticlusterZones: []string{"set.local."}, Zonal: true, StartupTimeout: time.Second}},
		{"kubernetes {\n kubeconfig k c\n namespace_labels a\n noendpoints\n fallthrough\n}", &Kubernetes{Zones: zones, PrimaryZone: "example.org.", TTL: 5, Pods: PodsDisabled, StartupTimeout: 5 * time.Second,
			Kubeconfig: "k", Context: "c", NamespaceLabels: "a", NoEndpoints: true, Fallthrough: []string{"."}}},
		{"hosts", &Hosts{Path: "/etc/hosts", Zones: zones, TTL: 3600, Reload: 5 * time.Second}},
		{"hosts /nonexistent b.org {\n 10.0.0.1 a b\n ttl 60\n no_reverse\n reload 0s\n fallthrough c.org\n fallthrough_unsupported\n}", &Hosts{Path: "/nonexistent", Zones: []string{"b.org."},
			Inline: []string{"10.0.0.1 a b"}, TTL: 60, NoReverse: true, Fallthrough: []string{"c.org."}, FallthroughUnsupported: true}},
		{"template IN A", &Template{Templates: []TemplateRule{{Class: 1, Type: 1, Zones: zones, Match: []*regexp.Regexp{re(".*")}}}}},
		{"template ANY MX b.org {\n match a b\n answer \"c d\"\n additional e f\n authority g\n rcode NXDOMAIN\n ederror 15 why\n fallthrough\n}\ntemplate CH TXT", &Template{Templates: []TemplateRule{
			{Class: 255, Type: 15, Zones: []string{"b.org."}, Match: []*regexp.Regexp{re("a"), re("b")}, Answer: []string{"c d"}, Additional: []string{"e", "f"}, Authority: []string{"g"}, Rcode: 3, EDE: &ExtendedError{15, "why"}, Fallthrough: []string{"."}},
			{Class: 3, Type: 16, Zones: zones, Match: []*regexp.Regexp{re(".*")}}}}},
		{"transfer b.org {\n to * 10.0.0.1 [::1]:5\n source 10.0.0.2\n}", &Transfer{Rules: []TransferRule{{Zones: []string{"b.org."}, To: []string{"*", "10.0.0.1:53", "[::1]:5"}, Source: netip.MustParseAddr("10.0.0.2")}}}},
		{"root /nonexistent\nfile a b.org c.org {\n reload 5s\n fallthrough\n}\nfile /d {\n reload_by_mtime\n}", &Root{Path: "/nonexistent"}},
		{"file a b.org c.org {\n reload 5s\n fallthrough\n}\nfile /d {\n reload_by_mtime\n}", &File{Fallthrough: []string{"."}, Zones: []FileZone{
			{Zone: "b.org.", Path: "a", Reload: 5 * time.Second}, {Zone: "c.org.", Path: "a", Reload: 5 * time.Second}, {Zone: "example.org.", Path: "/d", Reload: 5 * time.Second, ReloadByMtime: true}}}},
		{"bind 127.0.0.1 ::1 127.0.0.2 {\n except 127.0.0.1\n}", &Bind{Addrs: []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.2")}}},
		{"rewrite name a.org b.org\nrewrite continue name regex (.*)\\.A {1}.b answer name x y answer value (z) {1}\nrewrite name suffix .A .B answer auto\nrewrite type any hinfo\nrewrite class CH IN\nrewrite ttl prefix A 30-\nrewrite ttl a -9\nrewrite rcode substring a 3 noerror\nrewrite cname regex A(.*) {1}\nrewrite cname a b\nrewrite edns0 local set 0xffee 0x0102 revert\nrewrite edns0 local append 7 {client_ip}\nrewrite edns0 nsid unset\nrewrite edns0 subnet replace 24 56", &Rewrite{Rules: []RewriteRule{
			{Name: &RewriteName{Match: NameMatch{Kind: "exact", Text: "a.org."}, To: "b.org.", Auto: true}},
			{Continue: true, Name: &RewriteName{Match: NameMatch{"regex", "(.*)\\.A", re("(.*)\\.A")}, To: "{1}.b.", Answers: []AnswerChange{{false, re("x"), "y."}, {true, re("(z)"), "{1}."}}}},
			{Name: &RewriteName{Match: NameMatch{Kind: "suffix", Text: ".a."}, To: ".b.", Auto: true}},
			{Type: &RewriteCode{255, 13}}, {Class: &RewriteCode{3, 1}},
			{TTL: &RewriteTTL{NameMatch{Kind: "prefix", Text: "a."}, 30, 1<<31 - 1}}, {TTL: &RewriteTTL{NameMatch{Kind: "exact", Text: "a."}, 0, 9}},
			{Rcode: &RewriteRcode{NameMatch{Kind: "substring", Text: "a."}, 3, 0}},
			{CNAME: &RewriteCNAME{NameMatch{"regex", "a(.*)", re("a(.*)")}, "{1}"}}, {CNAME: &RewriteCNAME{NameMatch{Kind: "exact", Text: "a."}, "b."}},
			{EDNS0: &RewriteEDNS0{Option: "local", Action: "set", Code: 0xffee, Data: []byte{1, 2}, Revert: true}}, {EDNS0: &RewriteEDNS0{Option: "local", Action: "append", Code: 7, Variable: "{client_ip}"}},
			{EDNS0: &RewriteEDNS0{Option: "nsid", Action: "unset"}}, {EDNS0: &RewriteEDNS0{Option: "subnet", Action: "replace", V4: 24, V6: 56}}}}},
	}
	seen := map[string]bool{}
	for _, tc := range tests {
		seen[tc.want.Plugin()] = true
		if diff := cmp.Diff(tc.want, inBlock(t, tc.inside).Plugins[0], equal); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tc.inside, diff)
		}
	}
	for _, name := range Supported() {
		if !seen[name] {
			t.Errorf("nothing says what %s means", name)
		}
	}
}

// TestFiles reads what stands in other files.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("search A.org b.org\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	forward, _ := Find[*Forward](inBlock(t, "forward . "+conf+" 10.0.0.1 10.0.0.3"))
	want := []Upstream{
		{Scheme: "dns", Addr: netip.MustParseAddrPort("10.0.0.1:53"), File: conf},
		{Scheme: "dns", Addr: netip.MustParseAddrPort("[fd00::1]:53"), File: conf},
		{Scheme: "dns", Addr: netip.MustParseAddrPort("10.0.0.3:53")},
	}
	if diff := cmp.Diff(want, forward.To, equal); diff != "" {
		t.Errorf("forward (-want +got)\n%s", diff)
	}
	auto, _ := Find[*Autopath](inBlock(t, "autopath b.org "+conf))
	if diff := cmp.Diff(&Autopath{Zones: []string{"b.org."}, Search: []string{"a.org.", "b.org."}}, auto, equal); diff != "" {
		t.Errorf("autopath (-want +got)\n%s", diff)
	}
	file, _ := Find[*File](inBlock(t, "root "+dir+"\nfile db"))
	if want := filepath.Join(dir, "db"); file.Zones[0].Path != want {
		t.Errorf("path is %s, want %s", file.Zones[0].Path, want)
	}
	if _, found := Find[*Cache](inBlock(t, "errors")); found {
		t.Error("a block without cache has one")
	}
}

// TestHash compares with what CoreDNS logged for testdata/hash.Corefile.
func TestHash(t *testing.T) {
	text, err := os.ReadFile("testdata/hash.Corefile")
	if err != nil {
		t.Fatal(err)
	}
	hash := func(name, text string) string {
		c, err := Parse(name, []byte(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", c.Hash)
	}
	const want = "f9a8b068437d8c14cda3e9acad1ecee7e6ded185f1d6301a1db0965a1e86532242884a522f90e69f11e7e9d86383a7baff8ea37ee696987b03ee6f307650c7a7"
	if got := hash("hash.Corefile", string(text)); got != want {
		t.Errorf("hash is %s, CoreDNS's is %s", got, want)
	}
	if got := hash("elsewhere", strings.ReplaceAll(string(text), "    ", "\t")); got != want {
		t.Error("blanks change the hash")
	}
	if got := hash("hash.Corefile", strings.Replace(string(text), "60", "61", 1)); got == want {
		t.Error("a change in a snippet does not change the hash")
	}
}
