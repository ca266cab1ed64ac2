package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// program makes a program that prints a line if it is called with the argument, and else fails.
func program(t *testing.T, path, arg, line string) {
	t.Helper()
	text := "#!/bin/sh\n[ \"$*\" = \"" + arg + "\" ] && echo '" + line + "'\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("git", args...)
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestThis: the hardware and the kernel are this machine's, the versions those of the programs that
// would be measured, and empty where there is none.
func TestThis(t *testing.T) {
	bin, peers := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	program(t, filepath.Join(bin, "iptables"), "--version", "iptables v9.9 (nf_tables)")
	program(t, filepath.Join(bin, "nft"), "--version", "nftables v9.8")
	program(t, filepath.Join(peers, "kube-proxy"), "--version", "Kubernetes v9.7")
	t.Chdir(t.TempDir()) // no repository
	t.Setenv("GIT_CEILING_DIRECTORIES", "/")

	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		t.Fatal(err)
	}
	got := This(peers)
	if got.CPU == "" && runtime.GOARCH == "amd64" {
		t.Error("the processor has no name")
	}
	got.CPU = ""
	want := Machine{Cores: runtime.NumCPU(), Kernel: unix.ByteSliceToString(kernel.Release[:]), Versions: map[string]string{
		"go": runtime.Version(), "iptables": "iptables v9.9 (nf_tables)", "nft": "nftables v9.8", "kube-proxy": "Kubernetes v9.7", "fairway": ""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := This(t.TempDir()).Versions["kube-proxy"]; v != "" {
		t.Errorf("kube-proxy, which is not there, is %q", v)
	}
}

// TestVersion: what is measured is called by its commit, and dirty if it is not what was committed; new
// results and pages do not count, or no full run would be clean.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	git(t, "init", "-q")
	write(t, "a.go")
	git(t, "add", ".")
	git(t, "commit", "-q", "-m", "first")
	git(t, "tag", "-a", "-m", "first", "v1")
	version := func() string { return This(t.TempDir()).Versions["fairway"] }
	write(t, "docs/page.md")
	write(t, "bench/results/a.json")
	if got := version(); got != "v1" {
		t.Errorf("as committed: %q", got)
	}
	write(t, "bench/main.go")
	if got := version(); got != "v1-dirty" {
		t.Errorf("with another file: %q", got)
	}
}
