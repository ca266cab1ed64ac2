package peerbin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	for _, name := range []string{APIServer, Proxy} {
		out, err := exec.Command(Need(t, name), "--version").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "Kubernetes v"+Version {
			t.Errorf("%s --version: %v, %s", name, err, out)
		}
	}
	out, err := exec.Command(Need(t, CoreDNS), "-version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "CoreDNS-"+CoreDNSVersion+"\n") {
		t.Errorf("coredns -version: %v, %s", err, out)
	}
}

// The version that the programs claim must be the one they are built from.
func TestVersionIsThatOfTheModule(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"bench/peers":         "k8s.io/kubernetes v" + Version + "\n",
		"bench/peers/coredns": "github.com/coredns/coredns v" + CoreDNSVersion + "\n",
	} {
		mod, err := os.ReadFile(filepath.Join(root, dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(mod), want) {
			t.Errorf("%s/go.mod does not require %s", dir, want)
		}
	}
}

func TestRequired(t *testing.T) {
	tests := map[string]bool{"": false, "net": false, "net,peers": true, "all": true, "peersx": false}
	for value, want := range tests {
		t.Setenv("REQUIRE", value)
		if got := Required("peers"); got != want {
			t.Errorf("REQUIRE=%q: %v", value, got)
		}
	}
}
