package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/deploy/demo"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show real connections through every kind of Service address (root)",
		Long: `Build a small cluster out of network namespaces: a node, pods on it and on a second node,
a client outside. Run the resolver in two pods, and the proxy on the node, for every backend that
this kernel offers, on the manifests of deploy/demo. Send real traffic from a pod, from the node
and from outside through ClusterIP, NodePort, LoadBalancer and externalIP addresses, and print
what was seen. The pod is given names: it looks them up over UDP and TCP, at the address of the
Service kube-dns and with a search list, as any pod does.

Nothing outside of these namespaces is touched, and they are removed on every way out.
The demo ends with 0 only if every connection went where it should.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// A terminal that closes must not leave namespaces behind.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGHUP)
			defer stop()
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // writes fail instead
			err := runDemo(ctx, c.OutOrStdout())
			if ctx.Err() != nil {
				return errors.New("demo interrupted, and cleaned up")
			}
			return err
		},
	}
	c.AddCommand(lookupCommand())
	return c
}

func runDemo(ctx context.Context, w io.Writer) (err error) {
	start := time.Now()
	if err := netlab.Possible(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	dir, err := os.MkdirTemp("", "fairway-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.CopyFS(filepath.Join(dir, "manifests"), demo.Manifests); err != nil {
		return fmt.Errorf("demo manifests: %w", err)
	}
	fmt.Fprintln(w, "Building a cluster of network namespaces: outside -- node-1 (pods a b c d) -- node-2 (pods f g)")
	l, err := netlab.Build(netlab.Options{Pods: append([]string{"a", "b", demoClient, "f"}, demoResolvers...)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := serveDemo(l); err != nil {
		return err
	}
	resolvers, err := startResolvers(ctx, l, dir)
	if err != nil {
		return err
	}
	defer killAll(resolvers)
	fmt.Fprintf(w, "Pods d and g run fairway dns. Pod c looks every name up over UDP and TCP, with this /etc/resolv.conf:\n    %s\n",
		strings.ReplaceAll(strings.TrimSpace(demoLookups[0].conf), "\n", "\n    "))
	shown, wrong := 0, 0
	for _, variant := range []string{"nft", "legacy"} {
		if _, err := runIn(ctx, l, netlab.Node1, "iptables-"+variant+"-save"); err != nil {
			fmt.Fprintf(w, "\nNot shown: iptables-%s, because this machine lacks it: %v\n", variant, err)
			continue
		}
		n, bad, err := demoBackend(ctx, w, l, dir, variant)
		shown, wrong = shown+n, wrong+bad
		if err != nil {
			return fmt.Errorf("demo of iptables-%s: %w", variant, err)
		}
	}
	for _, a := range resolvers {
		if err := a.stop(); err != nil {
			return err
		}
	}
	switch {
	case shown == 0:
		return errors.New("demo: no backend works here; on Debian: apt-get install iptables")
	case wrong > 0:
		return fmt.Errorf("demo: %d of %d rows are not as they should be", wrong, shown)
	}
	fmt.Fprintf(w, "\nAll %d rows are as they should be. Took %.1f s.\n", shown, time.Since(start).Seconds())
	return nil
}

// serveDemo starts the servers in the pods.
func serveDemo(l *netlab.Lab) error {
	for _, s := range demoServers {
		for pod := range strings.FieldsSeq(s.pods) {
			for _, v6 := range []bool{false, true} {
				at := netip.AddrPortFrom(netlab.Addr(pod), s.port)
				if v6 {
					at = netip.AddrPortFrom(netlab.V6(at.Addr()), s.port)
				}
				if err := l.Serve(pod, s.protocol, at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// demoBackend shows one variant of iptables: it runs the proxy, asks every row, ends the proxy,
// shows that the data plane goes on without it, and cleans up. It returns the number of rows
// and of those that are wrong.
func demoBackend(ctx context.Context, w io.Writer, l *netlab.Lab, dir, variant string) (shown, wrong int, err error) {
	before, err := rulesOf(ctx, l, variant)
	if err != nil {
		return 0, 0, err
	}
	flags := []string{"--manifests", filepath.Join(dir, "manifests"), "--hostname-override", netlab.Node1,
		"--cluster-cidr", "10.244.0.0/16,fd00:244::/32", "--iptables-variant", variant}
	fmt.Fprintf(w, "\niptables-%s: fairway proxy %s\n\n", variant, strings.Join(flags, " "))
	a, err := startAgent(l, netlab.Node1, filepath.Join(dir, "fairway.sock"), flags...)
	if err != nil {
		return 0, 0, err
	}
	defer a.kill()
	if err := a.ready(ctx, demoFrontends); err != nil {
		return 0, 0, err
	}
	rows := demoRows()
	names, err := lookupNames(ctx, l, dir, demoNames(rows))
	if err != nil {
		return 0, 0, fmt.Errorf("%w\nThe log of the proxy:\n%s", err, a.logged())
	}
	t := newTable(w, "NAME FRONTEND KIND CLIENT REACHED SEEN-AS RESULT", false)
	ask := func(r demoRow) {
		s := r.ask(l, names)
		shown++
		if !r.right(s) {
			wrong++
		}
		t.row(r.cells(s))
	}
	for _, r := range rows {
		if ctx.Err() != nil {
			return shown, wrong, ctx.Err()
		}
		ask(r)
	}
	if wrong > 0 {
		fmt.Fprintf(w, "The log of the proxy:\n%s\n", a.logged())
	}
	if err := a.stop(); err != nil {
		return shown, wrong, err
	}
	after := rows[0]
	after.client += ", proxy gone"
	if names, err = lookupNames(ctx, l, dir, []string{after.name}); err != nil {
		return shown, wrong, err
	}
	ask(after)
	if err := t.flush(); err != nil {
		return shown, wrong, err
	}
	self, err := os.Executable()
	if err != nil {
		return shown, wrong, err
	}
	if _, err := runIn(ctx, l, netlab.Node1, self, "cleanup"); err != nil {
		return shown, wrong, err
	}
	left, err := rulesOf(ctx, l, variant)
	if err != nil {
		return shown, wrong, err
	}
	if left != before {
		return shown, wrong, fmt.Errorf("fairway cleanup left rules behind:\n%s", left)
	}
	fmt.Fprintln(w, "\nfairway cleanup: every rule is as it was before the proxy started.")
	return shown, wrong, nil
}

// rulesOf returns the rules and chains of node-1, but for chains that the kernel brings along.
func rulesOf(ctx context.Context, l *netlab.Lab, variant string) (string, error) {
	var out strings.Builder
	for _, program := range []string{"iptables-", "ip6tables-"} {
		text, err := runIn(ctx, l, netlab.Node1, program+variant+"-save")
		if err != nil {
			return "", err
		}
		table := ""
		for line := range strings.Lines(text) {
			switch {
			case strings.HasPrefix(line, "*"):
				table = program + strings.TrimSpace(line[1:])
			case strings.HasPrefix(line, "-A "), strings.HasPrefix(line, ":") && strings.Contains(line, " - "):
				out.WriteString(table + " " + line)
			}
		}
	}
	return out.String(), nil
}
