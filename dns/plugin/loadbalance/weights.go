package loadbalance

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// weights are those of addresses, by the name in lower case that they belong to. What is not listed
// has weight 1.
type weights map[string]map[netip.Addr]int

// readWeights reads a file of weights: a name on a line, and below it an address and a weight from
// 1 to 255 on each. Lines that are empty or begin with # do not count.
func readWeights(data []byte) (weights, error) {
	w := weights{}
	name := ""
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) == 1:
			if _, err := netip.ParseAddr(fields[0]); err == nil {
				return nil, fmt.Errorf("line %d: the address %s has no weight", n, fields[0])
			}
			name = plugin.Canonical(fields[0])
			if w[name] == nil {
				w[name] = map[netip.Addr]int{}
			}
		case len(fields) == 2:
			a, err := netip.ParseAddr(fields[0])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			weight, err := strconv.ParseUint(fields[1], 10, 8)
			if err != nil || weight == 0 {
				return nil, fmt.Errorf("line %d: %q is not a weight from 1 to 255", n, fields[1])
			}
			if name == "" {
				return nil, fmt.Errorf("line %d: no name before the address %s", n, fields[0])
			}
			w[name][a.Unmap()] = int(weight)
		default:
			return nil, fmt.Errorf("line %d: want a name, or an address and a weight", n)
		}
	}
	return w, lines.Err()
}

// pick returns which of the records comes first, as likely as its weight has it, and -1 if there is
// none.
func (w weights) pick(rrs []dnswire.RR, number func(int) int) int {
	if len(rrs) == 0 {
		return -1
	}
	each := make([]int, len(rrs))
	sum := 0
	for i, rr := range rrs {
		each[i] = 1
		if listed, ok := w[plugin.Canonical(rr.Header().Name)][addr(rr)]; ok {
			each[i] = listed
		}
		sum += each[i]
	}
	n := number(sum)
	for i, weight := range each {
		if n -= weight; n < 0 {
			return i
		}
	}
	return -1
}
