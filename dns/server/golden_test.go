package server

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/proxier/names"
)

const recordings = "../testdata/coredns"

// TestRecordedAnswers asks a whole server, under each recorded Corefile, every recorded query. Each
// answer is what CoreDNS answered, or a deliberate difference.
func TestRecordedAnswers(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(recordings, "*.Corefile"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d Corefiles, %v", len(files), err)
	}
	objects, err := dnstest.Objects(recordings)
	if err != nil {
		t.Fatal(err)
	}
	upstream := serveExample(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".Corefile")
		t.Run(name, func(t *testing.T) {
			answers, err := dnstest.Load(recordings, name)
			if err != nil {
				t.Fatal(err)
			}
			text := recordedCorefile(t, file, upstream)
			c := newCluster()
			c.set(objects.Inputs(names.Keep{Pods: strings.Contains(text, "endpoint_pod_names"), Zones: true}))
			f := start(t, text, c)
			differences := map[string]int{}
			for _, want := range answers {
				f.compare(want, differences, strings.Contains(text, "cache"))
			}
			t.Logf("%d answers, of which differ: %v", len(answers), differences)
		})
	}
}

// compare asks a recorded query.
func (f *fixture) compare(want dnstest.Answer, differences map[string]int, cached bool) {
	f.t.Helper()
	m, proto, err := dnstest.Parse(want.Q)
	if err != nil {
		f.t.Fatal(err)
	}
	var o dnstest.Options
	if cached {
		o.Aging = func(name string) bool { return strings.HasSuffix(name, "example.com.") }
	}
	reply := f.exchange(m, proto)
	got := dnstest.Of(want.Q, reply)
	wrong := dnstest.Compare(want, got, o)
	if len(wrong) == 0 {
		if err := dnstest.Order(reply); err != nil {
			f.t.Errorf("%s: %v", want.Q, err)
		}
		return
	}
	if rule := dnstest.Explain(want, got); rule != nil {
		differences[rule.ID]++
		return
	}
	f.t.Errorf("%s:\n  %s", want.Q, strings.Join(wrong, "\n  "))
}

var (
	ports    = regexp.MustCompile(`(?m)^\.:\d+ \{`)
	pageOf   = regexp.MustCompile(`(health|ready|prometheus) 127\.0\.0\.1:\d+`)
	pageHost = map[string]string{"health": "127.0.0.1", "ready": "127.0.0.2", "prometheus": "127.0.0.3"}
	recorder = "127.0.0.1:5301"
)

// recordedCorefile is a recorded Corefile that listens on free ports and asks the upstream.
func recordedCorefile(t *testing.T, file, upstream string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := ports.ReplaceAllString(string(data), ".:0 {")
	text = pageOf.ReplaceAllStringFunc(text, func(s string) string {
		name, _, _ := strings.Cut(s, " ")
		return name + " " + pageHost[name] + ":0"
	})
	return strings.ReplaceAll(strings.ReplaceAll(text, recorder, upstream), "lameduck 5s", "")
}

// serveExample serves the zone that was behind the recorded forwarders, as plainly as the server
// did that was there, and returns where.
func serveExample(t *testing.T) string {
	t.Helper()
	file, err := os.Open(filepath.Join(recordings, "db.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records := map[string][]dnswire.RR{}
	var soa dnswire.RR
	parser := dnswire.NewZoneParser(file, "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		name := strings.ToLower(rr.Header().Name)
		records[name] = append(records[name], rr)
		if rr.Header().Rrtype == dnswire.TypeSOA {
			soa = rr
		}
	}
	if err := parser.Err(); err != nil || soa == nil {
		t.Fatalf("zone file: %v, SOA %v", err, soa)
	}
	handler := dnswire.HandlerFunc(func(w dnswire.ResponseWriter, q *dnswire.Msg) {
		_ = w.WriteMsg(exampleAnswer(q, records, soa)) // a client that is gone needs no reply
	})
	return serveDNS(t, handler)
}

func exampleAnswer(q *dnswire.Msg, records map[string][]dnswire.RR, soa dnswire.RR) *dnswire.Msg {
	m := new(dnswire.Msg).SetReply(q)
	if !dnswire.IsSubDomain("example.com.", q.Question[0].Name) {
		m.Rcode = dnswire.RcodeRefused
		return m
	}
	m.Authoritative, m.Compress = true, true
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	for again := true; again; {
		again = false
		for _, rr := range records[name] {
			switch c, alias := rr.(*dnswire.CNAME); {
			case rr.Header().Rrtype == qtype:
				m.Answer = append(m.Answer, rr)
			case alias:
				m.Answer, name, again = append(m.Answer, rr), c.Target, true
			}
		}
	}
	if records[name] == nil {
		m.Rcode = dnswire.RcodeNameError
	}
	m.Ns = []dnswire.RR{soa}
	if len(m.Answer) > 0 {
		m.Ns = records["example.com."][1:2] // its name server
	}
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(o.UDPSize(), o.Do())
	}
	return m
}

// serveDNS serves a handler over UDP and TCP until the test ends, and returns where.
func serveDNS(t *testing.T, h dnswire.Handler) string {
	t.Helper()
	l, p := listenBoth(t)
	for _, s := range []*dnswire.Server{{Listener: l, Handler: h}, {PacketConn: p, Handler: h}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = s.ActivateAndServe() }() // ends with Shutdown
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-ended }) // the test is over
	}
	return l.Addr().String()
}

// listenBoth listens on a port that is free for both protocols.
func listenBoth(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return l, p
		}
		l.Close() // another program has the port for UDP
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}
