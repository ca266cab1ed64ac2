package corefile

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: no text makes the loader panic, or go on without end; what it accepts has keys and
// plugins in order, and parses to the same again.
func FuzzParse(f *testing.F) {
	for _, v := range append(recorded(f, "../testdata/coredns/corefiles.jsonl"), recorded(f, "testdata/verdicts.jsonl")...) {
		f.Add([]byte(v.Corefile))
	}
	place := map[string]int{}
	for i, name := range order {
		place[name] = i
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.conf"), []byte("errors\nimport two.conf\n"), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "two.conf"), []byte("(s) {\nlog\n}\n"), 0o644); err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(dir, "Corefile")
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(name, text, Options{})
		if _, all := Parse(name, text, Options{AllFaults: true}); (all == nil) != (err == nil) {
			t.Fatalf("first fault %v, all faults %v", err, all)
		}
		if err != nil {
			return
		}
		again, err := Parse(name, text, Options{})
		if err != nil || again.Hash != c.Hash || len(again.Blocks) != len(c.Blocks) {
			t.Fatalf("second time: %v", err)
		}
		for i, b := range c.Blocks {
			if len(b.Keys) == 0 {
				t.Fatalf("block %d has no key", i)
			}
			last := 0
			for j, d := range b.Plugins {
				if place[d.Plugin()] < last {
					t.Fatalf("%s is out of order", d.Plugin())
				}
				last = place[d.Plugin()]
				if !Equal(d, again.Blocks[i].Plugins[j]) {
					t.Fatalf("%s differs the second time", d.Plugin())
				}
			}
		}
	})
}
