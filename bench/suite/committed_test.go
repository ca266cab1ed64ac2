package suite

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/bench/peerbin"
)

// committed are the results of the repository, and its root.
func committed(t *testing.T) (root string, files map[string]File) {
	t.Helper()
	root, err := peerbin.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err = Load(filepath.Join(root, "bench", "results"))
	if err != nil {
		t.Fatal(err)
	}
	return root, files
}

// The committed report, the picture of the README with it, is what the committed results make.
func TestReportIsInStep(t *testing.T) {
	root, files := committed(t)
	report, err := Report(files)
	if err != nil {
		t.Fatal(err)
	}
	const mend = "make it with: go run ./bench report"
	for name, want := range report {
		got, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Errorf("%v; %s", err, mend)
		} else if !bytes.Equal(got, want) {
			diff := ""
			if strings.HasSuffix(name, ".md") {
				diff = cmp.Diff(string(want), string(got))
			}
			t.Errorf("docs/%s is not in step; %s\n%s", name, mend, diff)
		}
	}
	pictures, err := filepath.Glob(filepath.Join(root, "docs", "benchmarks", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		if report["benchmarks/"+filepath.Base(p)] == nil {
			t.Errorf("%s is of no report; %s", p, mend)
		}
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"](docs/benchmarks/headline.svg)", "](docs/benchmarks.md)"} {
		if !strings.Contains(string(readme), want) {
			t.Errorf("README.md has no link %s", want)
		}
	}
}

// retired are the keys that nothing reads any more: see File.
var retired = []string{
	"programming.samples[].change_cpu_ns", "programming.samples[].churn.cpu_ns", "programming.samples[].rolling.cpu_ns",
}

// keys adds to all the path of every key in a JSON value.
func keys(v any, path string, all map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			at := strings.TrimPrefix(path+"."+k, ".")
			all[at] = true
			keys(x, at, all)
		}
	case []any:
		for _, x := range v {
			keys(x, path+"[]", all)
		}
	}
}

func keysOf(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	keys(v, "", all)
	return all
}

// Every key of the committed results is read, but for those that are known to be retired.
func TestCommittedKeys(t *testing.T) {
	root, files := committed(t)
	for cell, f := range files {
		again := filepath.Join(t.TempDir(), "again.json")
		if err := save(again, f); err != nil {
			t.Fatal(err)
		}
		read := keysOf(t, again)
		for k := range keysOf(t, filepath.Join(root, "bench", "results", cell+".json")) {
			if !read[k] && !slices.Contains(retired, k) {
				t.Errorf("%s: nothing reads %s", cell, k)
			}
		}
	}
}

// Every subject in every cell has a figure, a limit, or a reason, and every cell that there might
// be is there or is said to be left out.
func TestCommittedHasNoHoles(t *testing.T) {
	_, files := committed(t)
	all := figuresOf(files)
	for _, hole := range all.holes() {
		t.Errorf("neither a figure nor a reason: %s", hole)
	}
	left := func(cell string) bool {
		return slices.ContainsFunc(gaps, func(g gap) bool { return slices.Contains(g.cells, cell) })
	}
	want := []string{namesCell}
	for _, kind := range []string{programmingCell, dataCell} {
		for _, n := range []int{10, 1000, 10_000, 30_000, 100_000} {
			want = append(want, name(kind, n, false), name(kind, n, true))
		}
	}
	for _, cell := range want {
		_, ok := files[cell]
		if ok == left(cell) {
			t.Errorf("%s: measured: %v, said to be left out: %v", cell, ok, left(cell))
		}
	}
	for cell := range files {
		if !slices.Contains(want, cell) {
			t.Errorf("%s is of no plan", cell)
		}
	}
}
