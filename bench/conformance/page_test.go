package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/bench/peerbin"
)

const events = `{"Action":"run","Test":"TestKubeProxy/nftables/IPv6/ports/one_name"}
{"Action":"output","Test":"TestKubeProxy/nftables/IPv6/ports/one_name","Output":"=== RUN   TestKubeProxy\n"}
{"Action":"output","Test":"TestKubeProxy/nftables/IPv6/ports/one_name","Output":"    run.go:137: step 1: fw12x3-node-1 is silent\n"}
{"Action":"output","Test":"TestKubeProxy/nftables/IPv6/ports/one_name","Output":"    run.go:138: more\n"}
{"Action":"fail","Test":"TestKubeProxy/nftables/IPv6/ports/one_name"}
{"Action":"pass","Test":"TestKubeProxy/iptables/IPv4/ports/one_name"}
{"Action":"fail","Test":"TestKubeProxy/nftables"}
`

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader(events))
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{
		{Scenario: "ports/one name", Mode: "iptables", Family: "IPv4"},
		{Scenario: "ports/one name", Mode: "nftables", Family: "IPv6", Failure: "step 1: node-1 is silent"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, line := range map[string]string{
		"a skipped scenario": `{"Action":"skip","Test":"TestKubeProxy/nftables/IPv6/ports/one_name"}`,
		"a panic":            `{"Action":"output","Test":"TestKubeProxy/nftables","Output":"panic: x\n"}`,
		"one mode less":      `{"Action":"pass","Test":"TestKubeProxy/nftables/IPv4/ports/one_name"}`,
	} {
		if _, err := Parse(strings.NewReader(events + line)); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestCheck(t *testing.T) {
	fails := Result{Cases: []Case{{Scenario: "ports/one name", Mode: "nftables", Family: "IPv6", Failure: "x"}}}
	tests := []struct {
		r    Result
		d    string
		want string // part of the error; "" for none
	}{
		{fails, `[]`, "nftables, IPv6, ports/one name is not explained: x"},
		{fails, `[{title: t, whose: ours, why: w, scenarios: [ports/one name]}]`, ""},
		{fails, `[{title: t, whose: ours, why: w, scenarios: ["ports/*"]}]`, ""},
		{fails, `[{title: t, whose: ours, why: w, scenarios: ["ports/*"], modes: [iptables]}]`, "is not explained"},
		{fails, `[{title: t, whose: ours, why: w, scenarios: ["ports/*"], families: [IPv4]}]`, `nothing fails because of "t"`},
		{fails, `[{title: t, whose: nobody, why: w, scenarios: ["ports/*"]}]`, "not complete"},
		{fails, `[{titel: t}]`, "titel"},
	}
	for _, tt := range tests {
		ds, err := Differences([]byte(tt.d))
		if err == nil {
			err = Check(tt.r, ds)
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.d, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %s", tt.d, err, tt.want)
		}
	}
}

// The committed page must be what the committed result and explanations make, and every failure
// must be explained.
func TestPageIsInStep(t *testing.T) {
	root, err := peerbin.Root()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var r Result
	if err := json.Unmarshal(read(ResultFile), &r); err != nil {
		t.Fatal(err)
	}
	ds, err := Differences(read(DifferencesFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(r, ds); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(Page(r, ds), string(read(PageFile))); diff != "" {
		t.Errorf("%s is not in step: go run ./bench conformance --page-only\n%s", PageFile, diff)
	}
}
