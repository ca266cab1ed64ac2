package corefile

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDifferences keeps the page of differences and the list of plugins in step.
func TestDifferences(t *testing.T) {
	page, err := os.ReadFile("../../docs/dns-differences.md")
	if err != nil {
		t.Fatal(err)
	}
	row := ""
	for line := range strings.Lines(string(page)) {
		if strings.Contains(line, "exists in CoreDNS and is not supported") {
			row = line
		}
	}
	names := strings.Split(strings.Trim(strings.Split(row+"||", "|")[1], " "), ", ")
	want := []string{}
	for name := range unsupported {
		want = append(want, name)
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the page has %q\nthe code has %q", names, want)
	}
	for name := range parsers {
		if !slices.Contains(order, name) || unsupported[name] != "" {
			t.Errorf("%s has a parser and no place in the order of plugins", name)
		}
	}
	for _, name := range order {
		if parsers[name] == nil {
			t.Errorf("%s has no parser", name)
		}
	}
}
