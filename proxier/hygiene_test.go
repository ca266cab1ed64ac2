package proxier_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A source is one file of the project. Only Go files have a tree.
type source struct {
	path string // from the root of the module
	text []byte
	fset *token.FileSet
	tree *ast.File
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s *source) line(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(p).Line)
}

// parse makes a source of a file's text.
func parse(path string, text []byte) (*source, error) {
	s := &source{path: path, text: text, fset: token.NewFileSet()}
	if !strings.HasSuffix(path, ".go") {
		return s, nil
	}
	var err error
	s.tree, err = parser.ParseFile(s.fset, path, text, parser.ParseComments)
	return s, err
}

// The sizes are limits, not aims. Generated files have none.
const (
	maxFile     = 500
	maxTestFile = 800
	maxFunc     = 80
)

// policyWords are what a backend must not know: all of it is decided before.
var policyWords = regexp.MustCompile(`(?i)traffic[ _-]?policy|topology|terminating`)

// unfinished finds marks of work that was left for later.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

// aliases are the import names of packages whose own names are those of our folders, or say
// nothing.
var aliases = map[string]string{
	"github.com/coreos/go-iptables/iptables": "goiptables",
	"github.com/moby/ipvs":                   "libipvs",
	"github.com/cilium/ebpf":                 "ciliumebpf",
	"github.com/miekg/dns":                   "dnswire",
	"k8s.io/api/core/v1":                     "corev1",
	"k8s.io/api/discovery/v1":                "discoveryv1",
	"k8s.io/apimachinery/pkg/apis/meta/v1":   "metav1",
}

// A check returns a line for each fault of one file. Its samples prove that it can fail.
type check struct {
	name    string
	run     func(*source) []string
	samples []sample
}

// A sample is where a file would be, one that has the fault, and one that does not.
type sample struct{ path, bad, good string }

var checks = []check{
	{"file length", fileLength, []sample{
		{"a.go", "package a\n" + strings.Repeat("\n", maxFile), "package a\n"},
		{"a_test.go", "package a\n" + strings.Repeat("\n", maxTestFile), "package a\n" + strings.Repeat("\n", maxFile)},
	}},
	{"function length", funcLength, []sample{
		{"a.go", "package a\n\nfunc f() {" + strings.Repeat("\n", maxFunc) + "}\n", "package a\n\nfunc f() {" + strings.Repeat("\n", maxFunc-1) + "}\n"},
	}},
	{"policy words under a backend", noPolicyWords, []sample{
		{"iptables/a.go", "package a\n\n// The externalTraffic" + "Policy is Local.\n", "package a\n\n// Determined.\n"},
		{"ebpf/bpf/a.h", "/* termi" + "nating */", "/* done */"},
	}},
	{"unfinished work", noUnfinished, []sample{
		{"a.go", "package a // TO" + "DO: more\n", "package a // to do: nothing\n"},
	}},
	{"silent skip", noSkips, []sample{
		{"a_test.go", "package a\n\nfunc TestA(t *testing.T) { t.Skip() }\n", "package a\n\nfunc TestA(t *testing.T) {\n\tif testing.Short() {\n\t\tt.Skip()\n\t}\n}\n"},
		{"proxier/health/a.go", "package a\n\nfunc need(t testing.TB) { t.Skipf(\"no\") }\n", "package a\n"},
	}},
	{"gofmt", formatted, []sample{
		{"a.go", "package a\nvar  x = 1\n", "package a\n\nvar x = 1\n"},
	}},
	{"import alias", importAliases, []sample{
		{"a.go", "package a\n\nimport \"github.com/moby/ipvs\"\n", "package a\n\nimport libipvs \"github.com/moby/ipvs\"\n"},
	}},
	{"error text", errorText, []sample{
		{"a.go", "package a\n\nvar err = fmt.Errorf(\"failed to open: %w\", e)\n", "package a\n\nvar err = fmt.Errorf(\"open: %w\", e)\n"},
	}},
}

func fileLength(s *source) []string {
	limit := maxFile
	if s.isTest() {
		limit = maxTestFile
	}
	if n := bytes.Count(s.text, []byte("\n")); s.tree != nil && n > limit {
		return []string{fmt.Sprintf("%s has %d lines, the limit is %d", s.path, n, limit)}
	}
	return nil
}

func funcLength(s *source) (out []string) {
	if s.tree == nil || s.isTest() {
		return nil
	}
	for _, d := range s.tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n > maxFunc {
				out = append(out, fmt.Sprintf("%s: %s has %d lines, the limit is %d", s.line(f.Pos()), f.Name, n, maxFunc))
			}
		}
	}
	return out
}

func noPolicyWords(s *source) (out []string) {
	if !under(s.path, "iptables", "ipvs", "ebpf") {
		return nil
	}
	for i, l := range bytes.Split(s.text, []byte("\n")) {
		if w := policyWords.Find(l); w != nil {
			out = append(out, fmt.Sprintf("%s:%d: a backend knows of %q", s.path, i+1, w))
		}
	}
	return out
}

func noUnfinished(s *source) (out []string) {
	for i, l := range bytes.Split(s.text, []byte("\n")) {
		if w := unfinished.Find(l); w != nil {
			out = append(out, fmt.Sprintf("%s:%d: %s", s.path, i+1, w))
		}
	}
	return out
}

