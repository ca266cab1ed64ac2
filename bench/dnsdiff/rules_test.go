package dnsdiff

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/dns/dnstest"
)

// Every rule has its row in the page for users.
func TestRulesAreDocumented(t *testing.T) {
	root, err := peerbin.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "dns-differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(rules, dnstest.Rule{ID: namespaceLabels}, dnstest.Rule{ID: cutEarlier}, dnstest.Rule{ID: "slice-without-service"}) {
		if !strings.Contains(string(page), "| "+r.ID+" |") {
			t.Errorf("docs/dns-differences.md has no row %q", r.ID)
		}
	}
}

// A rule excuses what it is for, and not its neighbour.
func TestRules(t *testing.T) {
	soa := []string{"cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 5"}
	tests := []struct {
		name         string
		theirs, ours dnstest.Answer
		want         string
	}{
		{"type SOA", dnstest.Answer{Question: "x.svc.cluster.local. IN SOA", Rcode: "NOERROR", Authority: soa}, dnstest.Answer{Question: "x.svc.cluster.local. IN SOA", Rcode: "NXDOMAIN", Authority: soa}, soaNoData},
		{"type NS", dnstest.Answer{Question: "x.svc.cluster.local. IN NS", Rcode: "NOERROR", Authority: soa}, dnstest.Answer{Question: "x.svc.cluster.local. IN NS", Rcode: "NXDOMAIN", Authority: soa}, ""},
		{"deep", dnstest.Answer{Question: "x.4.3.2.10.in-addr.arpa. IN PTR", Rcode: "NOERROR"}, dnstest.Answer{Question: "x.4.3.2.10.in-addr.arpa. IN PTR", Rcode: "NXDOMAIN"}, "reverse-depth"},
		{"not deep", dnstest.Answer{Question: "4.3.2.10.in-addr.arpa. IN PTR", Rcode: "NOERROR"}, dnstest.Answer{Question: "4.3.2.10.in-addr.arpa. IN PTR", Rcode: "NXDOMAIN"}, ""},
		{"ns.dns", dnstest.Answer{Question: "ns.dns.cluster.local. IN PTR", Rcode: "NXDOMAIN", Authority: soa}, dnstest.Answer{Question: "ns.dns.cluster.local. IN PTR", Rcode: "NOERROR", Authority: soa}, "ns-nodata"},
		{"ns.dns with an answer", dnstest.Answer{Question: "ns.dns.cluster.local. IN A", Rcode: "NXDOMAIN"}, dnstest.Answer{Question: "ns.dns.cluster.local. IN A", Rcode: "NOERROR", Answer: []string{"ns.dns.cluster.local. 5 IN A 10.0.0.1"}}, ""},
		{"question in lower case", dnstest.Answer{Question: "WEB.default.svc.cluster.local. IN A", Rcode: "NXDOMAIN"}, dnstest.Answer{Question: "WEB.Default.svc.cluster.local. IN A", Rcode: "NXDOMAIN"}, "autopath-case"},
		{"ns.dns in upper case", dnstest.Answer{Question: "NS.dns.cluster.local. IN A", Rcode: "NXDOMAIN"}, dnstest.Answer{Question: "NS.dns.cluster.local. IN A", Rcode: "NOERROR", Answer: []string{"NS.dns.cluster.local. 5 IN A 10.0.0.1"}}, "ns-case"},
		{"zone in lower case", dnstest.Answer{Question: "x.CLUSTER.local. IN A", Rcode: "NXDOMAIN", Authority: soa}, dnstest.Answer{Question: "x.CLUSTER.local. IN A", Rcode: "NXDOMAIN", Authority: []string{"CLUSTER.local. 5 IN SOA ns.dns.CLUSTER.local. hostmaster.CLUSTER.local. 0 7200 1800 86400 5"}}, "autopath-case"},
		{"zone in lower case here", dnstest.Answer{Question: "x.CLUSTER.local. IN A", Rcode: "NXDOMAIN", Authority: []string{"CLUSTER.local. 5 IN SOA ns.dns.CLUSTER.local. hostmaster.CLUSTER.local. 0 7200 1800 86400 5"}}, dnstest.Answer{Question: "x.CLUSTER.local. IN A", Rcode: "NXDOMAIN", Authority: soa}, ""},
		{"another question", dnstest.Answer{Question: "WEB.default.svc.cluster.local. IN A", Rcode: "NXDOMAIN"}, dnstest.Answer{Question: "WEC.Default.svc.cluster.local. IN A", Rcode: "NXDOMAIN"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := explain(test.theirs, test.ours); got != test.want {
				t.Errorf("rule %q, want %q", got, test.want)
			}
		})
	}
}
