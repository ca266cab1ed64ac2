package proxiertest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Restarts, repairs and steady change. Every scenario is also told with a restart, another path
// and a cleanup at its end; these are about more than that.
var lifecycleScenarios = []Scenario{
	{Name: "lifecycle/a rolling update breaks nothing", Steps: rollingUpdate()},

	{Name: "lifecycle/a restart keeps affinity and open connections", Needs: []Feature{Affinity, Observe},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a", "b", "f")),
			Flows: []Flow{
				{Name: "first", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky(), Hold: true},
			},
			Check: func(t testing.TB, r *Running) {
				r.restart(t.Context())
				for range stickyTries {
					r.reaches(t, client, "10.96.0.10:80", r.last["first"])
				}
			},
		}}},

	{Name: "lifecycle/everything of ours is wiped and comes back", Needs: []Feature{Observe},
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				service("none", clusterIP("10.96.0.11"))),
			Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}},
			Check: func(t testing.TB, r *Running) {
				r.wipe(t, func(line string) bool {
					return !strings.Contains(line, "CANARY") && (strings.Contains(line, "KUBE-") || strings.Contains(line, "FAIRWAY-"))
				})
				if a := r.probe(t, Outside, "10.96.0.10:80", proxier.TCP, silenceWait); a.Verdict != netlab.Silent {
					t.Fatalf("the test is worth nothing: the rules are gone, yet %s", a)
				}
				r.repair(t)
				r.reaches(t, Outside, "10.96.0.10:80", "a")
				r.reaches(t, Outside, "node-1:30080", "a")
				if a := r.probe(t, Outside, "10.96.0.11:80", proxier.TCP, refusalWait); a.Verdict != netlab.Refused {
					t.Errorf("the Service without endpoints: %s, want refused", a)
				}
			},
		}}},

	{Name: "lifecycle/one rule of ours is deleted and comes back", Needs: []Feature{Observe},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}},
			Check: func(t testing.TB, r *Running) {
				r.wipe(t, func(line string) bool { return strings.Contains(line, "DNAT --to-destination") })
				if a := r.probe(t, client, "10.96.0.10:80", proxier.TCP, silenceWait); a.Verdict != netlab.Silent {
					t.Fatalf("the test is worth nothing: the rule is gone, yet %s", a)
				}
				r.repair(t)
				r.reaches(t, client, "10.96.0.10:80", "a")
			},
		}}},

	{Name: "lifecycle/a hundred Services come and go",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
				Flows: []Flow{{Name: "long", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f"), Hold: true}}},
			{Name: "they come",
				Objects: crowd(100),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")},
					{From: client, To: "10.96.7.1:80", Want: Reaches("b")},
					{From: Outside, To: "node-1:31050", Want: Reaches("b")},
					{From: client, To: "10.96.7.99:80", Want: Reaches("b")},
				}},
			{Name: "they go",
				Delete: crowdNames(100),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")},
					{From: client, To: "10.96.7.1:80", Want: Untouched},
					{From: Outside, To: "node-1:31050", Want: Rejected},
				}},
		}},
}

// rollingUpdate replaces three pods one after the other, each with a successor that is ready
// before its predecessor terminates. The suite opens connections all through the steps.
func rollingUpdate() []Step {
	step := func(name string, want []string, endpoints ...option) Step {
		opts := append([]option{clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080)}, endpoints...)
		return Step{Name: name, Objects: service("web", opts...), Flows: []Flow{
			{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches(want...)},
			{Name: "outside", From: Outside, To: "198.51.100.10:80", Want: Reaches(want...)},
		}}
	}
	return []Step{
		step("old", []string{"a", "b", "f"}, on("a", "b", "f")),
		step("first successor", []string{"a", "b", "f", "c"}, on("a", "b", "f", "c")),
		step("first shuts down", []string{"b", "f", "c"}, terminating("a"), on("b", "f", "c")),
		step("first is gone", []string{"b", "f", "c", "g"}, on("b", "f", "c", "g")),
		step("second shuts down", []string{"f", "c", "g"}, terminating("b"), on("f", "c", "g")),
		step("all shut down", []string{"f", "c", "g"}, terminating("f", "c", "g")),
		step("new", []string{"d", "h"}, stopped("f", "c", "g"), on("d", "h")),
	}
}

func crowd(n int) string {
	var out []string
	for i := range n {
		out = append(out, service(fmt.Sprintf("crowd-%d", i), clusterIP(fmt.Sprintf("10.96.7.%d", i)),
			nodePort(31000+int32(i)), on("b")))
	}
	return all(out...)
}

func crowdNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Service crowd-%d\nEndpointSlice crowd-%d-1\n", i, i)
	}
	return b.String()
}

// wipe deletes rules and chains of the subject as somebody else might: those whose lines in the
// output of iptables-save match.
func (r *Running) wipe(t testing.TB, match func(line string) bool) {
	t.Helper()
	for _, command := range r.firewalls(t) {
		var script, rules, flush, chains strings.Builder
		for line := range strings.Lines(r.run(t, netlab.Node1, command+"-save")) {
			switch chain, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " "); {
			case line == "COMMIT\n":
				script.WriteString(rules.String() + flush.String() + chains.String() + line)
				rules, flush, chains = strings.Builder{}, strings.Builder{}, strings.Builder{}
			case strings.HasPrefix(line, "*"):
				script.WriteString(line)
			case !match(line):
			case strings.HasPrefix(line, "-A "):
				if chain, _, _ := strings.Cut(line[3:], " "); !match(":" + chain) { // or it is flushed
					rules.WriteString("-D " + line[3:])
				}
			case strings.HasPrefix(line, ":"):
				flush.WriteString("-F " + chain + "\n")
				chains.WriteString("-X " + chain + "\n")
			}
		}
		err := r.inNode(func() error {
			cmd := exec.Command(command+"-restore", "--noflush")
			cmd.Stdin = strings.NewReader(script.String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s-restore: %v", command, err)
		}
	}
}

// repair makes the subject look at the kernel again, as proxier.Loop does regularly.
func (r *Running) repair(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.Backend.Invalidate()
	if err := r.applyUntil(ctx, r.Backend, r.Snapshot); err != nil {
		t.Fatal(err)
	}
}
