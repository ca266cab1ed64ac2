package suite

import (
	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/stage"
)

// What the report's headlines and pictures are of.
const (
	lastService = "pod to the last Service"
	connectP50  = datapath.Connect50
)

var (
	namesCPU     = withUnit(dnsbench.PeakCPU.Name, dnsbench.PeakCPU.Unit)
	namesOneCore = withUnit(dnsbench.OneCore.Name, dnsbench.OneCore.Unit)
	namesP99     = withUnit(dnsbench.P99.Name, dnsbench.P99.Unit)
	namesMemory  = withUnit(dnsbench.SizeMeasures[1].Name, dnsbench.SizeMeasures[1].Unit)
	fairwayDNS   = dnsbench.Title(nameserver.Fairway)
)

// ours are the proxies that are Fairway's.
var ours = func() (out []string) {
	for _, s := range stage.Proxies {
		if s.Peer != "" {
			out = append(out, s.Name)
		}
	}
	return out
}()

const programmingMethod = `
Every subject runs alone, with its default flags, on the same objects of Services with five
endpoints each, from a list/watch server of the benchmark's own, whose speed hides nobody's; they
take turns. *First sync* is from the start of the process until packets to Services all over the
range are answered; after it, every Service is tried, and works. *One change* is from the server's
event that gives the one endpoint of a Service a new address until a packet reaches it (polled
every millisecond), with a pause of two seconds between changes; of the few changes of a run, p99 is about
the slowest. CPU time, *user* and *kernel*, and
system calls are those of the agent and of all the tools that it runs, counted by their control
group; what the kernel does later in threads of its own is not in them. *In the kernel* is the size
of the tables (iptables-legacy), or of the netlink dump of all chains, rules, sets and elements (the
others): only like can be compared with like. *Memory* is the resident memory of the agent at the end, or,
of one that was over its limit, when it was ended. *Rolling update*: 100 changes of one endpoint,
one every 20 ms. *100 changes/s*: all over the cluster, with connections all the while: *lag* is how far behind the last change packets are, *failed* are connections that
were not made within 1.5 s. Both are measured once for each subject. Figures are medians, of
failures sums.
`

const dataMethod = `
All subjects are up at once, each in namespaces of its own, and are measured in turns of a quarter
of a second; ratios are taken within a round. Client and server are one thread each, bound to one
processor each, with blocking calls; connections end with a reset, so that no state piles up.
Figures are medians over the rounds (of losses and failures, sums); in brackets are the times over
the direct connection, straight to an endpoint, with the 95 % interval. No figure is that of a
network: everything is on one machine, and what counts are ratios.
`
