package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier/netlab"
	"github.com/fairway-lb/fairway/proxier/wait"
)

// startDemo starts "fairway demo" with a folder of its own for temporary files, and returns it
// with its output, line by line.
func startDemo(t *testing.T) (c *exec.Cmd, tmp string, lines <-chan string) {
	t.Helper()
	netlab.Require(t)
	tmp = t.TempDir()
	c = program("demo")
	c.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = c.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that it has a Ctrl-C of its own
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ch := make(chan string, 1000)
	go func() {
		defer close(ch)
		for s := bufio.NewScanner(out); s.Scan(); {
			ch <- s.Text()
		}
	}()
	return c, tmp, ch
}

// checkGone reports what a demo with this process id and folder left behind: namespaces,
// processes, files.
func checkGone(t *testing.T, pid int, tmp string) {
	t.Helper()
	spaces, err := filepath.Glob(fmt.Sprintf("/run/netns/fw%dx*", pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(spaces) > 0 {
		t.Errorf("namespaces left: %v", spaces)
	}
	files, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		t.Errorf("files left: %v", files)
	}
	// Processes of the demo, and their children, have its TMPDIR in their environment. A program that
	// a killed proxy called ends by itself.
	wait.For(t, "processes left", "", func() string {
		environments, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, path := range environments {
			text, err := os.ReadFile(path)
			if err == nil && bytes.Contains(text, []byte("TMPDIR="+tmp)) {
				left = append(left, path)
			}
		}
		return strings.Join(left, " ")
	})
}

// TestDemo: the demo ends with 0 and a table of what it promises, and leaves nothing behind.
func TestDemo(t *testing.T) {
	start := time.Now()
	root := rootRules(t)
	c, tmp, lines := startDemo(t)
	var all []string
	for line := range lines {
		all = append(all, line)
	}
	out := strings.Join(all, "\n")
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("took %v", time.Since(start).Round(time.Millisecond))
	for _, variant := range variants {
		if !strings.Contains(out, "iptables-"+variant+": fairway proxy --manifests ") {
			t.Errorf("no backend iptables-%s", variant)
		}
	}
	kinds, named := map[string]int{}, map[string]int{}
	for _, line := range all {
		if cells := strings.Fields(line); len(cells) > 6 && cells[len(cells)-1] == "ok" {
			kinds[cells[3]]++
			named[cells[0]]++
		}
	}
	for _, kind := range []string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"} {
		if kinds[kind] < 12 { // three origins, two families, two variants
			t.Errorf("%d rows of kind %s", kinds[kind], kind)
		}
	}
	for _, name := range demoNames(demoRows()) {
		if named[name] < 2 { // two variants
			t.Errorf("%d rows with the name %s", named[name], name)
		}
	}
	if want := fmt.Sprintf("All %d rows are as they should be.", 2*(len(demoRows())+1)); !strings.Contains(out, want) {
		t.Errorf("no line %q", want)
	}
	checkGone(t, c.Process.Pid, tmp)
	if after := rootRules(t); after != root {
		t.Errorf("the rules of this machine changed from\n%s\nto\n%s", root, after)
	}
	if t.Failed() {
		t.Log(out)
	}
}

// rootRules returns the rules of the namespace that the test runs in.
func rootRules(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	for _, variant := range variants {
		c := exec.Command("iptables-" + variant + "-save")
		c.Stdout = &out
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
	}
	var rules strings.Builder
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") { // time, counters
			rules.WriteString(line)
		}
	}
	return rules.String()
}

// TestDemoInterrupted: wherever Ctrl-C comes, nothing of the demo is left.
func TestDemoInterrupted(t *testing.T) {
	tests := map[string]func(i int, line string) bool{
		"at its first line":     func(i int, _ string) bool { return i == 0 },
		"as the proxy starts":   func(_ int, line string) bool { return strings.HasPrefix(line, "iptables-nft: ") },
		"at the first results":  func(_ int, line string) bool { return strings.HasSuffix(line, "ok") },
		"at the second backend": func(_ int, line string) bool { return strings.HasPrefix(line, "iptables-legacy: ") },
	}
	for name, now := range tests {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if sig != syscall.SIGINT && name != "as the proxy starts" {
				continue
			}
			t.Run(name+" by "+sig.String(), func(t *testing.T) {
				c, tmp, lines := startDemo(t)
				i, sent := 0, false
				for line := range lines {
					if !sent && now(i, line) {
						sent = true
						// To the whole group, as a terminal does; other signals to the demo alone.
						pid := c.Process.Pid
						if sig == syscall.SIGINT {
							pid = -pid
						}
						if err := syscall.Kill(pid, sig); err != nil {
							t.Fatal(err)
						}
					}
					i++
				}
				if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 1 {
					t.Errorf("the demo ended with %v, want exit code 1 (signal sent: %v)", err, sent)
				}
				checkGone(t, c.Process.Pid, tmp)
			})
		}
	}
}

// TestDemoRowCanFail: a row is right only if the name has exactly the addresses of the Service,
// and the connections went where they should.
func TestDemoRowCanFail(t *testing.T) {
	rows := demoRows()
	web, closed := rows[0], rows[slices.IndexFunc(rows, func(r demoRow) bool { return r.name == "closed" })]
	good := sight{addrs: web.addrs, pods: []string{"a", "b", "f"}, seen: []string{"c"}, connections: 12}
	refused := sight{addrs: closed.addrs, failed: true, failure: netlab.Answer{Verdict: netlab.Refused}, connections: 1}
	tests := []struct {
		name string
		row  demoRow
		edit func(*sight)
		of   sight
		want string
	}{
		{"as it should be", web, func(*sight) {}, good, "ok"},
		{"no address", web, func(s *sight) { s.addrs = nil }, good, "the name has []"},
		{"another address", web, func(s *sight) { s.addrs = []netip.Addr{netip.MustParseAddr("10.96.0.11")} }, good, "the name has [10.96.0.11]"},
		{"one too many", web, func(s *sight) { s.addrs = append(slices.Clone(s.addrs), closed.addrs...) }, good, "the name has [10.96.0.10 10.96.0.13]"},
		{"a pod is missing", web, func(s *sight) { s.pods = s.pods[:2] }, good, "want a b f seen as c"},
		{"masqueraded", web, func(s *sight) { s.seen = []string{"node-1"} }, good, "want a b f seen as c"},
		{"refused", closed, func(*sight) {}, refused, "ok"},
		{"silent", closed, func(s *sight) { s.failure.Verdict = netlab.Silent }, refused, "want refused"},
	}
	for _, tc := range tests {
		s := tc.of
		tc.edit(&s)
		cells := tc.row.cells(s)
		if got := cells[len(cells)-1]; !strings.Contains(got, tc.want) || tc.row.right(s) != (tc.want == "ok") {
			t.Errorf("%s: %s, right %v", tc.name, got, tc.row.right(s))
		}
	}
}

// TestDemoPlan: the plan names every frontend of the manifests, once.
func TestDemoPlan(t *testing.T) {
	n := 4 // kube-dns: UDP and TCP, two families
	for _, p := range demoPlan {
		if p.kind == "Headless" {
			continue
		}
		n++
		if p.both {
			n++
		}
	}
	if n != demoFrontends {
		t.Errorf("%d frontends in the plan, want %s", n, strconv.Itoa(demoFrontends))
	}
}
