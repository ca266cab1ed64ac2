package server

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dns/corefile"
)

// TestRecordedVerdicts: a Corefile that CoreDNS takes can be made into a server, and one that it
// refuses cannot, be it for the Corefile or for what a plugin makes of it. What is refused as
// unsupported is on the page of differences.
func TestRecordedVerdicts(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.conf"), []byte("errors\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	late, seen := 0, 0
	for _, path := range []string{"../testdata/coredns/corefiles.jsonl", "../corefile/testdata/verdicts.jsonl"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var v struct {
				Name, Corefile, Msg string
				Accept              bool
			}
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			seen++
			cfg, err := corefile.Parse(filepath.Join(dir, "Corefile"), []byte(v.Corefile), corefile.Options{})
			if err == nil {
				if err = Check(cfg, slog.New(slog.DiscardHandler)); err != nil {
					late++
					if !strings.Contains(err.Error(), "Corefile:") {
						t.Errorf("%s: %q has no place", v.Name, err)
					}
				}
			}
			unsupported := err != nil && strings.Contains(err.Error(), "not supported")
			if v.Accept && err != nil && !unsupported {
				t.Errorf("%s: refused: %v", v.Name, err)
			}
			if !v.Accept && err == nil {
				t.Errorf("%s: accepted; CoreDNS: %s", v.Name, v.Msg)
			}
		}
	}
	if seen < 500 || late < 2 {
		t.Errorf("%d verdicts, %d of them by plugins", seen, late)
	}
}
