package proxiertest

import (
	"fmt"

	"github.com/fairway-lb/fairway/proxier"
)

// The golden matrix: where a connection goes, and whether it is masqueraded, for every pair of
// client and address (rows) and every traffic policy (columns). Each of three LoadBalancer
// Services has an endpoint here, a, and one on node-2, f. It is the matrix of kube-proxy's own
// tests, with its one mistake corrected: there, the row "node to NodePort" of policy Local asks
// the Service of the first column.
var matrix = []struct {
	client, address string
	cells           [3]cell // Cluster, external policy Local, internal policy Local
}{
	{"pod", "ClusterIP", [3]cell{bothKept, bothKept, hereKept}},
	{"pod", "NodePort", [3]cell{bothMasq, bothKept, bothMasq}},
	{"pod", "LoadBalancer", [3]cell{bothMasq, bothKept, bothMasq}},
	{"node", "ClusterIP", [3]cell{bothMasq, bothMasq, hereMasq}},
	{"node", "NodePort", [3]cell{bothMasq, bothMasq, bothMasq}},
	{"node", "LoadBalancer", [3]cell{bothMasq, bothMasq, bothMasq}},
	{"outside", "ClusterIP", [3]cell{bothMasq, bothMasq, hereMasq}},
	{"outside", "NodePort", [3]cell{bothMasq, hereKept, bothMasq}},
	{"outside", "LoadBalancer", [3]cell{bothMasq, hereKept, bothMasq}},
}

// A cell is what happens to a connection.
type cell struct {
	here bool // only the endpoint on this node is reached, not both
	masq bool // the endpoint sees the node's address in place of the client's
}

var (
	bothKept = cell{here: false, masq: false}
	bothMasq = cell{here: false, masq: true}
	hereKept = cell{here: true, masq: false}
	hereMasq = cell{here: true, masq: true}
)

// overridden is the matrix under another configuration of the node.
func overridden(c cell, client, address string, column int, config Config) cell {
	switch {
	case address == "ClusterIP" && config.MasqueradeAll:
		c.masq = true // pods, too
	case address == "ClusterIP" && config.NoDetector:
		c.masq = false // everybody could be a pod
	case client == "pod" && config.NoDetector && column == 1:
		c = hereKept // nobody is known to be a pod
	}
	return c
}

// matrixServices are one Service for each column. Their port 80 exists for every protocol.
var matrixServices = func() string {
	var objects []string
	for i, policy := range []option{func(*web) {}, externalLocal, internalLocal} {
		n := int32(i)
		objects = append(objects, service(fmt.Sprintf("matrix-%d", i),
			clusterIP(fmt.Sprintf("10.96.0.%d", 10+i)), loadBalancer(fmt.Sprintf("198.51.100.%d", 10+i)),
			portTo("TCP", "tcp", 80, 8080), nodePort(30080+n),
			portTo("UDP", "udp", 80, 8080), nodePort(30080+n),
			portTo("SCTP", "sctp", 80, 8080), nodePort(30080+n),
			policy, on("a", "f")))
	}
	return all(objects...)
}()

// matrixScenarios are the matrix for each configuration that changes it: one lab serves all cells
// of a configuration. SCTP packets are crafted, which is slow, so the configurations other than
// the default leave them out.
var matrixScenarios = func() []Scenario {
	var out []Scenario
	for _, c := range []struct {
		name   string
		config Config
	}{
		{"default", Config{}},
		{"no local detector", Config{NoDetector: true}},
		{"masqueradeAll", Config{MasqueradeAll: true}},
		{"masqueradeAll, no local detector", Config{MasqueradeAll: true, NoDetector: true}},
	} {
		for _, p := range []struct {
			protocol proxier.Protocol
			needs    []Feature
		}{{proxier.TCP, nil}, {proxier.UDP, []Feature{UDP}}, {proxier.SCTP, []Feature{SCTP}}} {
			if p.protocol == proxier.SCTP && c.name != "default" {
				continue
			}
			out = append(out, Scenario{
				Name: fmt.Sprintf("matrix/%s, %s", p.protocol, c.name), Needs: p.needs, Config: c.config,
				Steps: []Step{{Objects: matrixServices, Flows: matrixFlows(p.protocol, c.config)}},
			})
		}
	}
	return out
}()

func matrixFlows(protocol proxier.Protocol, config Config) []Flow {
	clients := map[string]Place{"pod": client, "node": process, "outside": Outside}
	var out []Flow
	for _, row := range matrix {
		for column, c := range row.cells {
			to := map[string]string{
				"ClusterIP":    fmt.Sprintf("10.96.0.%d:80", 10+column),
				"NodePort":     fmt.Sprintf("192.168.10.1:%d", 30080+column),
				"LoadBalancer": fmt.Sprintf("198.51.100.%d:80", 10+column),
			}[row.address]
			c = overridden(c, row.client, row.address, column, config)
			want := Reaches("a", "f")
			if c.here {
				want = Reaches("a")
			}
			if c.masq {
				want = want.Masqueraded()
			} else {
				want = want.ClientKept()
			}
			name := fmt.Sprintf("%s to %s, %s", row.client, row.address,
				[]string{"policies Cluster", "external policy Local", "internal policy Local"}[column])
			out = append(out, Flow{Name: name, From: clients[row.client], To: to, Protocol: protocol, Want: want})
		}
	}
	return out
}
