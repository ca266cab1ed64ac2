package suite

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/bench/scale"
)

// Report makes the report of results: its files by name, the page first among equals as
// "benchmarks.md".
func Report(files map[string]File) (map[string][]byte, error) {
	out := map[string][]byte{}
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	b.WriteString("Generated from the samples in bench/results; `make bench` measures them again, `make bench-quick` the core of them.\n\n")
	heading(&b, files)
	b.WriteString(method)
	for _, g := range graphs(files) {
		svg, err := g.svg()
		if err != nil {
			return nil, err
		}
		name := "benchmarks/" + g.file
		out[name] = svg
		fmt.Fprintf(&b, "![%s](%s)\n\n", g.title, name)
	}
	b.WriteString("## Programming\n\n")
	for _, f := range sorted(files, func(f File) bool { return f.Scale != nil }) {
		r := scale.Result{Options: f.Scale.Options, Samples: f.Scale.Samples}
		b.WriteString(r.Tables())
	}
	b.WriteString("## Data path\n\n")
	for _, f := range sorted(files, func(f File) bool { return f.Data != nil }) {
		b.WriteString(f.Data.Markdown())
	}
	if f, ok := files[namesCell]; ok {
		out["dns-benchmarks.md"] = []byte(f.Names.Markdown())
		b.WriteString("## Names\n\nSee [what an answer costs](dns-benchmarks.md).\n")
	}
	out["benchmarks.md"] = []byte(b.String())
	return out, nil
}

const method = `
Every figure is of real packets through a real kernel, between network namespaces of one machine: a client, the node with the proxy, and one pod that has every endpoint's address. No figure is that of a network; what counts are ratios. Times are medians; brackets have the 95 % interval of a ratio. A subject that is over its time limit is ended and says so.

*Data path*: all subjects are up at once and are measured in turns of a quarter of a second, and a ratio is taken within a round. The control, the connection straight to an endpoint, is measured twice, as if it were two subjects: how far the two are apart is the noise.

*Programming*: every subject runs alone, on the same objects from the same list/watch server, in turns. *First sync* is from the start of the process until packets to Services all over the range are answered. *Change* is from the server's event until packets follow. *Rolling* is 100 changes of one endpoint, one every 20 ms, *churn* a hundred changes a second all over the cluster: their lag is how far behind the last of them packets are, failed are connections to Services that do not change meanwhile.

`

// heading says on what was measured, once if all results agree.
func heading(b *strings.Builder, files map[string]File) {
	seen := map[string][]string{}
	for name, f := range files {
		m := f.Machine
		if f.Names != nil {
			continue // its page says it
		}
		text := fmt.Sprintf("%s on %s, %d cores, Linux %s", f.Date, m.CPU, m.Cores, m.Kernel)
		for _, v := range slices.Sorted(maps.Keys(m.Versions)) {
			text += ", " + v + " " + m.Versions[v]
		}
		seen[text] = append(seen[text], name)
	}
	for _, text := range slices.Sorted(maps.Keys(seen)) {
		slices.Sort(seen[text])
		fmt.Fprintf(b, "Measured on %s: %s.\n", text, strings.Join(seen[text], ", "))
	}
}

// sorted returns the results of a kind by their number of Services.
func sorted(files map[string]File, kind func(File) bool) []File {
	size := func(f File) int {
		if f.Data != nil {
			n := 2 * f.Data.Options.Services
			if f.Data.Options.V6 {
				n++
			}
			return n
		}
		return f.Scale.Options.Services
	}
	out := slices.DeleteFunc(slices.Collect(maps.Values(files)), func(f File) bool { return !kind(f) })
	slices.SortFunc(out, func(a, b File) int { return size(a) - size(b) })
	return out
}

// Save writes a report into a directory.
func Save(dir string, report map[string][]byte) error {
	for name, content := range report {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
