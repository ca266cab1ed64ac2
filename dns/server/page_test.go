package server

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/proxier/names"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// fetch returns a page of the server: its code and content.
func (f *fixture) fetch(at, path string) (int, string) {
	f.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + f.PageAddr(at) + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

const metricsPage = "127.0.0.3:0"

// A family is what must agree about a metric: its type and the names of its labels.
type family struct {
	kind   string
	labels string
}

var labelName = regexp.MustCompile(`([a-z_]+)="`)

// families reads a page of metrics. The labels are those of the last sample.
func families(page string) map[string]family {
	out := map[string]family{}
	kinds := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(page))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if fields := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			kinds[fields[2]] = fields[3]
			continue
		} else if strings.HasPrefix(line, "#") || len(fields) == 0 {
			continue
		}
		name, rest, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); kinds[name] == "" && kinds[base] == "histogram" {
				name = base
			}
		}
		labels, _, _ := strings.Cut(rest, "}")
		var list []string
		for _, m := range labelName.FindAllStringSubmatch(labels, -1) {
			if m[1] != "le" {
				list = append(list, m[1])
			}
		}
		slices.Sort(list)
		out[name] = family{kinds[name], strings.Join(list, ",")}
	}
	return out
}

// TestMetrics compares the page after the recorded queries with CoreDNS's page after them: every
// metric of the resolver is there, with its type and its labels.
func TestMetrics(t *testing.T) {
	objects, err := dnstest.Objects(recordings)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile(filepath.Join(recordings, "metrics.kubeadm.txt"))
	if err != nil {
		t.Fatal(err)
	}
	answers, err := dnstest.Load(recordings, "kubeadm")
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster()
	c.set(objects.Inputs(names.Keep{}))
	f := start(t, recordedCorefile(t, filepath.Join(recordings, "kubeadm.Corefile"), serveExample(t)), c)
	for _, a := range answers {
		m, proto, err := dnstest.Parse(a.Q)
		if err != nil {
			t.Fatal(err)
		}
		f.exchange(m, proto)
	}
	f.exchange(question("www.example.com.", dnswire.TypeA), "udp")                            // from the cache
	for _, name := range []string{"v4only.example.com.", "ns.example.com.", "example.com."} { // over one connection: UDP has none to keep
		f.exchange(question(name, dnswire.TypeANY), "tcp")
	}
	wait.For(t, "looks at /health", true, func() bool { // one a second
		_, page := f.fetch(metricsPage, "/metrics")
		return strings.Contains(page, "coredns_health_request_duration_seconds_count 1")
	})
	code, page := f.fetch(metricsPage, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("code %d: %s", code, page)
	}
	got := families(page)
	for name, want := range families(string(recorded)) {
		switch {
		case strings.HasPrefix(name, "coredns_kubernetes_rest_client_"): // of the program's client
		case !strings.HasPrefix(name, "coredns_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "go_gc_") && name != "go_goroutines":
		case got[name] != want:
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	// Which plugin answered is said, and not always errors, as with CoreDNS.
	for _, want := range []string{
		`coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",`,
		`coredns_dns_responses_total{plugin="forward",rcode="NOERROR",`,
		`coredns_dns_responses_total{plugin="cache",rcode="NOERROR",`,
		`coredns_plugin_enabled{name="kubernetes",server="dns://127.0.0.1:0",view="",zone="."} 1`,
		`coredns_plugin_enabled{name="prometheus",server="dns://127.0.0.1:0",view="",zone="."} 1`,
		`coredns_reload_version_info{hash="sha512",value="`,
		`fairway_dns_staleness_seconds 0`,
		`fairway_dns_last_change_timestamp_seconds{zone="cluster.local."} 1.`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}
