package corefile

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A verdict is what CoreDNS said about a Corefile.
type verdict struct {
	Name     string
	Corefile string
	Accept   bool
	Msg      string
}

// recorded reads the verdicts of real CoreDNS from a file.
func recorded(t testing.TB, path string) (out []verdict) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("%d recorded verdicts only", len(out))
	}
	return out
}

// deliberate are the recorded Corefiles that CoreDNS takes and Fairway does not. The page
// docs/dns-differences.md says why.
var deliberate = map[string]string{
	"k8s_external":  "plugin 'k8s_external' exists in CoreDNS and is not supported",
	"erratic":       "plugin 'erratic' exists in CoreDNS and is not supported",
	"tls no cert":   "scheme tls exists in CoreDNS and is not supported",
	"tls key":       "scheme tls exists in CoreDNS and is not supported",
	"forward quic":  "'quic' is not supported as a destination protocol",
	"forward https": "'https' is not supported as a destination protocol",
	"forward doh":   "option 'doh_method' exists in CoreDNS and is not supported",
	"template expr": "option 'expr' exists in CoreDNS and is not supported",
}

// later are the recorded Corefiles that are refused when the plugin is made, not by this package.
var later = map[string]bool{"loadbalance weighted": true, "template answer bad": true}

// words are refusals that both make in words of their own.
var words = map[string]string{
	"forward missing file":  "not an IP address, file, or valid domain",
	"forward tls two names": "both forward ('b.org') and proxy level ('example.org') TLS servernames are set",
	"rewrite ttl many":      "too many (4) arguments for a ttl rule",
	"rewrite rcode many":    "too many (5) arguments for a rcode rule",
	"import two stars":      "Glob pattern may only contain one wildcard (*), but has others",
	"snippet self":          "maximum snippet import depth (10000) exceeded",
	"snippet cycle":         "maximum snippet import depth (10000) exceeded",
	"port big":              "invalid port: 65536",
}

// essence is the part of a message of CoreDNS that says what is wrong, without where.
func essence(msg string) string {
	where := regexp.MustCompile(`^((\[WARNING\]|plugin/\w+:|\S+:\d+ -|Error during parsing:|Syntax error:|error inspecting server blocks:) )+`)
	return where.ReplaceAllString(msg, "")
}

func TestRecordedVerdicts(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	path := filepath.Join(dir, "conf/cf.Corefile")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf/one.conf"), []byte("errors\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, v := range append(recorded(t, "../testdata/coredns/corefiles.jsonl"), recorded(t, "testdata/verdicts.jsonl")...) {
		t.Run(v.Name, func(t *testing.T) {
			c, err := Parse(path, []byte(v.Corefile), Options{})
			if want, ok := deliberate[v.Name]; ok {
				seen++
				if !v.Accept || err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want a refusal with %q", err, want)
				}
				return
			}
			if v.Accept || later[v.Name] {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				checkWarnings(t, c, v)
				return
			}
			if err == nil {
				t.Fatalf("accepted; CoreDNS: %s", v.Msg)
			}
			checkError(t, err, v, path)
		})
	}
	if seen != len(deliberate) {
		t.Errorf("%d of %d deliberate differences are recorded", seen, len(deliberate))
	}
}

// checkWarnings looks for CoreDNS's warnings among ours. Those of running plugins have their place
// elsewhere.
func checkWarnings(t *testing.T, c *Config, v verdict) {
	t.Helper()
	for line := range strings.Lines(v.Msg) {
		want := essence(strings.TrimSuffix(line, "\n"))
		if !strings.HasPrefix(line, "[WARNING]") || strings.Contains(line, "unsynced") {
			continue
		}
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("warnings %q lack %q", c.Warnings, want)
		}
	}
}

// checkError compares an error with CoreDNS's. Ours always has a file and a line.
func checkError(t *testing.T, err error, v verdict, path string) {
	t.Helper()
	want, ours := words[v.Name]
	if !ours {
		want = essence(v.Msg)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %q\nwant it to say %q", err, want)
	}
	if plugin := regexp.MustCompile(`^plugin/\w+: `).FindString(v.Msg); !strings.HasPrefix(err.Error(), plugin) {
		t.Errorf("%q does not begin with %q", err, plugin)
	}
	place := regexp.MustCompile(regexp.QuoteMeta(path) + `:\d+`).FindString(err.Error())
	if place == "" {
		t.Errorf("%q has no place", err)
	}
	if theirs := regexp.MustCompile(`cf\.Corefile:\d+`).FindString(v.Msg); theirs != "" && !ours && !strings.HasSuffix(place, theirs) {
		t.Errorf("place is %s, CoreDNS's is %s", place, theirs)
	}
}
