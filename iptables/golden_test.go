package iptables_test

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/tools/txtar"

	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/watch"
)

var update = flag.Bool("update", false, "rewrite rules.want in testdata/*.txtar")

// TestGolden compiles the objects of each testdata/*.txtar and compares with its rules.want. Both
// variants of the real tools must understand the rules, and print them as they are.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(ar.Files) != 2 || ar.Files[0].Name != "objects.yaml" || ar.Files[1].Name != "rules.want" {
		t.Fatalf("%s: want objects.yaml and rules.want", file)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "objects.yaml"), ar.Files[0].Data, 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := watch.ReadManifests(watch.ManifestOptions{Dir: dir, NodeName: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	store := watch.NewStore()
	store.Replace(objects)
	r := resolve.New(resolve.Options{
		NodeName: "node-1", IPv4: true, IPv6: true,
		Detect: resolve.Detect{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}},
	})
	s := r.Resolve(store.Inputs())
	for _, p := range s.Problems {
		t.Errorf("problem: %s", p)
	}
	p := iptables.Compile(s, iptables.Options{})
	got := p.String()
	if *update {
		ar.Files[1].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(ar), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(ar.Files[1].Data), got); diff != "" {
		t.Errorf("(-want +got), -update accepts:\n%s", diff)
	}
	printed(t, p)
}

// printed loads a program with the real tools, in a namespace, and reads it back.
func printed(t *testing.T, p iptables.Program) {
	t.Helper()
	netlab.Require(t)
	runtime.LockOSThread() // the namespace ends with the thread
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, variant := range []string{restore.NFT, restore.Legacy} {
		for v6, rules := range map[bool]restore.Ruleset{false: p.IPv4, true: p.IPv6} {
			tool, err := restore.Find(variant, v6, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, try := range []func(context.Context, []byte) error{tool.Test, tool.Restore} {
				if err := try(context.Background(), rules.Append(nil)); err != nil {
					t.Errorf("%s, IPv6 %v: %v", variant, v6, err)
				}
			}
			for _, table := range rules {
				text, err := tool.Save(context.Background(), table.Name)
				if err != nil {
					t.Fatal(err)
				}
				have, err := restore.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range table.Chains {
					if c := have.Table(table.Name).Chain(want.Name); c == nil || !cmp.Equal(strings.Join(c.Rules, "\n"), strings.Join(want.Rules, "\n")) {
						t.Errorf("%s %s, IPv6 %v: %s (-want +got):\n%s", variant, table.Name, v6, want.Name, cmp.Diff(&want, c))
					}
				}
			}
		}
	}
}
