package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestHit: a hit has the answer, its age, and what is the client's own.
func TestHit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, directive(), gives("www.example.org. 300 IN CNAME a.example.org.", "a.example.org. 60 IN A 192.0.2.1", "a.example.org. 90 IN A 192.0.2.2"))
		const want = "NOERROR WWW.example.org. %d CNAME a.example.org. a.example.org. %d A 192.0.2.1 a.example.org. %d A 192.0.2.2"
		if got := g.fast(t, "www.example.org. A"); got != "" {
			t.Error("a hit before anything is there:", got)
		}
		first := strings.ReplaceAll(fmt.Sprintf(want, 60, 60, 60), "WWW", "www")
		if got := g.ask("www.example.org. A"); got != first {
			t.Error(got)
		}
		for age := 0; age < 60; age += 7 {
			for _, got := range []string{g.ask("WWW.example.org. A"), g.fast(t, "WWW.example.org. A")} {
				if diff := cmp.Diff(fmt.Sprintf(want, 60-age, 60-age, 60-age), got); diff != "" {
					t.Errorf("after %d s: %s", age, diff)
				}
			}
			time.Sleep(7 * time.Second)
		}
		if got := g.fast(t, "www.example.org. A"); got != "" || g.asked() != 1 {
			t.Errorf("after its time: %q, asked %d", got, g.asked())
		}
		if got := g.ask("www.example.org. A"); got != first || g.asked() != 2 {
			t.Error(got)
		}
		m := g.fastMsg(t, "www.Example.ORG. A opt=none cd")
		if m != nil {
			t.Error("CD is not part of the key")
		}
		g.ask("www.example.org. A opt=none cd")
		m = g.fastMsg(t, "www.Example.ORG. A opt=none cd")
		if m == nil || m.Id != 4711 || m.Question[0].Name != "www.Example.ORG." || !m.CheckingDisabled || !m.RecursionDesired ||
			!m.RecursionAvailable || m.IsEdns0() == nil || m.IsEdns0().UDPSize() != 1232 || m.IsEdns0().Do() {
			t.Errorf("%v", m)
		}
	})
}

// TestFlags: AA and RA are those of the answer; AD is for those who know it.
func TestFlags(t *testing.T) {
	g := newRig(t, directive(), func(r *plugin.Request) plugin.Reply {
		if !r.Msg.AuthenticatedData {
			t.Error("asked without AD")
		}
		m := message(r.Msg, "www.example.org. 60 IN A 192.0.2.1")
		m.Authoritative, m.AuthenticatedData, m.RecursionAvailable = true, true, false
		return plugin.Answered("file", m)
	})
	for range 2 {
		for q, want := range map[string]string{
			"www.example.org. A":    "NOERROR aa www.example.org. 60 A 192.0.2.1",
			"www.example.org. A ad": "NOERROR aa ad www.example.org. 60 A 192.0.2.1",
			"www.example.org. A do": "NOERROR aa ad www.example.org. 60 A 192.0.2.1",
		} {
			if got := g.ask(q); got != want {
				t.Errorf("%s: %s", q, got)
			}
			if got := g.fast(t, q); got != want {
				t.Errorf("%s, fast: %s", q, got)
			}
		}
	}
	if g.fastMsg(t, "www.example.org. A").RecursionAvailable {
		t.Error("RA was made up")
	}
}

