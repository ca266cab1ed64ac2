package dnsbench

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/peerbin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	const text = `DNS Performance Testing Tool
> NOERROR www.example.com A 0.000300
> NXDOMAIN x.example.com A 0.000100
> T x.example.com A

Statistics:

  Queries sent:         3
  Queries completed:    2 (66.67%)
  Queries lost:         1 (33.33%)

  Response codes:       NOERROR 1 (50.00%), NXDOMAIN 1 (50.00%)
  Average packet size:  request 33, response 122
  Run time (s):         2.000000
  Queries per second:   1.000000
`
	got, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := report{3, 2, 1, 2, "NOERROR 1 (50.00%), NXDOMAIN 1 (50.00%)", []float64{0.0001, 0.0003}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(report{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := parse("> NOERROR www.example.com A 0.0003\n"); err == nil {
		t.Error("half an output is taken for a report")
	}
}

// The zone file must say what a resolver makes of the objects; the answers are compared in TestRun.
func TestZoneFile(t *testing.T) {
	text := zoneFile(cluster{services: 20, endpoints: 2, sets: 5}.objects())
	types := map[uint16]int{}
	zp := dnswire.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		types[rr.Header().Rrtype]++
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	// 200 endpoints and 5 times 3, each with an A record of the set and one of its own.
	want := map[uint16]int{dnswire.TypeSOA: 1, dnswire.TypeNS: 1, dnswire.TypeA: 1 + 20 + 2*215, dnswire.TypeSRV: 215}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMarkdown(t *testing.T) {
	r := Result{Options: Options{Subjects: Subjects, Rounds: 1, Services: 10}}
	for i, subject := range Subjects {
		r.Samples = append(r.Samples,
			Sample{Subject: subject, Mix: "m", Rate: 100, Queries: 100, Seconds: 1, CPU: time.Duration(i+1) * time.Millisecond, P50: time.Millisecond, P99: 2 * time.Millisecond},
			Sample{Subject: subject, Mix: "m", Queries: 1000, Seconds: 1, CPU: time.Duration(i+1) * time.Millisecond},
			Sample{Subject: subject, Mix: "m", Queries: 600 * (4 - i), Seconds: 1, OneCore: true})
	}
	r.Sizes = []Size{{Subject: nameserver.Fairway, Synced: 30e6, Changes: []time.Duration{time.Millisecond}}, {Subject: nameserver.CoreDNS, Synced: 120e6, Changes: []time.Duration{4 * time.Millisecond}}}
	page := r.Markdown()
	for _, want := range []string{
		"| m | 0.50 | 1.33 | 1.00 | 0.50 | 1.00 | 1.00 |\n",
		"| CoreDNS | 2.0 (2.0 to 2.0) | 1800 (1800 to 1800) | 1000 (1000 to 1000) | 20.0 (20.0 to 20.0) | 1000 (1000 to 1000) | 2000 (2000 to 2000) | 0 |",
		"| ratio | NaN | 0.25 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// Every server answers three kinds of load with what it should, and nothing is lost for want of an answer.
func TestRun(t *testing.T) {
	for _, program := range []string{nameserver.NSD, nameserver.Unbound, "dnsperf"} {
		peerbin.NeedProgram(t, program)
	}
	nameserver.TestSpace(t) // root
	peerbin.Need(t, peerbin.CoreDNS)
	o := Options{
		Bin: filepath.Dir(peerbin.Need(t, peerbin.Fairway)), Rounds: 1, Duration: 100 * time.Millisecond, Subjects: Subjects, Control: nameserver.Fairway,
		Only: "^cluster|EDNS|^search", Settle: 100 * time.Millisecond,
		Services: 50, Endpoints: 3, Changes: 3, Progress: func(s string) { t.Log(s) },
	}
	samples, err := o.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rcodes := map[string]string{}
	for _, s := range samples {
		if s.Queries == 0 || s.CPU <= 0 || s.Rate > 0 && s.P99 < s.P50 {
			t.Errorf("%+v", s)
		}
		codes := ""
		for _, code := range []string{"NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"} {
			if strings.Contains(s.Rcodes, code) {
				codes += code + " "
			}
		}
		if rcodes[s.Mix] == "" {
			rcodes[s.Mix] = codes
		}
		if codes != rcodes[s.Mix] {
			t.Errorf("%s answers %s with %s, not %s", s.Subject, s.Mix, codes, rcodes[s.Mix])
		}
	}
	if want := 3*5*3 - 3; len(samples) != want { // NSD has no search list
		t.Errorf("%d samples, want %d", len(samples), want)
	}
	sizes, err := o.RunSize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sizes {
		if len(s.Changes) != 3 || s.Synced < 1<<20 || s.Peak < s.Loaded {
			t.Errorf("%+v", s)
		}
	}
}
