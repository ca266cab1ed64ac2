package corefile

import (
	"os"
	"strings"
	"testing"
)

// cases reads testdata/corefiles.txt: Corefiles without verdicts.
func cases(t testing.TB) (out []verdict) {
	t.Helper()
	text, err := os.ReadFile("testdata/corefiles.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "\n== ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		body = strings.TrimSuffix(body, "\n") + "\n"
		if strings.HasPrefix(body, " ") {
			body = ".:5399 {\n bind 127.0.0.1\n" + body + "}\n"
		}
		out = append(out, verdict{Name: name, Corefile: body})
	}
	return out
}

// TestCasesAreRecorded: the verdicts are those of the Corefiles beside them.
func TestCasesAreRecorded(t *testing.T) {
	list, have := cases(t), recorded(t, "testdata/verdicts.jsonl")
	if len(list) != len(have) {
		t.Fatalf("%d Corefiles, %d verdicts: record them anew, see TestRecord", len(list), len(have))
	}
	for i, c := range list {
		if c.Name != have[i].Name || c.Corefile != have[i].Corefile {
			t.Errorf("%s has no verdict: record them anew, see TestRecord", c.Name)
		}
	}
}
