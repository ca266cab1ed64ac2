package proxier_test

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairway-lb/fairway"

// A pkg is one folder of Go files, by its path from the root of the module.
type pkg struct {
	dir     string
	imports []string // of the code itself
	tests   []string // of its tests only
}

// A layer says what some packages may not import.
type layer struct {
	why     string
	of      func(dir string) bool
	forbids func(imported string) bool
	tests   bool // holds for tests too
}

// under reports whether path is one of the roots or inside one.
func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return path == r || strings.HasPrefix(path, r+"/") })
}

// ours returns the folder of an import of this module, or "".
func ours(imported string) string {
	dir, ok := strings.CutPrefix(imported, module+"/")
	if !ok {
		return ""
	}
	return dir
}

// standard reports whether an import is of the standard library.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func in(roots ...string) func(string) bool      { return func(p string) bool { return under(p, roots...) } }
func not(f func(string) bool) func(string) bool { return func(p string) bool { return !f(p) } }
func oursIn(roots ...string) func(string) bool {
	return func(p string) bool { return under(ours(p), roots...) }
}

// layers are the directions of imports: see ARCHITECTURE.md. "Tests" stands for what only tests
// and measurements use.
var layers = []layer{
	{why: "proxier is the vocabulary of all and stands on the standard library alone",
		of: func(dir string) bool { return dir == "proxier" }, forbids: not(standard)},
	{why: "resolve is pure policy: API types, address parsing, and the vocabulary",
		of: in("proxier/resolve"),
		forbids: func(p string) bool {
			return !standard(p) && p != module+"/proxier" && !under(p, "k8s.io/api", "k8s.io/apimachinery", "k8s.io/utils/net")
		}},
	{why: "only proxier/watch and the commands talk to the API server",
		of: not(in("proxier/watch", "cmd", "bench")), forbids: in("k8s.io/client-go"), tests: true},
	{why: "a backend knows neither Kubernetes nor where snapshots come from",
		of: in("iptables", "ipvs", "ebpf"),
		forbids: func(p string) bool {
			return strings.HasPrefix(p, "k8s.io/") || oursIn("dns", "proxier/watch", "proxier/config", "proxier/resolve")(p)
		}},
	{why: "backends do not know each other", of: in("iptables"), forbids: oursIn("ipvs", "ebpf"), tests: true},
	{why: "backends do not know each other, but for the iptables-save format", of: in("ipvs"), tests: true,
		forbids: func(p string) bool { return oursIn("iptables", "ebpf")(p) && ours(p) != "iptables/restore" }},
	{why: "backends do not know each other", of: in("ebpf"), forbids: oursIn("iptables", "ipvs"), tests: true},
	{why: "the parts of the proxy do not know the backends, the resolver or the commands",
		of: func(dir string) bool { return under(dir, "proxier") && !under(dir, "proxier/proxiertest") }, forbids: oursIn("iptables", "ipvs", "ebpf", "dns", "cmd")},
	{why: "each kernel library has one home", of: not(in("iptables")), forbids: in("github.com/coreos/go-iptables"), tests: true},
	{why: "each kernel library has one home", of: not(in("ipvs")), forbids: in("github.com/moby/ipvs"), tests: true},
	{why: "each kernel library has one home", of: not(in("ebpf")), forbids: in("github.com/cilium/ebpf"), tests: true},
	{why: "the wire format of names has one home", of: not(in("dns", "bench")), forbids: in("github.com/miekg/dns"), tests: true},
	{why: "the resolver knows a cluster by proxier/names alone, and no data plane", of: func(dir string) bool { return under(dir, "dns") && dir != "dns/dnstest" },
		forbids: func(p string) bool {
			return strings.HasPrefix(p, "k8s.io/") && !under(p, "k8s.io/apimachinery") || oursIn("iptables", "ipvs", "ebpf")(p) ||
				oursIn("proxier")(p) && ours(p) != "proxier" && ours(p) != "proxier/names"
		}},
	{why: "names are values: API types, and the vocabulary",
		of: in("proxier/names"),
		forbids: func(p string) bool {
			return !standard(p) && p != module+"/proxier" && !under(p, "k8s.io/api")
		}},
	{why: "a zone knows names, wire format and its own directive, and nobody else's",
		of: in("dns/zone"),
		forbids: func(p string) bool {
			return oursIn("dns", "proxier")(p) && !under(ours(p), "dns/plugin", "dns/wire", "dns/corefile", "proxier/names")
		}},
	{why: "the comparison with CoreDNS is for tests", of: not(in("bench", "dns/dnstest")), forbids: oursIn("dns/dnstest")},
	{why: "dns/wire stands on the standard library alone", of: in("dns/wire"), forbids: not(standard)},
	{why: "dns/serve knows sockets and messages, not zones or configurations", of: in("dns/serve"),
		forbids: func(p string) bool {
			return !standard(p) && p != module+"/dns/wire" && !under(p, "golang.org/x/sys")
		}},
	{why: "forward and cache know questions and directives, and nothing of each other",
		of: in("dns/forward", "dns/cache"),
		forbids: func(p string) bool {
			return oursIn("dns", "proxier")(p) && !under(ours(p), "dns/plugin", "dns/wire", "dns/corefile")
		}},
	{why: "measurements and the suite are for tests", of: not(in("bench", "proxier/proxiertest")),
		forbids: oursIn("bench", "proxier/proxiertest")},
	{why: "the laboratory is for tests and the demo", of: not(in("bench", "proxier/proxiertest", "cmd")), forbids: oursIn("proxier/netlab")},
	{why: "waiting with a deadline is for tests", of: not(in("proxier/wait")), forbids: oursIn("proxier/wait")},
	{why: "commands are the top", of: not(in("cmd")), forbids: oursIn("cmd")},
}