// noSkips lets a test be left out only where a lane's helper does so, which fails instead when
// the environment requires the lane, or when the caller asked for short tests.
func noSkips(s *source) (out []string) {
	if s.tree == nil || !s.isTest() && under(s.path, "proxier/netlab", "bench") {
		return nil
	}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		if i, ok := n.(*ast.IfStmt); ok && isCall(i.Cond, "Short") {
			return false
		}
		if c, ok := n.(*ast.CallExpr); ok && (isCall(c, "Skip") || isCall(c, "Skipf") || isCall(c, "SkipNow")) {
			out = append(out, s.line(n.Pos())+": a skip outside the helpers of lanes")
		}
		return true
	})
	return out
}

// isCall reports whether e calls a method or function of that name.
func isCall(e ast.Expr, name string) bool {
	c, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == name
}

func formatted(s *source) []string {
	if s.tree == nil {
		return nil
	}
	want, err := format.Source(s.text)
	if err != nil {
		return []string{s.path + ": " + err.Error()}
	}
	if !bytes.Equal(s.text, want) {
		return []string{s.path + " is not gofmt-ed"}
	}
	return nil
}

func importAliases(s *source) (out []string) {
	if s.tree == nil {
		return nil
	}
	for _, i := range s.tree.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if want := aliases[path]; want != "" && (i.Name == nil || i.Name.Name != want && i.Name.Name != "_") {
			out = append(out, fmt.Sprintf("%s: %s is imported under another name than %s", s.line(i.Pos()), path, want))
		}
	}
	return out
}

// errorText wants errors to begin with the operation that did not work.
func errorText(s *source) (out []string) {
	if s.tree == nil || s.isTest() {
		return nil
	}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok || len(c.Args) == 0 || !isCall(c, "Errorf") && !isCall(c, "New") {
			return true
		}
		if l, ok := c.Args[0].(*ast.BasicLit); ok && strings.Contains(strings.ToLower(l.Value), "failed to") {
			out = append(out, s.line(l.Pos())+": an error that says failed to")
		}
		return true
	})
	return out
}

// undocumented returns the folders of which no Go file has a package comment.
func undocumented(files []*source) (out []string) {
	documented := map[string]bool{}
	for _, s := range files {
		if s.tree == nil || s.isTest() {
			continue
		}
		dir := filepath.ToSlash(filepath.Dir(s.path))
		documented[dir] = documented[dir] || s.tree.Doc != nil
	}
	for dir, ok := range documented {
		if !ok {
			out = append(out, dir+" has no package comment")
		}
	}
	slices.Sort(out)
	return out
}

// sources reads what people wrote: code in Go and C, scripts and documents.
func sources(t *testing.T) (out []*source) {
	t.Helper()
	for _, dir := range folders(t) {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch filepath.Ext(e.Name()) {
			case ".go", ".c", ".h", ".sh", ".md":
			default:
				continue
			}
			path := filepath.ToSlash(filepath.Join(dir, e.Name()))
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			s, err := parse(path, text)
			if err != nil {
				t.Error(err)
				continue
			}
			if s.tree == nil || !ast.IsGenerated(s.tree) {
				out = append(out, s)
			}
		}
	}
	return out
}

// topLevel is what the root of the repository may hold beside entries with a dot: its folders, its
// pages, and what "make build" and "go build" leave there.
var topLevel = []string{
	"bench", "cmd", "deploy", "dns", "docs", "ebpf", "iptables", "ipvs", "proxier",
	"ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "go.mod", "go.sum", "staticcheck.conf",
	"bin", "fairway",
}

// strangers returns the names that do not belong there.
func strangers(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, ".") || slices.Contains(topLevel, name) || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".out")
	})
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) < 10 {
		t.Fatalf("found %q only", names)
	}
	if got := strangers(names); len(got) > 0 {
		t.Errorf("the root of the repository has %q: folders belong below those that are there", got)
	}
	if got := strangers([]string{"dns", ".ci", "internal", "utils.go", "a.test"}); !slices.Equal(got, []string{"internal", "utils.go"}) {
		t.Errorf("of made-up names, %q do not belong there", got)
	}
}

func TestHygiene(t *testing.T) {
	files := sources(t)
	if len(files) < 20 {
		t.Fatalf("found %d files only", len(files))
	}
	for _, s := range files {
		for _, c := range checks {
			for _, fault := range c.run(s) {
				t.Errorf("%s: %s", c.name, fault)
			}
		}
	}
	for _, fault := range undocumented(files) {
		t.Error(fault)
	}
}

// TestHygieneCanFail gives each check a file that has the fault and one that does not.
func TestHygieneCanFail(t *testing.T) {
	for _, c := range checks {
		for _, in := range c.samples {
			for text, want := range map[string]bool{in.bad: true, in.good: false} {
				s, err := parse(in.path, []byte(text))
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				if got := c.run(s); (len(got) > 0) != want {
					t.Errorf("%s: faults %q in %s: %q, want some: %t", c.name, got, in.path, text, want)
				}
			}
		}
	}
	a, _ := parse("a/a.go", []byte("package a\n"))
	b, _ := parse("b/doc.go", []byte("// Package b is.\npackage b\n"))
	b2, _ := parse("b/b.go", []byte("package b\n"))
	if got := undocumented([]*source{a, b, b2}); len(got) != 1 || got[0] != "a has no package comment" {
		t.Errorf("undocumented = %q", got)
	}
}
