package dnstest

import (
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"
)

const recordings = "../testdata/coredns"

// Every recorded query can be asked, and every recorded answer equals itself and no other.
func TestRecordings(t *testing.T) {
	total := 0
	for _, name := range []string{"plain", "verified", "podnames", "noendpoints", "disabled_nofall", "multicluster", "transfer", "ttl3600", "kubeadm", "autopath"} {
		answers, err := Load(recordings, name)
		if err != nil {
			t.Fatal(err)
		}
		total += len(answers)
		for i, a := range answers {
			if _, _, err := Parse(a.Q); err != nil {
				t.Error(err)
			}
			if wrong := Compare(a, a, Options{}); len(wrong) > 0 {
				t.Errorf("%s differs from itself: %q", a.Q, wrong)
			}
			if b := answers[(i+1)%len(answers)]; b.Question != a.Question && len(Compare(a, b, Options{})) == 0 {
				t.Errorf("%s and %s are the same", a.Q, b.Q)
			}
		}
	}
	if total < 1500 {
		t.Errorf("only %d recorded answers", total)
	}
}

func message(t *testing.T, question string, rcode int, records ...string) *dnswire.Msg {
	t.Helper()
	m, _, err := Parse(question)
	if err != nil {
		t.Fatal(err)
	}
	m.Response, m.Authoritative, m.Rcode = true, true, rcode
	for _, text := range records {
		section := &m.Answer
		if rest, ok := strings.CutPrefix(text, "ns "); ok {
			section, text = &m.Ns, rest
		}
		if rest, ok := strings.CutPrefix(text, "extra "); ok {
			section, text = &m.Extra, rest
		}
		rr, err := dnswire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		*section = append(*section, rr)
	}
	return m
}

func TestCompare(t *testing.T) {
	const a1, a2 = "x.test. 30 IN A 192.0.2.1", "x.test. 30 IN A 192.0.2.2"
	aging := Options{Aging: func(name string) bool { return name == "x.test." }}
	cut := func(m *dnswire.Msg) *dnswire.Msg { m.Truncated = true; return m }
	q := "x.test A"
	tests := []struct {
		what      string
		want, got *dnswire.Msg
		o         Options
		wrong     string // prefix of the first line, "" for none
	}{
		{"order does not count", message(t, q, 0, a1, a2), message(t, q, 0, a2, a1), Options{}, ""},
		{"serials do not count", message(t, q, 0, "ns test. 5 IN SOA a. b. 1 2 3 4 5"), message(t, q, 0, "ns test. 5 IN SOA a. b. 9 2 3 4 5"), Options{}, ""},
		{"other times count", message(t, q, 0, "ns test. 5 IN SOA a. b. 1 2 3 4 5"), message(t, q, 0, "ns test. 5 IN SOA a. b. 1 2 3 4 6"), Options{}, "authority"},
		{"an address missing", message(t, q, 0, a1, a2), message(t, q, 0, a1), Options{}, "answer"},
		{"an address twice", message(t, q, 0, a1), message(t, q, 0, a1, a1), Options{}, "answer"},
		{"TTL", message(t, q, 0, a1), message(t, q, 0, "x.test. 29 IN A 192.0.2.1"), Options{}, "answer"},
		{"TTL of a cached name", message(t, q, 0, a1, a2), message(t, q, 0, a2, "x.test. 29 IN A 192.0.2.1"), aging, ""},
		{"TTL that grows", message(t, q, 0, a1), message(t, q, 0, "x.test. 31 IN A 192.0.2.1"), aging, "answer"},
		{"case", message(t, q, 0, a1), message(t, q, 0, "X.test. 30 IN A 192.0.2.1"), Options{}, "answer"},
		{"code", message(t, q, 0), message(t, q, 3), Options{}, "rcode"},
		{"question", message(t, q, 0), message(t, "y.test A", 0), Options{}, "question"},
		{"section", message(t, q, 0, a1), message(t, q, 0, "extra "+a1), Options{}, "answer"},
		{"EDNS", message(t, q, 0), message(t, q+" do", 0), Options{}, "OPT"},
		{"EDNS, ignored", message(t, q, 0), message(t, q+" do", 0), Options{IgnoreOPT: true}, ""},
		{"cut at another place", cut(message(t, q, 0, a1)), cut(message(t, q, 0, a2)), Options{}, ""},
		{"not cut where CoreDNS is", cut(message(t, q, 0, a1)), message(t, q, 0, a1, a2), Options{}, ""},
		{"cut where CoreDNS is not", message(t, q, 0, a1), cut(message(t, q, 0, a1)), Options{}, "flags"},
		{"cut too early", cut(message(t, q, 0, a1, a2)), cut(message(t, q, 0, a1)), Options{}, "answer"},
		{"another record when cut", cut(message(t, q, 0, a1)), cut(message(t, q, 0, "y.test. 30 IN A 192.0.2.1")), Options{}, "answer"},
	}
	for _, tc := range tests {
		wrong := Compare(Of(q, tc.want), Of(q, tc.got), tc.o)
		if tc.wrong == "" && len(wrong) > 0 || tc.wrong != "" && (len(wrong) == 0 || !strings.HasPrefix(wrong[0], tc.wrong)) {
			t.Errorf("%s: %q", tc.what, wrong)
		}
		if len(Compare(Of(q, tc.want).Cut(), Of(q, tc.got).Cut(), tc.o)) != len(wrong) {
			t.Errorf("%s: cut lists compare otherwise", tc.what)
		}
	}
}

