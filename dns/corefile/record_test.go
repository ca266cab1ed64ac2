//go:build record

package corefile

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/bench/peerbin"
)

// TestRecord asks real CoreDNS about every Corefile of testdata/corefiles.txt and writes its
// verdicts to testdata/verdicts.jsonl:
//
//	go test -tags record -run TestRecord ./dns/corefile
func TestRecord(t *testing.T) {
	program := peerbin.Need(t, peerbin.CoreDNS)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, v := range cases(t) {
		v.Accept, v.Msg = ask(t, program, v.Corefile)
		t.Logf("%s: %v %s", v.Name, v.Accept, v.Msg)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("testdata/verdicts.jsonl", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ask runs CoreDNS in a network namespace of its own until it says that it is up, or ends.
func ask(t *testing.T, program, text string) (accept bool, msg string) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "cf.Corefile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one.conf", "two.conf"} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte("errors\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	cmd := exec.Command("sh", "-c", "ip link set lo up && exec "+program+" -conf conf/cf.Corefile")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	file, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(15 * time.Second)
	for {
		select {
		case <-done:
			text, _ := os.ReadFile(file.Name())
			log.Write(text)
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			return false, lines[len(lines)-1]
		case <-deadline:
			cmd.Process.Kill()
			<-done
			t.Fatalf("CoreDNS neither started nor ended:\n%s", text)
		case <-time.After(20 * time.Millisecond):
			text, _ := os.ReadFile(file.Name())
			if bytes.Contains(text, []byte("CoreDNS-")) {
				cmd.Process.Kill()
				<-done
				return true, strings.Join(warnings(string(text)), "\n")
			}
		}
	}
}

// warnings are the lines of a log that CoreDNS marks as such.
func warnings(log string) (out []string) {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "[WARNING]") {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}
