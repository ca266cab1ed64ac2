package dnsbench

import (
	"fmt"
	"strings"

	"github.com/fairway-lb/fairway/bench/nameserver"
)

// A Mix is a kind of load: what is asked, in the form that dnsperf reads, and how much of it the
// slowest subject can answer on a busy machine.
type Mix struct {
	Name string
	EDNS bool
	// Load is the fixed load at which latency is measured, in queries a second.
	Load int
	// Cached is set if the names are outside of the cluster: a subject is asked for all of them
	// before it is measured, and a subject that only has a zone file cannot be.
	Cached  bool
	Queries string
}

// known reports whether a subject can answer: one that only has a zone file cannot ask an upstream.
func (m Mix) known(subject string) bool { return !m.Cached || subject != nameserver.NSD }

// mixes are the loads for a cluster.
func (c cluster) mixes() []Mix {
	var a, nx, srv, out, search strings.Builder
	for i := range 1000 {
		host := fmt.Sprintf("host-%d.example.com", i%500)
		fmt.Fprintf(&a, "svc-%05d.%s.svc.%s A\n", i%c.services, space(i%c.services), domain)
		fmt.Fprintf(&nx, "%s.%s.svc.%s A\n", host, space(i), domain)
		fmt.Fprintf(&srv, "_http._tcp.set-%05d.%s.svc.%s SRV\n", i%c.sets, space(i%c.sets), domain)
		fmt.Fprintf(&out, "%s A\n", host)
		// What a pod with ndots:5 sends for one name outside of the cluster.
		for _, suffix := range []string{"." + space(i) + ".svc." + domain, ".svc." + domain, "." + domain, ""} {
			fmt.Fprintf(&search, "%[1]s%[2]s A\n%[1]s%[2]s AAAA\n", host, suffix)
		}
	}
	big := "big.team-0.svc." + domain + " A\n"
	return []Mix{
		{Name: "cluster A", Load: 4000, Queries: a.String()},
		{Name: "NXDOMAIN", Load: 4000, Queries: nx.String()},
		{Name: "SRV, 3 endpoints", Load: 4000, Queries: srv.String()},
		{Name: "headless, 200 endpoints", Load: 400, Queries: big},
		{Name: "headless, 200 endpoints, EDNS", Load: 400, EDNS: true, Queries: big},
		{Name: "external, cached", Load: 4000, Cached: true, Queries: out.String()},
		{Name: "search list", Load: 4000, Cached: true, Queries: search.String()},
	}
}
