package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/deploy/demo"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// demoResolvers are the pods that run "fairway dns", which the Service kube-dns of deploy/demo
// leads to.
var demoResolvers = []string{"d", "g"}

// demoLookups are the two ways in which every name is looked up: the resolv.conf that a kubelet
// writes for a pod of namespace shop, once as it is and once with all queries over TCP.
var demoLookups = []struct{ way, conf string }{
	{"udp", "nameserver 10.96.0.53\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"},
	{"tcp", "nameserver fd00:96::35\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 use-vc\n"},
}

// startResolvers runs "fairway dns" in the pods that are for it, and waits until they are ready.
// The caller kills them.
func startResolvers(ctx context.Context, l *netlab.Lab, dir string) (list []*agent, err error) {
	defer func() {
		if err != nil {
			killAll(list)
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "Corefile")
	if err := os.WriteFile(conf, []byte(demo.Corefile), 0o644); err != nil {
		return nil, err
	}
	for _, pod := range demoResolvers {
		a, err := startProgram(l, pod, "the resolver in pod "+pod, self, "dns", "-conf", conf, "--manifests", filepath.Join(dir, "manifests"))
		if err != nil {
			return list, err
		}
		list = append(list, a)
	}
	for i, pod := range demoResolvers {
		err := list[i].until(ctx, func(context.Context) error {
			return l.In(pod, func() error { return askReady(netip.AddrPortFrom(netlab.Addr(pod), 8181)) })
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

func killAll(list []*agent) {
	for _, a := range list {
		a.kill()
	}
}

// askReady asks /ready without net/http, which would connect from another thread and so from
// another namespace.
func askReady(at netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET /ready HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	status, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(status, " 200 ") {
		err = fmt.Errorf("/ready: %s", strings.TrimSpace(status))
	}
	return err
}

// lookupNames looks names up in a pod, over UDP and over TCP, with the pod's search list. Both
// ways must give the same addresses.
func lookupNames(ctx context.Context, l *netlab.Lab, dir string, names []string) (map[string][]netip.Addr, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []map[string][]netip.Addr
	for _, way := range demoLookups {
		conf := filepath.Join(dir, "resolv-"+way.way+".conf")
		if err := os.WriteFile(conf, []byte(way.conf), 0o644); err != nil {
			return nil, err
		}
		var out, errs bytes.Buffer
		err := l.In(demoClient, func() error {
			c := exec.CommandContext(ctx, self, append([]string{"demo", "lookup", conf}, names...)...)
			c.Stdout, c.Stderr = &out, &errs
			// A mount namespace of its own, for an /etc/resolv.conf of its own.
			c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
			return c.Run()
		})
		if err != nil {
			return nil, fmt.Errorf("names over %s: %w: %s", way.way, err, bytes.TrimSpace(errs.Bytes()))
		}
		found := map[string][]netip.Addr{}
		if err := json.Unmarshal(out.Bytes(), &found); err != nil {
			return nil, fmt.Errorf("names over %s: %w", way.way, err)
		}
		all = append(all, found)
	}
	for _, name := range names {
		if !slices.Equal(all[0][name], all[1][name]) {
			return nil, fmt.Errorf("%s is %v over %s and %v over %s", name, all[0][name], demoLookups[0].way, all[1][name], demoLookups[1].way)
		}
	}
	return all[0], nil
}

// lookupCommand is what the demo runs in the namespaces of a pod: it takes a file for
// /etc/resolv.conf and looks names up as any program in a pod does.
func lookupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lookup RESOLVCONF NAME...", Hidden: true, Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := unix.Mount(args[0], "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount %s on /etc/resolv.conf: %w", args[0], err)
			}
			found := map[string][]netip.Addr{}
			var errs []error
			for _, name := range args[1:] {
				addrs, err := net.DefaultResolver.LookupNetIP(c.Context(), "ip", name)
				for _, a := range addrs {
					found[name] = append(found[name], a.Unmap())
				}
				slices.SortFunc(found[name], netip.Addr.Compare)
				found[name] = slices.Compact(found[name])
				errs = append(errs, err)
			}
			return errors.Join(append(errs, json.NewEncoder(c.OutOrStdout()).Encode(found))...)
		},
	}
}