// violations returns a line for each import that a layer forbids.
func violations(pkgs []pkg) (out []string) {
	for _, p := range pkgs {
		for _, l := range layers {
			if !l.of(p.dir) {
				continue
			}
			imports := p.imports
			if l.tests {
				imports = slices.Concat(p.imports, p.tests)
			}
			for _, i := range imports {
				if l.forbids(i) && ours(i) != p.dir {
					out = append(out, fmt.Sprintf("%s imports %s: %s", p.dir, i, l.why))
				}
			}
		}
	}
	return out
}

// packages reads the imports of every folder of this module. It asks go/build and not the go
// command, so that the test cache sees which files were read.
func packages(t *testing.T) (out []pkg) {
	t.Helper()
	for _, dir := range folders(t) {
		if nested(dir) {
			continue
		}
		p, err := build.ImportDir(filepath.Join(root, dir), 0)
		var none *build.NoGoError
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		out = append(out, pkg{dir, p.Imports, slices.Concat(p.TestImports, p.XTestImports)})
	}
	return out
}

const root = ".." // from this package

// folders returns every folder that may hold source, by its path from the root of the module.
func folders(t *testing.T) (out []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nested reports whether the folder belongs to a module of its own.
func nested(dir string) bool {
	for ; dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

func TestLayers(t *testing.T) {
	pkgs := packages(t)
	if len(pkgs) < 5 {
		t.Fatalf("found %d packages only", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

// TestLayersCanFail has one package for each layer that breaks it.
func TestLayersCanFail(t *testing.T) {
	m := func(dir string) []string { return []string{module + "/" + dir} }
	tests := []struct {
		pkg
		why string
	}{
		{pkg{dir: "proxier", imports: []string{"golang.org/x/sys/unix"}}, "vocabulary"},
		{pkg{dir: "proxier/resolve", imports: []string{"k8s.io/klog/v2"}}, "pure"},
		{pkg{dir: "proxier/resolve", imports: m("proxier/watch")}, "pure"},
		{pkg{dir: "proxier/health", tests: []string{"k8s.io/client-go/kubernetes"}}, "API server"},
		{pkg{dir: "iptables/trace", imports: []string{"k8s.io/api/core/v1"}}, "neither Kubernetes"},
		{pkg{dir: "ebpf", imports: m("proxier/resolve")}, "neither Kubernetes"},
		{pkg{dir: "iptables", tests: m("ipvs")}, "backends"},
		{pkg{dir: "ipvs", imports: m("iptables")}, "iptables-save"},
		{pkg{dir: "ebpf", imports: m("iptables")}, "backends"},
		{pkg{dir: "proxier/health", imports: m("iptables")}, "parts of the proxy"},
		{pkg{dir: "ipvs", imports: []string{"github.com/coreos/go-iptables/iptables"}}, "one home"},
		{pkg{dir: "cmd/fairway", imports: []string{"github.com/moby/ipvs"}}, "one home"},
		{pkg{dir: "proxier/netlab", imports: []string{"github.com/cilium/ebpf/link"}}, "one home"},
		{pkg{dir: "proxier/admin", imports: []string{"github.com/miekg/dns"}}, "names"},
		{pkg{dir: "dns/server", imports: m("proxier/watch")}, "proxier/names alone"},
		{pkg{dir: "proxier/names", imports: m("proxier/resolve")}, "names are values"},
		{pkg{dir: "dns/zone", imports: m("dns/forward")}, "its own directive"},
		{pkg{dir: "dns/server", imports: m("dns/dnstest")}, "comparison"},
		{pkg{dir: "dns/wire", imports: []string{"github.com/miekg/dns"}}, "standard library alone"},
		{pkg{dir: "dns/serve", imports: m("dns/corefile")}, "sockets"},
		{pkg{dir: "dns/cache", imports: m("dns/forward")}, "questions and directives"},
		{pkg{dir: "cmd/fairway", imports: m("proxier/proxiertest")}, "suite"},
		{pkg{dir: "iptables", imports: m("proxier/netlab")}, "laboratory"},
		{pkg{dir: "proxier/health", imports: m("proxier/wait")}, "waiting"},
		{pkg{dir: "bench", imports: m("cmd/fairway")}, "top"},
	}
	broken := map[string]bool{}
	for _, tc := range tests {
		got := violations([]pkg{tc.pkg})
		if !slices.ContainsFunc(got, func(v string) bool { return strings.Contains(v, tc.why) }) {
			t.Errorf("%v is not found to break %q: %q", tc.pkg, tc.why, got)
		}
		for _, l := range layers {
			if slices.ContainsFunc(got, func(v string) bool { return strings.HasSuffix(v, l.why) }) {
				broken[l.why] = true
			}
		}
	}
	for _, l := range layers {
		if !broken[l.why] {
			t.Errorf("nothing breaks %q", l.why)
		}
	}
	allowed := []pkg{
		{dir: "proxier/watch", imports: []string{"k8s.io/client-go/kubernetes", module + "/proxier/resolve"}},
		{dir: "ipvs", imports: []string{"github.com/moby/ipvs", module + "/iptables/restore", module + "/proxier"}},
		{dir: "iptables", imports: m("iptables/restore"), tests: m("proxier/proxiertest")},
		{dir: "cmd/fairway", imports: []string{module + "/proxier/netlab", module + "/ebpf", "k8s.io/client-go/rest"}},
	}
	for _, v := range violations(allowed) {
		t.Errorf("allowed, and yet: %s", v)
	}
}
