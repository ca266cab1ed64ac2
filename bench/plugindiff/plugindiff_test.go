package plugindiff

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const upstream = "127.0.0.2:5300"

var listen = netip.MustParseAddrPort("10.0.0.53:53")

// corefile puts all blocks into one file.
func corefile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	values := map[string]string{"UPSTREAM": upstream}
	for name, text := range files {
		values[name] = filepath.Join(dir, name)
		if err := os.WriteFile(values[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	for _, bl := range blocks {
		fmt.Fprintf(&b, "%s:53 {\nbind %s\n%s\n}\n", bl.name, listen.Addr(), bl.text)
	}
	return nameserver.Expand(b.String(), values)
}

// ask starts a server of a kind and returns its answers to all queries, by query, and the lines that
// the plugin log wrote about them.
func ask(t *testing.T, kind, config string) (map[string]*dnswire.Msg, []string) {
	t.Helper()
	space := nameserver.TestSpace(t, listen.Addr())
	nameserver.TestInternet(t, upstream, space)
	s := nameserver.StartTest(t, nameserver.Options{Kind: kind, Space: space, Addr: listen, Ready: "10.0.0.53:8181", Corefile: config})
	c := nameserver.NewClient(space, listen)
	defer c.Close()
	out := map[string]*dnswire.Msg{}
	for _, b := range blocks {
		for _, q := range b.queries {
			m, proto, err := dnstest.Parse(q)
			if err != nil {
				t.Fatal(err)
			}
			if out[q], err = c.Ask(nameserver.Query{Msg: m, TCP: proto == "tcp"}); err != nil {
				t.Errorf("%s: %s: %v", kind, q, err)
			}
		}
	}
	var lines []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && len(lines) < logged; time.Sleep(10 * time.Millisecond) {
		lines = nil
		for l := range strings.Lines(s.Output()) {
			if _, text, ok := strings.Cut(strings.TrimSpace(l), "[INFO] L: "); ok {
				lines = append(lines, text)
			}
		}
	}
	slices.Sort(lines) // an answer may be out before its line is, and the next query's line before it
	return out, lines
}

// logged is how many lines the block log.test writes.
const logged = 12

// show returns a reply in comparable form.
func show(q string, m *dnswire.Msg) string {
	if m == nil {
		return "nothing"
	}
	a := dnstest.Of(q, m)
	for i, rr := range a.Additional {
		if words := strings.Fields(rr); len(words) == 8 && words[3] == "SRV" && words[7] == "." {
			a.Additional[i] = strings.Join(append(words[:6], "port"), " ") // whoami: the client's
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s %s %s\n", a.Question, a.Rcode, a.Flags)
	for _, s := range []struct {
		name string
		rrs  []string
	}{{"", a.Answer}, {"authority ", a.Authority}, {"additional ", a.Additional}} {
		slices.Sort(s.rrs)
		for _, rr := range s.rrs {
			b.WriteString("  " + s.name + rr + "\n")
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			fmt.Fprintf(&b, "  option %d %s\n", o.Option(), o)
		}
	}
	return b.String()
}

// TestLive asks both servers everything.
func TestLive(t *testing.T) {
	config := corefile(t)
	theirs, theirLog := ask(t, nameserver.CoreDNS, config)
	ours, ourLog := ask(t, nameserver.Fairway, config)
	if diff := cmp.Diff(theirLog, ourLog); diff != "" || len(theirLog) != logged {
		t.Errorf("%d lines of log, which differ (- CoreDNS, + Fairway):\n%s", len(theirLog), diff)
	}
	asked, meant := 0, 0
	for _, b := range blocks {
		for _, q := range b.queries {
			asked++
			a, o := show(q, theirs[q]), show(q, ours[q])
			why, ok := b.meant[q]
			switch {
			case ok:
				meant++
				if a == o {
					t.Errorf("%s: %s: the same, and yet marked %q", b.name, q, why)
				}
			case a != o:
				t.Errorf("%s: %s\n CoreDNS:\n%s Fairway:\n%s", b.name, q, a, o)
			}
		}
	}
	t.Logf("%d queries, %d of them answered differently on purpose", asked, meant)
}
