package proxiertest

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// dumpCommands show a namespace's netfilter. What a machine does not have is left out.
var dumpCommands = [][]string{
	{"iptables-nft-save", "-c"}, {"ip6tables-nft-save", "-c"},
	{"iptables-legacy-save", "-c"}, {"ip6tables-legacy-save", "-c"},
	{"ipset", "save"},
	{"nft", "-a", "list", "ruleset"},
}

// kernelDump returns the netfilter rules and sets of node-1, with counters and handles.
func kernelDump(l *netlab.Lab) (string, error) {
	var b strings.Builder
	err := l.In(netlab.Node1, func() error {
		for _, c := range dumpCommands {
			if _, err := exec.LookPath(c[0]); err != nil {
				continue
			}
			out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, out)
			}
			fmt.Fprintf(&b, "=== %s\n%s", strings.Join(c, " "), out)
		}
		return nil
	})
	return b.String(), err
}

var (
	saveCounters = regexp.MustCompile(`\[\d+:\d+\] ?`)
	nftCounters  = regexp.MustCompile(`packets \d+ bytes \d+`)
	nftHandles   = regexp.MustCompile(` # handle \d+`)
)

// stable removes from a dump what changes without anybody changing the rules: comments, counters
// and handles.
func stable(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = saveCounters.ReplaceAllString(line, "")
		line = nftCounters.ReplaceAllString(line, "packets 0 bytes 0")
		line = nftHandles.ReplaceAllString(line, "")
		b.WriteString(line)
	}
	return b.String()
}

// foreign are rules that a machine has before the subject comes: those of its owner, of the
// kubelet and of a network plug-in. Nobody but who made them may touch them. They let all
// traffic of the scenarios pass: their ports are below those that masquerading chooses from, or
// now and then a reply would meet them.
const (
	foreignRestore = `*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:cali-foreign - [0:0]
-A PREROUTING -m comment --comment "foreign mark" -p tcp --dport 981 -j MARK --set-xmark 0x10000/0x10000
-A FORWARD -j cali-foreign
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:CNI-foreign - [0:0]
-A PREROUTING -m comment --comment "foreign port" -p tcp --dport 980 -j CNI-foreign
-A POSTROUTING -m comment --comment "foreign nat" -p tcp --dport 980 -j CNI-foreign
-A CNI-foreign -m mark --mark 0x2000/0x2000 -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 982 -j CT --notrack
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:foreign - [0:0]
-A INPUT -p tcp -m tcp --dport 983 -m comment --comment "somebody's \"quoted\" words" -j foreign
-A FORWARD -p tcp -m tcp --dport 983 -j foreign
-A OUTPUT -p udp -m udp --dport 983 -j DROP
-A foreign -j DROP
COMMIT
`
	foreignSets = `create foreign hash:ip,port family inet hashsize 1024 maxelem 65536
add foreign 192.0.2.1,tcp:80
`
	foreignNft = `table inet foreign {
	set hosts { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
	chain input { type filter hook input priority 10; policy accept; ip saddr @hosts counter drop; }
}
`
)

// plantForeign puts the foreign rules into node-1.
func plantForeign(l *netlab.Lab) error {
	return l.In(netlab.Node1, func() error {
		for _, c := range []struct {
			stdin string
			args  []string
		}{
			{foreignRestore, []string{"iptables-nft-restore"}}, {foreignRestore, []string{"ip6tables-nft-restore"}},
			{foreignRestore, []string{"iptables-legacy-restore"}}, {foreignRestore, []string{"ip6tables-legacy-restore"}},
			{foreignSets, []string{"ipset", "restore"}},
			{foreignNft, []string{"nft", "-f", "-"}},
		} {
			if _, err := exec.LookPath(c.args[0]); err != nil {
				continue
			}
			cmd := exec.Command(c.args[0], c.args[1:]...)
			cmd.Stdin = strings.NewReader(c.stdin)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("plant foreign rules: %s: %w: %s", c.args[0], err, out)
			}
		}
		return nil
	})
}

// Text writes a snapshot for people, one frontend per line, with a line per origin.
func Text(s *proxier.Snapshot) string {
	if s == nil {
		return "no snapshot\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d, node %+v\n", s.Revision, *s.Node)
	for _, f := range s.Frontends {
		fmt.Fprintf(&b, "%s %s of %s sources=%v affinity=%s\n", f.FrontendKey, f.Kind, f.Owner, f.Sources, f.Affinity)
		for o, r := range f.From {
			fmt.Fprintf(&b, "  from %-7s %v", proxier.Origin(o), r.Pool.Endpoints)
			if len(r.Pool.Endpoints) == 0 {
				fmt.Fprintf(&b, " %s", r.Pool.Empty)
			}
			if r.Masquerade {
				b.WriteString(" masquerade")
			}
			b.WriteByte('\n')
		}
		if f.StandIn != nil {
			fmt.Fprintf(&b, "  stands in  %v\n", f.StandIn.Endpoints)
		}
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	if len(s.HealthPorts) > 0 {
		fmt.Fprintf(&b, "health ports: %v\n", s.HealthPorts)
	}
	return b.String()
}
