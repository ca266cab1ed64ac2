package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// logBuffer is a log that tests can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// follow runs Manifests on dir until the test ends.
func follow(t *testing.T, dir string) (*Store, *logBuffer) {
	t.Helper()
	return followSettled(t, dir, 20*time.Millisecond)
}

func followSettled(t *testing.T, dir string, settle time.Duration) (*Store, *logBuffer) {
	t.Helper()
	store, log := NewStore(), &logBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Manifests(ctx, store, ManifestOptions{Dir: dir, NodeName: "node-1", Settle: settle,
			Rescan: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Manifests: %v", err)
		}
	})
	select {
	case <-store.Synced():
	case err := <-done:
		done <- nil
		t.Fatalf("Manifests ended: %v", err)
	}
	return store, log
}

// addresses returns name=clusterIP of every Service, sorted.
func addresses(s *Store) string {
	var out []string
	for _, g := range s.Inputs().Groups {
		if g.Service != nil {
			out = append(out, g.Name.Name+"="+g.Service.Spec.ClusterIP)
		}
	}
	return strings.Join(out, " ")
}

func reasons(s *Store) string {
	var out []string
	for _, p := range s.Problems() {
		out = append(out, p.Kind+"/"+p.Reason)
	}
	return strings.Join(out, " ")
}

func wantState(t *testing.T, s *Store, wantAddresses, wantReasons string) {
	t.Helper()
	wait.For(t, "what is wrong", "", func() string {
		return cmp.Diff([]string{wantAddresses, wantReasons}, []string{addresses(s), reasons(s)})
	})
}

func service(name, ip string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: %s, ports: [{port: 80}]}\n---\n", name, ip)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, dir, name, text string) {
	t.Helper()
	write(t, dir, ".new", text)
	rename(t, filepath.Join(dir, ".new"), filepath.Join(dir, name))
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func TestManifestsFollowsFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service("a", "10.96.0.1"))
	write(t, dir, ".hidden.yaml", service("h", "10.96.0.2"))
	write(t, dir, "README.md", "not a manifest: [")
	if err := os.Mkdir(filepath.Join(dir, "sub.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, log := follow(t, dir)
	wantState(t, s, "a=10.96.0.1", "")

	write(t, dir, "b.yml", service("b", "10.96.0.3")) // a new file
	wantState(t, s, "a=10.96.0.1 b=10.96.0.3", "")
	replace(t, dir, "b.yml", service("b", "10.96.0.4")) // atomic rename, same size
	wantState(t, s, "a=10.96.0.1 b=10.96.0.4", "")
	write(t, dir, "b.yml", service("b", "10.96.0.5")) // in place, same size
	wantState(t, s, "a=10.96.0.1 b=10.96.0.5", "")

	// A bad file keeps its last good state, others go on; then it is repaired.
	write(t, dir, "b.yml", service("b", "10.96.0.6")+"apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: 5}\n")
	write(t, dir, "a.yaml", service("a", "10.96.0.7"))
	wantState(t, s, "a=10.96.0.7 b=10.96.0.5", "Manifest/InvalidManifest")
	want := []proxier.Problem{{Kind: "Manifest", Object: proxier.NamespacedName{Namespace: dir, Name: "b.yml"}, Reason: "InvalidManifest",
		Message: "b.yml:9: spec.ports: want a list, found 5; the last good state of the file stays in force"}}
	if diff := cmp.Diff(want, s.Problems()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if n := strings.Count(log.String(), "b.yml:9: spec.ports"); n != 1 {
		t.Errorf("the error was logged %d times:\n%s", n, log)
	}
	write(t, dir, "b.yml", service("b", "10.96.0.6"))
	wantState(t, s, "a=10.96.0.7 b=10.96.0.6", "")

	// A file that is bad from the start has no good state.
	write(t, dir, "c.json", `{"kind": `)
	wantState(t, s, "a=10.96.0.7 b=10.96.0.6", "Manifest/InvalidManifest")
	if err := os.Remove(filepath.Join(dir, "c.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, "b=10.96.0.6", "")
}

// The first file by name wins, and its successor takes over when it goes.
func TestManifestsDuplicates(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "20.yaml", service("a", "10.96.0.20"))
	write(t, dir, "10.yaml", service("x", "10.96.0.1")+service("a", "10.96.0.10"))
	s, _ := follow(t, dir)
	wantState(t, s, "a=10.96.0.10 x=10.96.0.1", "Service/DuplicateObject")
	if got, want := s.Problems()[0].Message, "also defined at 20.yaml:1; the one at 10.yaml:6 counts"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if err := os.Remove(filepath.Join(dir, "10.yaml")); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, "a=10.96.0.20", "")
}

// Kubernetes updates a ConfigMap volume by swapping the symlink ..data.
func TestManifestsConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, ip string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), "web.yaml", service("a", ip))
		symlink(t, name, filepath.Join(dir, "..data_tmp"))
		rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	}
	version("..2026_1", "10.96.0.1")
	symlink(t, "..data/web.yaml", filepath.Join(dir, "web.yaml"))
	s, _ := follow(t, dir)
	wantState(t, s, "a=10.96.0.1", "")
	version("..2026_2", "10.96.0.2")
	wantState(t, s, "a=10.96.0.2", "")
}

