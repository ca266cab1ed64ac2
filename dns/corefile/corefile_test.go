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

// recorded reads the verdicts of real CoreDNS.
func recorded(t testing.TB) (out []verdict) {
	t.Helper()
	f, err := os.Open("../testdata/coredns/corefiles.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if len(out) < 100 {
		t.Fatalf("%d recorded verdicts only", len(out))
	}
	return out
}

// deliberate are the recorded Corefiles that CoreDNS takes and Fairway does not. The page
// docs/dns-differences.md says why.
var deliberate = map[string]string{
	"k8s_external": "plugin 'k8s_external' exists in CoreDNS and is not supported",
	"erratic":      "plugin 'erratic' exists in CoreDNS and is not supported",
	"tls no cert":  "scheme tls exists in CoreDNS and is not supported",
}

// essence is the part of a message of CoreDNS that says what is wrong, without where.
func essence(msg string) string {
	where := regexp.MustCompile(`^(\[WARNING\] )?(plugin/\w+: )?(\S+:\d+ - )?(Error during parsing: |Syntax error: )?`)
	return where.ReplaceAllString(msg, "")
}

func TestRecordedVerdicts(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	path := filepath.Join(dir, "conf/cf.Corefile")
	seen := 0
	for _, v := range recorded(t) {
		t.Run(v.Name, func(t *testing.T) {
			c, err := Parse(path, []byte(v.Corefile), Options{})
			if want, ok := deliberate[v.Name]; ok {
				seen++
				if !v.Accept || err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want a refusal with %q", err, want)
				}
				return
			}
			if v.Accept {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if want := essence(v.Msg); want != "" && !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
					t.Errorf("warnings %q lack %q", c.Warnings, want)
				}
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

// checkError compares an error with CoreDNS's. Ours always has a file and a line.
func checkError(t *testing.T, err error, v verdict, path string) {
	t.Helper()
	if want := essence(v.Msg); !strings.Contains(err.Error(), want) {
		t.Errorf("got %q\nwant it to say %q", err, want)
	}
	if plugin := regexp.MustCompile(`^plugin/\w+: `).FindString(v.Msg); !strings.HasPrefix(err.Error(), plugin) {
		t.Errorf("%q does not begin with %q", err, plugin)
	}
	place := regexp.MustCompile(regexp.QuoteMeta(path) + `:\d+`).FindString(err.Error())
	if place == "" {
		t.Errorf("%q has no place", err)
	}
	if theirs := regexp.MustCompile(`cf\.Corefile:\d+`).FindString(v.Msg); theirs != "" && !strings.HasSuffix(place, theirs) {
		t.Errorf("place is %s, CoreDNS's is %s", place, theirs)
	}
}
