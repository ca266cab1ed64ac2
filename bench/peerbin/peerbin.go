// Package peerbin builds the programs that tests and measurements run: kube-proxy and
// kube-apiserver, which are in the nested module bench/peers, CoreDNS, which is in
// bench/peers/coredns, and fairway itself. They are put into .cache/bin at the root of the
// repository.
//
// The first build of the peers takes about 11 minutes on two cores, one of them for CoreDNS;
// afterwards Go's build cache makes it half a second each, so it is simply always run.
package peerbin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Version is the Kubernetes release that bench/peers/go.mod names.
const Version = "1.36.3"

// CoreDNSVersion is the release that bench/peers/coredns/go.mod names.
const CoreDNSVersion = "1.15.0"

// The names of the programs.
const (
	APIServer = "kube-apiserver"
	Proxy     = "kube-proxy"
	CoreDNS   = "coredns"
	Fairway   = "fairway"
)

// Root returns the root of the repository, which the working directory must be in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "bench", "peers", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("peers: the working directory is not in Fairway's repository")
		}
	}
}

// Build brings the named programs up to date and returns the directory that they are in.
// Processes that call it at the same time wait for each other.
func Build(ctx context.Context, names ...string) (dir string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(root, ".cache", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	lock, err := os.Create(filepath.Join(dir, ".peers.lock"))
	if err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	defer lock.Close() // and unlock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("peers: lock %s: %w", lock.Name(), err)
	}
	for _, name := range names {
		if err := build(ctx, root, dir, name); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func build(ctx context.Context, root, dir, name string) error {
	static, path := []string{"CGO_ENABLED=0"}, filepath.Join(dir, name)
	switch name {
	case Fairway:
		return goBuild(ctx, root, static, "-o", path, "./cmd/fairway")
	case CoreDNS: // with the flags of its Makefile.release
		return goBuild(ctx, filepath.Join(root, "bench", "peers", "coredns"), static, "-o", path, "-ldflags", "-s -w", ".")
	}
	if err := buildKubernetes(ctx, root, dir); err != nil {
		return err
	}
	if err := os.Symlink("peers", path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("peers: %w", err)
	}
	return nil
}

func buildKubernetes(ctx context.Context, root, dir string) error {
	const pkg = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(Version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	version := fmt.Sprintf("-s -w -X %sgitVersion=v%s -X %sgitMajor=%s -X %sgitMinor=%s", pkg, Version, pkg, major, pkg, minor)
	return goBuild(ctx, filepath.Join(root, "bench", "peers"), nil, "-o", filepath.Join(dir, "peers"), "-ldflags", version, ".")
}

func goBuild(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w: %s", dir, err, out)
	}
	return nil
}

// Need returns the path of a program for a test. If REQUIRE names the lane peers (apiserver for
// kube-apiserver) or all, the program is built first and the test fails if that fails. Otherwise
// the test is skipped if the program was never built, because the first build of a peer takes so
// long. Fairway itself is always built.
func Need(t testing.TB, name string) string {
	t.Helper()
	lane := "peers"
	if name == APIServer {
		lane = "apiserver"
	}
	if name != Fairway && !Required(lane) {
		root, err := Root()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(root, ".cache", "bin", name)); err != nil {
			t.Skipf("SKIPPED: %s was never built: make peers, or REQUIRE=%s", name, lane)
		}
	}
	dir, err := Build(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Required reports whether the environment variable REQUIRE, a comma-separated list, has the
// lane or all.
func Required(lane string) bool {
	for l := range strings.SplitSeq(os.Getenv("REQUIRE"), ",") {
		if l == lane || l == "all" {
			return true
		}
	}
	return false
}

// NeedProgram returns the path of a program of the machine for a test. Without it, the test fails
// if REQUIRE names the lane peers, and is skipped otherwise.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if Required("peers") {
		t.Fatal(err)
	}
	t.Skipf("SKIPPED: %v", err)
	return ""
}
