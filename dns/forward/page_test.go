package forward

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPage: the tests that docs/dns-security.md names exist.
func TestSecurityPage(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(filepath.Join(root, "docs/dns-security.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(Test|Fuzz)\w+`)
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[len(cells)-2], "Test") && !strings.Contains(cells[len(cells)-2], "Fuzz") {
			continue
		}
		rows++
		for part := range strings.SplitSeq(cells[len(cells)-2], ";") {
			folder, list, _ := strings.Cut(strings.TrimSpace(part), " ")
			for _, name := range names.FindAllString(list, -1) {
				if !has(t, filepath.Join(root, folder), name) {
					t.Errorf("%s has no %s", folder, name)
				}
			}
		}
	}
	if rows < 10 {
		t.Errorf("only %d rows", rows)
	}
}

// has reports whether a folder has a test of that name.
func has(t *testing.T, folder, name string) bool {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
