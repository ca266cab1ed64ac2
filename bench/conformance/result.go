package conformance

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/bench/kubeproxy"
)

// A Result is what a run found.
type Result struct {
	Date     string            `json:"date"`
	Versions map[string]string `json:"versions"`
	Cases    []Case            `json:"cases"` // sorted
}

// A Case is one scenario in one address family, told to kube-proxy in one mode.
type Case struct {
	Scenario string `json:"scenario"`
	Mode     string `json:"mode"`
	Family   string `json:"family"`
	// Failure is the first thing that was not as the suite has it; "" if all was.
	Failure string `json:"failure,omitempty"`
}

func (c Case) compare(o Case) int {
	return cmp.Or(cmp.Compare(c.Scenario, o.Scenario), cmp.Compare(c.Mode, o.Mode), cmp.Compare(c.Family, o.Family))
}

// An event is a line of go test -json.
type event struct{ Action, Test, Output string }

var (
	failureLine = regexp.MustCompile(`^\s+\w+\.go:\d+: (.*)`)
	labPrefix   = regexp.MustCompile(`\bfw\d+x\d+-`)
)

// Parse reads the output of go test -json for TestKubeProxy.
func Parse(r io.Reader) ([]Case, error) {
	var out []Case
	said := map[string]string{} // the first message of a test, which is its first failure if it fails
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("output of go test: %w: %s", err, lines.Text())
		}
		if strings.HasPrefix(e.Output, "panic: ") {
			return nil, fmt.Errorf("the suite ended in a panic: %s: %s", e.Test, e.Output)
		}
		// TestKubeProxy/MODE/FAMILY/SCENARIO, whose name has slashes, too
		name := strings.SplitN(e.Test, "/", 4)
		if len(name) < 4 {
			continue
		}
		c := Case{Mode: name[1], Family: name[2], Scenario: strings.ReplaceAll(name[3], "_", " ")}
		switch e.Action {
		case "output":
			if m := failureLine.FindStringSubmatch(e.Output); m != nil && said[e.Test] == "" {
				said[e.Test] = labPrefix.ReplaceAllString(m[1], "")
			}
		case "fail":
			c.Failure = cmp.Or(said[e.Test], "failed without a word")
			out = append(out, c)
		case "pass":
			out = append(out, c)
		case "skip":
			return nil, fmt.Errorf("%s was skipped: %s", e.Test, said[e.Test])
		}
	}
	slices.SortFunc(out, Case.compare)
	perMode := map[string]int{}
	for _, c := range out {
		perMode[c.Mode]++
	}
	if n := perMode[kubeproxy.IPTables]; n == 0 || perMode[kubeproxy.NFTables] != n {
		return nil, fmt.Errorf("the modes were told different numbers of scenarios: %v", perMode)
	}
	return out, lines.Err()
}
