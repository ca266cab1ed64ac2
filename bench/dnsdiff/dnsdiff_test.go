package dnsdiff

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/nameserver"
)

var (
	seedFlag     = flag.Uint64("seed", 1, "of the random clusters and queries")
	clustersFlag = flag.Int("clusters", 1, "random clusters for each Corefile")
	queriesFlag  = flag.Int("queries", 400, "queries for each cluster")
	oursFlag     = flag.String("ours", nameserver.Fairway, "what to compare with CoreDNS; coredns compares it with itself")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Both resolvers answer every generated query alike, but for the differences that are meant.
func TestLive(t *testing.T) {
	var asked, meant, silent atomic.Int64
	t.Run("setups", func(t *testing.T) {
		for i, setup := range Setups {
			for n := range *clustersFlag {
				t.Run(fmt.Sprintf("%s/%d", setup.Name, n), func(t *testing.T) {
					t.Parallel()
					r := rand.New(rand.NewPCG(*seedFlag, uint64(n*len(Setups)+i)))
					a, m, s := live(t, setup, r)
					asked.Add(int64(a))
					meant.Add(int64(m))
					silent.Add(int64(s))
				})
			}
		}
	})
	t.Logf("%d queries, %d of them answered differently on purpose; %d more that neither answered", asked.Load(), meant.Load(), silent.Load())
	if asked.Load() < 2000 && !t.Failed() {
		t.Error("less than the 2,000 that are promised")
	}
	if silent.Load() > asked.Load()/mostSilent {
		t.Errorf("%d queries have no answer to compare", silent.Load())
	}
}

// mostSilent is among how many queries one may be that neither resolver answers. There are none such
// on a machine that is not busy.
const mostSilent = 200

// live compares under one setup with one random cluster. It returns how many queries were answered,
// how many of them differently on purpose, and how many were not answered by either.
func live(t *testing.T, setup Setup, r *rand.Rand) (asked, meant, silent int) {
	c := NewCluster(r)
	api := listwatch.New()
	if err := api.Set(c.Objects()...); err != nil {
		t.Fatal(err)
	}
	var pods []netip.Addr
	if setup.FromPods {
		pods = c.podAddrs()
	}
	theirs := start(t, nameserver.CoreDNS, api, setup.Corefile, pods)
	ours := start(t, *oursFlag, api, setup.Corefile, pods)
	setup = setup.of(c)
	faults := 0
	for _, q := range c.Queries(r, *queriesFlag, zone, pods) {
		a, err := theirs.Ask(q.Query)
		b, err2 := ours.Ask(q.Query)
		if errors.Join(err, err2) != nil {
			if (err == nil) != (err2 == nil) {
				t.Errorf("%s: CoreDNS: %v, Fairway: %v: %s", q, err, err2, ours.Output())
			}
			t.Logf("%s: CoreDNS: %v, Fairway: %v", q, err, err2)
			silent++
			continue
		}
		asked++
		d := judge(t, setup, q, a, b, theirs, ours)
		switch {
		case d == nil:
		case d.Rule != "":
			meant++
		default:
			if faults++; faults <= 20 {
				t.Error(d)
			}
		}
	}
	if faults > 0 {
		t.Errorf("%d of %d answers differ", faults, asked)
	}
	return asked, meant, silent
}

// judge compares two answers. Where a rule needs to know more, it asks again.
func judge(t *testing.T, setup Setup, q Query, a, b *dnswire.Msg, theirs, ours side) *Difference {
	t.Helper()
	d := setup.compare(q, a, b)
	switch {
	case d == nil:
	case d.Rule == soaNoData && exists(t, theirs, q):
		d.Rule = "" // the rule is for names that do not exist
	case d.Rule == "" && b.Truncated && !q.TCP && q.Msg.Question[0].Qtype == dnswire.TypePTR:
		q.TCP = true
		a, err := theirs.Ask(q.Query)
		b, err2 := ours.Ask(q.Query)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if setup.compare(q, a, b) == nil {
			d.Rule = cutEarlier
		}
	}
	return d
}

// exists asks CoreDNS for another type than that of the query, which tells whether there is the
// name. (Names of the reverse zones exist for it in questions for PTR alone.)
func exists(t *testing.T, theirs side, q Query) bool {
	m, err := theirs.Ask(nameserver.Query{Msg: new(dnswire.Msg).SetQuestion(q.Msg.Question[0].Name, dnswire.TypeA), From: q.From})
	if err != nil {
		t.Fatal(err)
	}
	return m.Rcode != dnswire.RcodeNameError
}
