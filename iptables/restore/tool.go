package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The variants of iptables: the two ways in which the same program talks to the kernel. Their
// rules live side by side and do not see each other.
const (
	NFT    = "nft"
	Legacy = "legacy"
)

// A Tool runs iptables-save and iptables-restore of one variant and address family, in the
// network namespace of the calling thread. It is safe for concurrent use.
type Tool struct {
	v6            bool
	variant       string
	save, restore string        // what to run
	wait          time.Duration // for the lock
}

// An ExitError says that a program ended with a status other than 0.
type ExitError struct {
	Code   int    // -1 if a signal ended it
	Stderr string // what it said, without the version banner
}

// Error returns what the program said.
func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return "exit status " + strconv.Itoa(e.Code)
	}
	return e.Stderr
}

// Refused reports whether the program, or the kernel, found the input wrong: a second try with
// the same input will fail too, unless the tables have changed. Everything else is worth another
// try, such as a lock that another program held for too long.
func (e *ExitError) Refused() bool {
	switch e.Code {
	case 1, 2:
		return true
	case 4: // iptables-nft says so of all that the kernel does not take
		return !strings.Contains(e.Stderr, "xtables lock") && !strings.Contains(e.Stderr, "xtables.lock")
	}
	return false
}

// Find returns the Tool of a variant ("nft" or "legacy"). wait is how long iptables-restore waits
// for the lock that all writers of the legacy variant share; it counts in whole seconds, at
// least one.
func Find(variant string, v6 bool, wait time.Duration) (Tool, error) {
	t := Tool{v6: v6, variant: variant, wait: wait}
	for _, p := range []struct {
		path *string
		name string
	}{{&t.save, "save"}, {&t.restore, "restore"}} {
		path, err := find(t.program(), variant, p.name)
		if err != nil {
			return Tool{}, err
		}
		*p.path = path
	}
	return t, nil
}

func (t Tool) program() string {
	if t.v6 {
		return "ip6tables"
	}
	return "iptables"
}

// find prefers iptables-nft-save; a machine with one variant only may have just iptables-save.
func find(program, variant, action string) (string, error) {
	path, err := exec.LookPath(program + "-" + variant + "-" + action)
	if err == nil {
		return path, nil
	}
	plain, err2 := exec.LookPath(program + "-" + action)
	if err2 != nil {
		return "", err
	}
	version, err2 := exec.Command(plain, "--version").Output()
	if err2 != nil || strings.Contains(string(version), "nf_tables") != (variant == NFT) {
		return "", err
	}
	return plain, nil
}

// Variant returns "nft" or "legacy".
func (t Tool) Variant() string { return t.variant }

// V6 reports whether the tool is for IPv6.
func (t Tool) V6() bool { return t.v6 }

// Save returns one table, or with table "" all of them, as text. Asking iptables-legacy for a
// table creates it if it does not exist.
func (t Tool) Save(ctx context.Context, table string) ([]byte, error) {
	var args []string
	if table != "" {
		args = []string{"-t", table}
	}
	return run(exec.CommandContext(ctx, t.save, args...), nil)
}

// Restore hands the input to iptables-restore --noflush. Each table of the input is one
// transaction: it takes effect as a whole or not at all.
func (t Tool) Restore(ctx context.Context, input []byte) error {
	wait := max(1, int(t.wait.Seconds()))
	_, err := run(exec.CommandContext(ctx, t.restore, "-w", strconv.Itoa(wait), "--noflush"), input)
	return err
}

// Test hands the input to iptables-restore --test: it is parsed and not written.
func (t Tool) Test(ctx context.Context, input []byte) error {
	_, err := run(exec.CommandContext(ctx, t.restore, "--noflush", "--test"), input)
	return err
}

func run(cmd *exec.Cmd, input []byte) ([]byte, error) {
	// If this process is killed, so is the program: it must not write while our successor reads.
	// The kernel watches the thread that starts the program, so that must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, &ExitError{Code: exit.ExitCode(), Stderr: message(stderr.String())}
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return stdout.Bytes(), nil
}

var banner = regexp.MustCompile(`^ip6?tables\S* v\S+ \(\w+\): ?`)

// message drops the version and the advice that iptables puts around its errors, and bounds what
// is left.
func message(stderr string) string {
	var lines []string
	for l := range strings.Lines(stderr) {
		l = banner.ReplaceAllString(strings.TrimSpace(l), "")
		if l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, "Try `") {
			continue
		}
		lines = append(lines, l)
	}
	s := strings.Join(lines, "; ")
	if len(s) > 400 {
		s = s[:400] + " ..."
	}
	return s
}