// TestTTL: what TTL clients see, for answers that are kept and those that are not. The first rows
// are what CoreDNS answered under kubeadm's Corefile, see dns/testdata/coredns.
func TestTTL(t *testing.T) {
	kubeadm := directive()
	kubeadm.SuccessTTL, kubeadm.DenialTTL = 30*time.Second, 30*time.Second
	plain := directive()
	for _, tt := range []struct {
		kubeadm bool
		ask     string
		reply   []string
		want    string
		kept    bool
	}{
		{true, "www.example.org. A", []string{"www.example.org. 300 IN A 192.0.2.1", "example.org. 3600 IN NS ns.example.org."}, "NOERROR www.example.org. 30 A 192.0.2.1 example.org. 30 NS ns.example.org.", true},
		{true, "nx.example.org. A", []string{"NXDOMAIN", soa}, "NXDOMAIN example.org. 30 SOA", true},
		{true, "dns-version.cluster.local. TXT", []string{"dns-version.cluster.local. 28800 IN TXT \"1.1.0\""}, "NOERROR dns-version.cluster.local. 30 TXT \"1.1.0\"", true},
		{false, "a.example.org. A", []string{"a.example.org. 0 IN A 192.0.2.1"}, "NOERROR a.example.org. 5 A 192.0.2.1", true},
		{false, "a.example.org. A", []string{"a.example.org. 86400 IN A 192.0.2.1"}, "NOERROR a.example.org. 3600 A 192.0.2.1", true},
		{false, "nx.example.org. A", []string{"NXDOMAIN", soa}, "NXDOMAIN example.org. 1800 SOA", true},
		{false, "nx.example.org. A", []string{soa}, "NOERROR example.org. 1800 SOA", true},
		{false, "nx.example.org. A", []string{"NXDOMAIN"}, "NXDOMAIN", false},
		{false, "a.example.org. A", []string{"a.example.org. 300 IN CNAME b.example.org.", soa}, "NOERROR a.example.org. 300 CNAME b.example.org. example.org. 300 SOA", true},
		{false, "a.example.org. A", []string{"REFUSED", soa}, "REFUSED example.org. 5 SOA", false},
		{false, "a.example.org. A", []string{"SERVFAIL", soa}, "SERVFAIL example.org. 5 SOA", true},
	} {
		d := plain
		if tt.kubeadm {
			d = kubeadm
		}
		g := newRig(t, d, gives(tt.reply...))
		if got := g.ask(tt.ask); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.ask, tt.reply, got, tt.want)
		}
		if !tt.kept {
			tt.want = ""
		}
		if got := g.fast(t, tt.ask); got != tt.want {
			t.Errorf("%s %s, kept: %q, want %q", tt.ask, tt.reply, got, tt.want)
		}
	}
	for _, tt := range []struct {
		denial    bool
		ttl, want uint32
	}{{false, 28800, 30}, {false, 30, 30}, {false, 0, 5}, {true, 3600, 30}, {true, 0, 5}} {
		if got := Passing(kubeadm)(tt.denial, tt.ttl); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// TestKeys: what makes another question makes another entry.
func TestKeys(t *testing.T) {
	g := newRig(t, directive(), func(r *plugin.Request) plugin.Reply {
		q := r.Question()
		return plugin.Answered("forward", message(r.Msg, fmt.Sprintf("%s 60 %s %s \\# 4 c0000201", q.Name, dnswire.ClassToString[q.Qclass], dnswire.TypeToString[q.Qtype])))
	})
	all := []string{"a.example. A", "b.example. A", "a.example. TXT", "a.example. A do", "a.example. A cd", "a.example. A cd do", "a.example. A class=CH"}
	all[2] = "a.example. TYPE65400"
	dnswire.StringToType["TYPE65400"], dnswire.TypeToString[65400] = 65400, "TYPE65400"
	for i, q := range all {
		g.ask(q)
		if g.asked() != i+1 {
			t.Errorf("%s is answered from the cache", q)
		}
	}
	for _, q := range all {
		g.ask(q)
	}
	if g.asked() != len(all) {
		t.Errorf("asked %d times", g.asked())
	}
}

// TestWhere: zones of the directive, zones where it is disabled, and what is no query.
func TestWhere(t *testing.T) {
	d := directive()
	d.Zones = []string{"example.org.", "example.com."}
	d.SuccessExcept, d.DenialExcept = []string{"no.example.org."}, []string{"example.com."}
	g := newRig(t, d, func(r *plugin.Request) plugin.Reply {
		if strings.HasPrefix(r.Name(), "nx") {
			return gives("NXDOMAIN", soa)(r)
		}
		return gives(r.Spelled() + " 60 IN A 192.0.2.1")(r)
	})
	for q, kept := range map[string]bool{
		"example.org.": true, "a.example.org.": true, "nx.example.org.": true, "no.example.org.": false, "a.no.example.org.": false,
		"nx.no.example.org.": true, "example.com.": true, "nx.example.com.": false, "badexample.org.": false, "example.net.": false, ".": false,
	} {
		before := g.asked()
		g.ask(q + " A")
		fast := g.fast(t, q+" A") != ""
		g.ask(q + " A")
		if slow := g.asked() == before+1; slow != kept || fast != kept {
			t.Errorf("%s: kept %v, slow %v, fast %v", q, kept, slow, fast)
		}
	}
	r := request("a.example.org. A")
	r.Msg.Opcode = dnswire.OpcodeNotify
	before := g.asked()
	g.h.Serve(context.Background(), r)
	if g.asked() != before+1 {
		t.Error("a NOTIFY is answered from the cache")
	}
	r = request("a.example.org. A")
	r.Send = []dnswire.EDNS0{&dnswire.EDNS0_LOCAL{Code: 65001}}
	if g.h.Serve(context.Background(), r); g.asked() != before+2 {
		t.Error("a query with options for the upstream is answered from the cache")
	}
}

// TestKeepTTL: answers keep their TTL and still expire.
func TestKeepTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.KeepTTL = true
		g := newRig(t, d, gives("a.example. 60 IN A 192.0.2.1"))
		g.ask("a.example. A")
		time.Sleep(59 * time.Second)
		for _, got := range []string{g.ask("a.example. A"), g.fast(t, "a.example. A")} {
			if got != "NOERROR a.example. 60 A 192.0.2.1" {
				t.Error(got)
			}
		}
		time.Sleep(time.Second)
		if g.ask("a.example. A"); g.asked() != 2 {
			t.Error("it does not expire")
		}
	})
}

