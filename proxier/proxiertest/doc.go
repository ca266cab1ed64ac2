// Package proxiertest is the conformance suite: stories about Services told with real packets,
// which every backend, and real kube-proxy, must tell in the same way.
//
// A [Scenario] is a list of steps. Each applies objects, written as YAML, and then lists flows
// and what must become of them. [Run] builds a netlab.Lab for each scenario, has the objects
// resolved and applied on node-1, and sends the packets. Around every scenario it also checks
// what must hold for all: a second Apply changes nothing, a restart changes nothing and breaks
// no connection, any order of the objects and any path to a state give the same kernel, cleanup
// leaves what was there before, and kernel operations that fail at random only delay.
//
// A backend joins with a conformance_test.go of about 15 lines that calls Run with a [Subject].
// The suite itself is tested with mutants: subjects with one planted bug each, every one of
// which a named scenario or invariant must catch.
//
// The package decides nothing about Kubernetes but in the oracle, which is written without
// looking at proxier/resolve and compared with it. It owns no kernel objects besides the lab's.
package proxiertest