func TestManifestsFolderGoneAndReplaced(t *testing.T) {
	parent := t.TempDir()
	dir, other := filepath.Join(parent, "live"), filepath.Join(parent, "next")
	for i, d := range []string{dir, other} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, d, "a.yaml", service("a", fmt.Sprintf("10.96.0.%d", i+1)))
	}
	s, _ := follow(t, dir)
	wantState(t, s, "a=10.96.0.1", "")
	rename(t, dir, filepath.Join(parent, "old"))
	wantState(t, s, "a=10.96.0.1", "Manifest/UnreadableFolder")
	rename(t, other, dir)
	wantState(t, s, "a=10.96.0.2", "")
	write(t, dir, "a.yaml", service("a", "10.96.0.3"))
	wantState(t, s, "a=10.96.0.3", "")
}

// A writer that is slow within a file is not read half-way.
func TestManifestsPartialWrite(t *testing.T) {
	for deadline := time.Now().Add(wait.Patience); ; {
		const settle = 400 * time.Millisecond
		got, took := partialWrite(t, settle)
		if took < settle {
			if want := "a=10.96.0.9 b=10.96.0.2"; got != want {
				t.Errorf("the first change gave %q, want %q", got, want)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no writer was quicker than %v", settle)
		}
	}
}

// partialWrite writes a file in small parts, and returns what the first change gave and how long the
// writer took: on a busy machine it may pause for longer than a file takes to settle.
func partialWrite(t *testing.T, settle time.Duration) (first string, took time.Duration) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service("a", "10.96.0.1")+service("b", "10.96.0.2"))
	s, _ := followSettled(t, dir, settle)
	changed := s.Changed()
	began := time.Now()
	f, err := os.Create(filepath.Join(dir, "a.yaml")) // truncates
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range strings.SplitAfter(service("a", "10.96.0.9")+service("b", "10.96.0.2"), "\n") {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took = time.Since(began)
	<-changed
	return addresses(s), took
}

func TestManifestsNode(t *testing.T) {
	dir := t.TempDir()
	node := func(name, zone string) string {
		return "apiVersion: v1\nkind: Node\nmetadata: {name: " + name + ", labels: {topology.kubernetes.io/zone: " + zone + "}}\n---\n"
	}
	write(t, dir, "nodes.yaml", node("node-1", "a")+node("node-2", "b"))
	s, _ := follow(t, dir)
	if n := s.Inputs().Node; n == nil || n.Name != "node-1" || n.Labels["topology.kubernetes.io/zone"] != "a" {
		t.Errorf("node %v", n)
	}
	write(t, dir, "nodes.yaml", node("node-2", "b"))
	wait.For(t, "what is wrong", "", func() string {
		if n := s.Inputs().Node; n != nil {
			return "node " + n.Name
		}
		return ""
	})
}

func TestManifestsNoFolder(t *testing.T) {
	err := Manifests(context.Background(), NewStore(), ManifestOptions{Dir: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service("a", "10.96.0.1"))
	write(t, dir, "b.yaml", "kind: Service\n")
	objects, err := ReadManifests(ManifestOptions{Dir: dir})
	if len(objects.Services) != 1 || objects.Services[0].Name != "a" {
		t.Errorf("services %v", objects.Services)
	}
	if want := `b.yaml:1: apiVersion: want v1, found ""`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// A pipe would block whoever reads it.
func TestManifestsPipe(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	symlink(t, "nowhere", filepath.Join(dir, "dangling.yaml"))
	write(t, dir, "a.yaml", service("a", "10.96.0.1"))
	s, _ := follow(t, dir)
	wantState(t, s, "a=10.96.0.1", "Manifest/InvalidManifest")
	if got, want := s.Problems()[0].Message, "pipe.yaml: not a regular file; the last good state of the file stays in force"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}
