package loadbalance

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newBalance(t *testing.T, d corefile.Loadbalance) *Loadbalance {
	t.Helper()
	l, err := New(&d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.number = rand.New(rand.NewPCG(1, 2)).IntN
	return l
}

func give(p plugin.Reply) plugin.Handler {
	return plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply { return p })
}

// firsts counts which address is first in n answers.
func firsts(t *testing.T, h plugin.Handler, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	r := plugintest.Ask(t, "a. A")
	for range n {
		for _, rr := range h.Serve(t.Context(), r).Msg.Answer {
			if rr.Header().Rrtype == dnswire.TypeA {
				out[addr(rr).String()]++
				break
			}
		}
	}
	return out
}

// TestRoundRobin has every address first about as often, with a generator that is always the same.
func TestRoundRobin(t *testing.T) {
	reply := plugintest.Answers(t, 0, "a. 1 IN A 10.0.0.1", "a. 1 IN A 10.0.0.2", "a. 1 IN A 10.0.0.3", "a. 1 IN A 10.0.0.4")
	before := reply.Msg.String()
	got := firsts(t, newBalance(t, corefile.Loadbalance{}).Wrap(give(reply)), 4000)
	for a, n := range got {
		if n < 900 || n > 1100 {
			t.Errorf("%s is first %d times of 4000", a, n)
		}
	}
	if len(got) != 4 {
		t.Errorf("first are %v", got)
	}
	if reply.Msg.String() != before {
		t.Error("the message of another was changed")
	}
}

// TestOrder has aliases first, then the rest, addresses, and mail hosts.
func TestOrder(t *testing.T) {
	reply := plugintest.Answers(t, 0, "m. 1 IN MX 1 m.", "b. 1 IN A 10.0.0.1", "a. 1 IN CNAME c.", "b. 1 IN TXT x", "c. 1 IN CNAME b.")
	got := newBalance(t, corefile.Loadbalance{}).Wrap(give(reply)).Serve(t.Context(), plugintest.Ask(t, "a. A"))
	want := "NOERROR\na. 1 IN CNAME c.\nc. 1 IN CNAME b.\nb. 1 IN TXT \"x\"\nb. 1 IN A 10.0.0.1\nm. 1 IN MX 1 m.\n"
	if diff := cmp.Diff(want, plugintest.Show(got)); diff != "" {
		t.Error(diff)
	}
}

// TestLeftAlone has replies whose order must stay.
func TestLeftAlone(t *testing.T) {
	records := []string{"b. 1 IN A 10.0.0.1", "a. 1 IN CNAME b."}
	for name, reply := range map[string]plugin.Reply{
		"error":      plugintest.Answers(t, dnswire.RcodeNameError, records...),
		"no message": {Rcode: dnswire.RcodeSuccess},
		"transfer": func() plugin.Reply {
			p := plugintest.Answers(t, 0, records...)
			p.Msg.SetAxfr("a.")
			return p
		}(),
	} {
		l := newBalance(t, corefile.Loadbalance{})
		got := plugintest.Show(l.Wrap(give(reply)).Serve(t.Context(), plugintest.Ask(t, "a. A")))
		if diff := cmp.Diff(plugintest.Show(reply), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPrefer(t *testing.T) {
	reply := plugintest.Answers(t, 0, "a. 1 IN A 10.0.0.1", "a. 1 IN A 192.168.1.1", "a. 1 IN A 10.9.20.1", "a. 1 IN AAAA fd00::1", "a. 1 IN A 10.0.0.2")
	l := newBalance(t, corefile.Loadbalance{Prefer: []netip.Prefix{netip.MustParsePrefix("10.9.20.0/24"),
		netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("fd00::/8")}})
	for range 50 {
		var got []string
		for _, rr := range l.Wrap(give(reply)).Serve(t.Context(), plugintest.Ask(t, "a. A")).Msg.Answer[:3] {
			got = append(got, addr(rr).String())
		}
		if diff := cmp.Diff([]string{"10.9.20.1", "192.168.1.1", "fd00::1"}, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

const weightFile = `# weights
WWW.example.com
100.64.1.1 3
100.64.1.2 1

100.64.1.3 2
other.example.com.
100.64.1.1 255
`

func TestWeighted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(path, []byte(weightFile), 0o600); err != nil {
		t.Fatal(err)
	}
	reply := plugintest.Answers(t, 0, "x. 1 IN CNAME www.example.com.", "www.example.com. 1 IN A 100.64.1.1", "www.example.com. 1 IN A 100.64.1.2",
		"www.example.com. 1 IN A 100.64.1.3", "www.example.com. 1 IN A 100.64.1.4")
	got := firsts(t, newBalance(t, corefile.Loadbalance{Weights: path}).Wrap(give(reply)), 7000)
	for a, want := range map[string]int{"100.64.1.1": 3000, "100.64.1.2": 1000, "100.64.1.3": 2000, "100.64.1.4": 1000} {
		if n := got[a]; n < want*9/10 || n > want*11/10 {
			t.Errorf("%s is first %d times, want about %d", a, n, want)
		}
	}
}

func TestReadWeights(t *testing.T) {
	if w, err := readWeights([]byte(weightFile)); err != nil || w["www.example.com."][netip.MustParseAddr("100.64.1.3")] != 2 || len(w) != 2 {
		t.Errorf("%v, %v", w, err)
	}
	for text, want := range map[string]string{
		"10.0.0.1 1\n":        "line 1: no name before",
		"a\n10.0.0.1\n":       "line 2: the address 10.0.0.1 has no weight",
		"a\n10.0.0.1 0\n":     "not a weight",
		"a\n10.0.0.1 256\n":   "not a weight",
		"a\nb 1\n":            "line 2",
		"a\n\n10.0.0.1 1 1\n": "line 3: want a name",
	} {
		if _, err := readWeights([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestWeightsReload has a file that comes late and is then broken.
func TestWeightsReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	if _, err := New(&corefile.Loadbalance{Weights: path}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is read once and not there is accepted")
	}
	synctest.Test(t, func(t *testing.T) {
		l := newBalance(t, corefile.Loadbalance{Weights: path, Reload: 30 * time.Second})
		if err := l.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i, text := range []string{"a\n10.0.0.1 200\n", "broken broken broken\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(31 * time.Second)
			if got := fmt.Sprint(*l.weights.Load()); got != "map[a.:map[10.0.0.1:200]]" {
				t.Errorf("after change %d: %s", i, got)
			}
		}
	})
}