func TestOrder(t *testing.T) {
	c, a := "x.test. 30 IN CNAME y.test.", "y.test. 30 IN A 192.0.2.1"
	if err := Order(message(t, "x.test A", 0, c, a)); err != nil {
		t.Error(err)
	}
	if Order(message(t, "x.test A", 0, a, c)) == nil {
		t.Error("the alias may come last")
	}
}

// Each rule allows what it is for, and nothing that is nearly so.
func TestRules(t *testing.T) {
	const soa = "ns cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"
	const cname = "e.ns.svc.cluster.local. 5 IN CNAME www.example.com."
	type m = *dnswire.Msg
	e, txt, pod := "e.ns.svc.cluster.local A", "ns.svc.cluster.local TXT", "x.1-2-3-4.ns.pod.cluster.local A"
	srv, ch := "1-2-3-4.ns.pod.cluster.local SRV", "e.ns.svc.cluster.local A class=CH"
	tests := []struct {
		query        string
		theirs, ours m
		rule         string
	}{
		{e, message(t, e, 0, cname), message(t, e, 2), "externalname-rcode"},
		{e, message(t, e, 0, cname), message(t, e, 3, cname), "externalname-rcode"},
		{e, message(t, e, 0, cname), message(t, e, 3), ""},
		{e, message(t, e, 0, cname, "www.example.com. 5 IN A 192.0.2.1"), message(t, e, 2), ""},
		{e, message(t, e, 0, cname), message(t, e, 0, cname, soa), "externalname-nodata"},
		{e, message(t, e, 0, cname, soa), message(t, e, 0, cname), ""},
		{e, message(t, e, 0, cname), message(t, e, 0, soa), ""},
		{txt, message(t, txt, 3, soa), message(t, txt, 0, soa), "txt-nodata"},
		{txt, message(t, txt, 0, soa), message(t, txt, 3, soa), ""},
		{"x." + txt, message(t, "x.y."+txt, 3, soa), message(t, "x.y."+txt, 0, soa), ""},
		{pod, message(t, pod, 0, "x.1-2-3-4.ns.pod.cluster.local. 5 IN A 1.2.3.4"), message(t, pod, 3, soa), "pod-depth"},
		{e, message(t, e, 0, "e.ns.svc.cluster.local. 5 IN A 1.2.3.4"), message(t, e, 3, soa), ""},
		{srv, message(t, srv, 0, "1-2-3-4.ns.pod.cluster.local. 5 IN SRV 0 100 0 1-2-3-4.ns.pod.cluster.local."), message(t, srv, 0, soa), "pod-srv"},
		{srv, message(t, srv, 0, "1-2-3-4.ns.pod.cluster.local. 5 IN SRV 0 100 80 1-2-3-4.ns.pod.cluster.local."), message(t, srv, 0, soa), ""},
		{ch, message(t, ch, 0, "e.ns.svc.cluster.local. 5 IN A 1.2.3.4"), message(t, ch, 5), "class"},
		{e, message(t, e, 0, "e.ns.svc.cluster.local. 5 IN A 1.2.3.4"), message(t, e, 5), ""},
		{e + " opt=cookie", message(t, e+" opt=cookie", 0), message(t, e+" opt=none", 0), "edns-options"},
		{e + " opt=cookie", message(t, e+" opt=cookie", 0), message(t, e, 0), ""},
		{e + " opt=cookie", message(t, e+" opt=cookie", 0), message(t, e+" opt=none", 3), ""},
		{e, message(t, e, 0), message(t, e, 2), ""},
	}
	for _, tc := range tests {
		got := ""
		if r := Explain(Of(tc.query, tc.theirs), Of(tc.query, tc.ours)); r != nil {
			got = r.ID
		}
		if got != tc.rule {
			t.Errorf("%s: %q allows it, want %q\n%s\n%s", tc.query, got, tc.rule, tc.theirs, tc.ours)
		}
	}
}

func TestParseFails(t *testing.T) {
	for _, q := range []string{"x", "x.test NOTYPE", "x.test A what", "x.test A buf=x", "x.test A opt=what"} {
		if _, _, err := Parse(q); err == nil {
			t.Errorf("%q is a query", q)
		}
	}
}