// TestNewest: the newer of an answer and a denial is the one that counts.
func TestNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, directive(), gives("NXDOMAIN", strings.Replace(soa, "3600", "30", 1)))
		g.ask("a.example.org. A")
		time.Sleep(31 * time.Second)
		g.set(gives("a.example.org. 10 IN A 192.0.2.1"))
		if got := g.ask("a.example.org. A"); got != "NOERROR a.example.org. 10 A 192.0.2.1" {
			t.Error(got)
		}
		time.Sleep(11 * time.Second)
		g.set(gives("NXDOMAIN", soa))
		g.ask("a.example.org. A")
		if s := g.stores[successes].entries.Load(); s != 0 {
			t.Error("the answer is kept beside its denial")
		}
	})
}

// TestServfail: a failure is kept for a few seconds, if at all, also one without a message. A
// client that went away is no failure.
func TestServfail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reply := range []func(*plugin.Request) plugin.Reply{
			gives("SERVFAIL"), gives("NOTIMP"),
			func(*plugin.Request) plugin.Reply {
				return plugin.Fail("forward", dnswire.RcodeServerFailure, errors.New("no answer"))
			},
		} {
			g := newRig(t, directive(), reply)
			first := g.ask("a.example. A")
			if got := g.ask("a.example. A"); g.asked() != 1 || got != strings.TrimSuffix(first, " -") {
				t.Errorf("%s: asked %d times", got, g.asked())
			}
			time.Sleep(5 * time.Second)
			if g.ask("a.example. A"); g.asked() != 2 {
				t.Error("kept for longer than 5 s")
			}
			d := directive()
			d.ServfailTTL = 0
			off := newRig(t, d, reply)
			off.ask("a.example. A")
			if off.ask("a.example. A"); off.asked() != 2 {
				t.Error("kept though switched off")
			}
		}
		g := newRig(t, directive(), func(*plugin.Request) plugin.Reply {
			return plugin.Fail("forward", dnswire.RcodeServerFailure, context.Canceled)
		})
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		g.h.Serve(gone, request("a.example. A"))
		if g.ask("a.example. A"); g.asked() != 2 {
			t.Error("a client that went away is kept as a failure")
		}
	})
}

// TestMetrics compares names, labels and values of a page with CoreDNS's under kubeadm's Corefile:
// the series that it has must be here too.
func TestMetrics(t *testing.T) {
	d := directive()
	d.DenialTTL = time.Minute
	g := newRig(t, d, gives("a.example.org. 60 IN A 192.0.2.1"))
	g.ask("a.example.org. A")
	g.ask("a.example.org. A")
	g.fast(t, "a.example.org. A")
	g.set(gives("NXDOMAIN", soa))
	g.ask("b.example.org. A")
	g.fast(t, "b.example.org. A")
	g.set(func(*plugin.Request) plugin.Reply {
		return gives("a.example.org. 60 IN A 192.0.2.1")(request("a.example.org. A"))
	})
	g.ask("c.example.org. A")
	want := `
# HELP coredns_cache_drops_total The number responses that are not cached, because the reply is malformed.
# TYPE coredns_cache_drops_total counter
coredns_cache_drops_total{server="dns://:53",view="",zones="."} 1
# HELP coredns_cache_entries The number of elements in the cache.
# TYPE coredns_cache_entries gauge
coredns_cache_entries{server="dns://:53",type="denial",view="",zones="."} 1
coredns_cache_entries{server="dns://:53",type="success",view="",zones="."} 1
# HELP coredns_cache_hits_total The count of cache hits.
# TYPE coredns_cache_hits_total counter
coredns_cache_hits_total{server="dns://:53",type="denial",view="",zones="."} 1
coredns_cache_hits_total{server="dns://:53",type="success",view="",zones="."} 2
# HELP coredns_cache_misses_total The count of cache misses. Deprecated, derive misses from cache hits/requests counters.
# TYPE coredns_cache_misses_total counter
coredns_cache_misses_total{server="dns://:53",view="",zones="."} 3
# HELP coredns_cache_requests_total The count of cache requests.
# TYPE coredns_cache_requests_total counter
coredns_cache_requests_total{server="dns://:53",view="",zones="."} 6
`
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(g.m)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	recorded, err := os.ReadFile("../testdata/coredns/metrics.kubeadm.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(recorded)) {
		if strings.Contains(line, "coredns_cache_") && strings.HasPrefix(line, "#") && !strings.Contains(want, line) {
			t.Errorf("CoreDNS has: %s", line)
		}
	}
	// The next cache with the same labels goes on counting.
	again, err := New(d, Options{Server: "dns://:53", Metrics: g.m})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := testutil.CollectAndCount(g.m, "coredns_cache_entries"); n != 2 || again.count != g.count {
		t.Error("the counters begin anew")
	}
}
