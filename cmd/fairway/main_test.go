package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/deploy/demo"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// TestMain lets the test binary be the program: what the tests start is this code, with the race
// detector if they have it.
func TestMain(m *testing.M) {
	if os.Getenv("FAIRWAY_TEST_MAIN") != "" {
		main()
		os.Exit(0)
	}
	os.Setenv("FAIRWAY_TEST_MAIN", "1")
	goleak.VerifyTestMain(m)
}

// program returns the command "fairway args...", to be run.
func program(args ...string) *exec.Cmd { return exec.Command(os.Args[0], args...) }

// run runs "fairway args..." in the namespace of the test and returns what it wrote and how it
// ended.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c := program(args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// variants are the variants of iptables.
var variants = []string{"nft", "legacy"}

// A stage is a lab with a folder of manifests for a proxy on node-1.
type stage struct {
	*netlab.Lab
	t       *testing.T
	variant string
	dir     string // of the manifests
	socket  string
}

// newStage builds a lab in which the servers of the demo run, and a folder with its manifests.
func newStage(t *testing.T, variant string, morePods ...string) *stage {
	t.Helper()
	l := netlab.New(t, netlab.Options{Pods: append([]string{"a", "b", demoClient, "f"}, morePods...)})
	if err := serveDemo(l); err != nil {
		t.Fatal(err)
	}
	s := &stage{Lab: l, t: t, variant: variant, dir: filepath.Join(t.TempDir(), "manifests"), socket: filepath.Join(t.TempDir(), "f.sock")}
	if err := os.CopyFS(s.dir, demo.Manifests); err != nil {
		t.Fatal(err)
	}
	return s
}

// flags are those of a proxy on node-1.
func (s *stage) flags(more ...string) []string {
	return append([]string{"--manifests", s.dir, "--hostname-override", netlab.Node1, "--cluster-cidr",
		"10.244.0.0/16,fd00:244::/32", "--iptables-variant", s.variant, "--conntrack-max-per-core", "0"}, more...)
}

// start starts a proxy on node-1 and waits until it has programmed the manifests. It is killed
// when the test ends; its log is shown if the test failed.
func (s *stage) start(more ...string) *agent {
	s.t.Helper()
	a := s.startUnready(more...)
	if err := a.ready(s.t.Context(), demoFrontends); err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *stage) startUnready(more ...string) *agent {
	s.t.Helper()
	a, err := startAgent(s.Lab, netlab.Node1, s.socket, s.flags(more...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		a.kill()
		if s.t.Failed() {
			s.t.Logf("log of the proxy:\n%s", a.logged())
		}
	})
	return a
}

// on runs a program on node-1 and returns what it printed.
func (s *stage) on(name string, args ...string) string {
	s.t.Helper()
	out, err := runIn(s.t.Context(), s.Lab, netlab.Node1, name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// rules returns all rules of node-1.
func (s *stage) rules() string {
	s.t.Helper()
	out, err := rulesOf(s.t.Context(), s.Lab, s.variant)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// write puts a file into the folder of manifests, in one step.
func (s *stage) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// reached returns the names of the pods that n connections reach, sorted; "refused" or "silent"
// if one reaches nobody.
func (s *stage) reached(from, to string, n int) string {
	s.t.Helper()
	var names []string
	for _, a := range s.Probes(netlab.Probe{From: from, To: netip.MustParseAddrPort(to), Protocol: proxier.TCP, Wait: 2 * time.Second}, n) {
		if a.Verdict != netlab.Reached {
			return a.Verdict.String()
		}
		names = add(names, a.Name)
	}
	return strings.Join(names, " ")
}

// eventually waits until f returns what is wanted.
func (s *stage) eventually(what, want string, f func() string) {
	s.t.Helper()
	wait.For(s.t, what, want, f)
}

// httpGet asks for a path at an address, from a namespace.
func (s *stage) httpGet(from, addr, path string) (code int, body string) {
	s.t.Helper()
	err := s.In(from, func() error {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		code, body = resp.StatusCode, string(text)
		return err
	})
	if err != nil {
		s.t.Fatalf("GET %s%s from %s: %v", addr, path, from, err)
	}
	return code, body
}

// spy puts a folder before PATH in which the program of that name writes a line per call before
// it does its work. The function returns the number of calls so far.
func spy(t *testing.T, names ...string) (calls func() int) {
	t.Helper()
	dir := t.TempDir()
	record := filepath.Join(dir, "calls")
	for _, name := range names {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\necho %s >> %s\nexec %s \"$@\"\n", name, record, real)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		text, err := os.ReadFile(record)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
}

// within returns a context that ends soon enough to tell a hang from work.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
