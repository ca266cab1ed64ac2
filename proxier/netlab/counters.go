package netlab

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// snmp reads the kernel's counters of the calling thread's namespace, as "Tcp.InSegs" and
// "Icmp6InDestUnreachs". What cannot be read is missing.
func snmp() map[string]uint64 {
	out := map[string]uint64{}
	text, _ := os.ReadFile("/proc/thread-self/net/snmp")
	var names []string // pairs of lines: names, then values
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < min(len(f), len(names)); i++ {
			n, _ := strconv.ParseUint(f[i], 10, 64)
			out[strings.TrimSuffix(f[0], ":")+"."+names[i]] = n
		}
		names = nil
	}
	text, _ = os.ReadFile("/proc/thread-self/net/snmp6")
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) == 2 {
			out[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return out
}

// unreachables is how many ICMP unreachable messages the calling thread's namespace got.
func unreachables() uint64 {
	c := snmp()
	return c["Icmp.InDestUnreachs"] + c["Icmp6InDestUnreachs"]
}

// Arrivals is how many TCP segments, UDP datagrams and SCTP INITs have been delivered in a
// namespace so far, wanted or not. SCTP counts where a server of it runs, for the whole lab.
func (l *Lab) Arrivals(ns string) (uint64, error) {
	var c map[string]uint64
	if err := l.In(ns, func() error { c = snmp(); return nil }); err != nil {
		return 0, err
	}
	return c["Tcp.InSegs"] + c["Udp.InDatagrams"] + c["Udp.NoPorts"] +
		c["Udp6InDatagrams"] + c["Udp6NoPorts"] + l.inits.Load(), nil
}
