package proxiertest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var saveLine = regexp.MustCompile(`^(?:\[(\d+):\d+\] (-A .*)|(:\S+ \S+) \[(\d+):\d+\])$`)

// written tells what was written to the kernel between two dumps that hold the same rules, which a
// backend's own account may conceal: a rule that is new has another nft handle, and its counter
// starts again.
func written(before, after string) []string {
	var out []string
	if a, b := handles(before), handles(after); a != b {
		for line := range strings.Lines(b) {
			if !strings.Contains(a, line) {
				out = append(out, "nft: "+strings.TrimSpace(line))
			}
		}
	}
	old := counters(before)
	for rule, n := range counters(after) {
		if was, ok := old[rule]; ok && n < was {
			out = append(out, fmt.Sprintf("%s: counter fell from %d to %d", rule, was, n))
		}
	}
	slices.Sort(out)
	return out
}

// handles returns the part of a dump that nft wrote, without counters.
func handles(dump string) string {
	i := strings.Index(dump, "=== nft")
	if i < 0 {
		return ""
	}
	return nftCounters.ReplaceAllString(dump[i:], "")
}

// counters returns the packet counters of the rules and built-in chains of a dump, by the command,
// table and rule, and by a number where a rule occurs again.
func counters(dump string) map[string]int {
	out := map[string]int{}
	var command, table string
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "=== "):
			command = line
		case strings.HasPrefix(line, "*"):
			table = line
		default:
			m := saveLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			var n int
			fmt.Sscan(m[1]+m[4], &n)
			key := strings.Join([]string{command, table, m[2] + m[3]}, " ")
			for i := 2; ; i++ {
				if _, taken := out[key]; !taken {
					break
				}
				key = fmt.Sprintf("%s #%d", key, i)
			}
			out[key] = n
		}
	}
	return out
}
