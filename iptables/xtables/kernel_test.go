package xtables

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// inNamespace runs the rest of the test in a network namespace of its own, and with a lock of its
// own: other tests work in other namespaces, but with the machine's lock.
func inNamespace(t *testing.T) {
	t.Helper()
	netlab.Require(t)
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	runtime.LockOSThread() // the thread ends with the test's goroutine, and the namespace with it
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
}

// foreign are rules of all sorts around two chains, with counters. Those of policies are zero: the
// tool forgets them at every change.
var foreign = map[bool]string{
	false: `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:AAA - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SVC-B - [0:0]
:ZZZ - [0:0]
[1:10] -A PREROUTING -m comment --comment "first" -j AAA
[2:20] -A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -g KUBE-SVC-A
[3:30] -A PREROUTING -i eth+
[4:40] -A OUTPUT -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A
[5:50] -A OUTPUT -p udp -m multiport --dports 53,5353 -m limit --limit 5/min -j ZZZ
[6:60] -A POSTROUTING -s 10.0.0.0/8 ! -o lo -j MASQUERADE --random-fully
[7:70] -A AAA
[8:80] -A AAA -m mark --mark 0x1/0xff -g ZZZ
[9:90] -A AAA -j KUBE-SVC-B
[10:100] -A ZZZ -p icmp -j RETURN
[11:110] -A ZZZ -j KUBE-SVC-B
`,
	true: `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:AAA - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SVC-B - [0:0]
:ZZZ - [0:0]
[1:10] -A PREROUTING -m comment --comment "first" -j AAA
[2:20] -A PREROUTING -d fd00:96::1/128 -p tcp -m tcp --dport 80 -g KUBE-SVC-A
[3:30] -A OUTPUT -d fd00:96::1/128 -p tcp -m tcp --dport 80 -j KUBE-SVC-A
[4:40] -A OUTPUT -p udp -m multiport --dports 53,5353 -m limit --limit 5/min -j ZZZ
[5:50] -A POSTROUTING -s fd00::/8 ! -o lo -j MASQUERADE --random-fully
[6:60] -A AAA
[7:70] -A AAA -m mark --mark 0x1/0xff -g ZZZ
[8:80] -A AAA -j KUBE-SVC-B
[9:90] -A ZZZ -j KUBE-SVC-B
`}

// ruleset returns a table with two pools among foreign rules, for iptables-restore --counters.
func ruleset(v6 bool, a, b []string) string {
	var out strings.Builder
	out.WriteString(foreign[v6])
	for chain, rules := range map[string][]string{"A": a, "B": b} {
		for i, r := range rules {
			fmt.Fprintf(&out, "[%d:%d] -A KUBE-SVC-%s %s\n", 100+i, 1000+i, chain, r)
		}
	}
	return out.String() + "COMMIT\n"
}

func command(t interface{ Fatal(...any) }, stdin, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(name, args, err, string(out), stdin)
	}
	return string(out)
}

func program(v6 bool) string {
	if v6 {
		return "ip6tables-legacy"
	}
	return "iptables-legacy"
}

// raw returns the table as the kernel shows it.
func raw(t interface{ Fatal(...any) }, v6 bool) *table {
	f := families[v6]
	fd, err := unix.Socket(f.domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoEnd)
	copy(info, "nat")
	if err := f.get(fd, soInfo, info); err != nil {
		t.Fatal(err)
	}
	out, size := tableOf(f.layout, info)
	b := make([]byte, entriesStart+size)
	copy(b, "nat")
	order.PutUint32(b[entriesSize:], uint32(size))
	if err := f.get(fd, soEntries, b); err != nil {
		t.Fatal(err)
	}
	out.entries = b[entriesStart:]
	return out
}

// TestRewriteIsRestore: the kernel holds the same bytes after Rewrite as after iptables-restore, the
// counters of all other rules included.
func TestRewriteIsRestore(t *testing.T) {
	inNamespace(t)
	type change struct {
		v6               bool
		a, b, newA, newB []string
	}
	changes := rapid.Custom(func(t *rapid.T) change {
		v6 := rapid.Bool().Draw(t, "IPv6")
		return change{v6, drawPool(t, v6), drawPool(t, v6), drawPool(t, v6), drawPool(t, v6)}
	})
	for i := range 20 {
		c := changes.Example(i)
		start := ruleset(c.v6, c.a, c.b)
		edits := []Edit{{"KUBE-SVC-B", c.b, c.newB}, {"KUBE-SVC-A", c.a, c.newA}}[i%2:]
		script := "*nat\n"
		for _, e := range edits {
			script += ":" + e.Chain + " - [0:0]\n"
			for _, r := range e.Want {
				script += "-A " + e.Chain + " " + r + "\n"
			}
		}

		command(t, start, program(c.v6)+"-restore", "--counters")
		if err := Rewrite("nat", c.v6, edits); err != nil {
			t.Fatal(err, "\n", start)
		}
		got, saved := raw(t, c.v6), command(t, "", program(c.v6)+"-save", "-c", "-t", "nat")

		command(t, start, program(c.v6)+"-restore", "--counters")
		command(t, script+"COMMIT\n", program(c.v6)+"-restore", "--noflush")
		want := raw(t, c.v6)
		if diff := difference(want, got); diff != "" {
			t.Fatalf("(-restore +rewrite):\n%s\n%s", diff, saved)
		}
	}
}

// TestRewriteRefuses: if the chain is not what the caller believes, or somebody works on the
// tables, nothing changes.
func TestRewriteRefuses(t *testing.T) {
	inNamespace(t)
	for _, v6 := range []bool{false, true} {
		pool := []string{"-p tcp -j DNAT --to-destination 10.244.0.1:8080"}
		if v6 {
			pool = []string{"-p tcp -j DNAT --to-destination [fd00:244::1]:8080"}
		}
		edit := []Edit{{"KUBE-SVC-A", pool, nil}}
		if err := Rewrite("nowhere", v6, edit); err == nil || !strings.Contains(err.Error(), "rewrite table nowhere: get info") {
			t.Errorf("error %v", err)
		}
		command(t, ruleset(v6, pool, nil), program(v6)+"-restore")
		command(t, "", program(v6), "-t", "nat", "-I", "KUBE-SVC-A", "-j", "RETURN")
		before := raw(t, v6)
		unchanged := func(want string) {
			t.Helper()
			if err := Rewrite("nat", v6, edit); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
			if diff := cmp.Diff(before.entries, raw(t, v6).entries); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
		}
		unchanged("chain KUBE-SVC-A is not what it is taken for")
		command(t, "", program(v6), "-t", "nat", "-D", "KUBE-SVC-A", "1")
		before = raw(t, v6)
		unlock, err := lock()
		if err != nil {
			t.Fatal(err)
		}
		unchanged("lock " + os.Getenv("XTABLES_LOCKFILE") + ": " + ErrBusy.Error())
		unlock()
		if err := Rewrite("nat", v6, edit); err != nil {
			t.Error(err)
		}
	}
}

// TestLock: the lock is the one that iptables takes.
func TestLock(t *testing.T) {
	inNamespace(t)
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	tool, err := restore.Find(restore.Legacy, false, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.Restore(context.Background(), []byte("*nat\nCOMMIT\n")); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("iptables-restore beside us: %v", err)
	}
}
