// Command bench compares Fairway with what it replaces, in namespaces of this machine. It needs
// root. See "go run ./bench help".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/bench/conformance"
	"github.com/fairway-lb/fairway/bench/machine"
	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
)

func main() {
	root := &cobra.Command{
		Use:           "bench",
		Short:         "Compare Fairway with kube-proxy, CoreDNS and others",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(peersCommand(), conformanceCommand(), scaleCommand(), dnsCommand(), allCommand(), reportCommand(), compareCommand())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func peersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "peers",
		Short: "Build kube-proxy, kube-apiserver and CoreDNS into .cache/bin",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(os.Stderr, "building kube-proxy and kube-apiserver "+peerbin.Version+" and CoreDNS "+peerbin.CoreDNSVersion+"; the first time takes about 10 minutes")
			dir, err := peerbin.Build(cmd.Context(), peerbin.Proxy, peerbin.APIServer, peerbin.CoreDNS)
			if err == nil {
				fmt.Println(dir)
			}
			return err
		},
	}
}

func conformanceCommand() *cobra.Command {
	var pageOnly bool
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Run the conformance suite against kube-proxy and write docs/conformance-kube-proxy.md",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pageOnly {
				return conformance.SavePage()
			}
			bin, err := peerbin.Build(cmd.Context(), peerbin.Proxy)
			if err != nil {
				return err
			}
			m := machine.This(bin)
			m.Versions["kernel"] = m.Kernel
			delete(m.Versions, "go")
			show := progress()
			r, err := conformance.Run(cmd.Context(), m.Versions, func(done int, name string) {
				show(fmt.Sprintf("%d scenarios, %s", done, name))
			})
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return err
			}
			if err := conformance.Save(r); err != nil {
				return err
			}
			return conformance.SavePage()
		},
	}
	cmd.Flags().BoolVar(&pageOnly, "page-only", false, "make the page from the last result")
	return cmd
}

func scaleCommand() *cobra.Command {
	o := scale.Options{}
	var only, out, page string
	var pageOnly bool
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Measure first sync, one change, and memory with many Services",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if pageOnly {
				return remake(&scale.Result{}, out, page)
			}
			if o.Bin, err = peerbin.Build(cmd.Context(), peerbin.Proxy, peerbin.Fairway); err != nil {
				return err
			}
			for _, s := range stage.Proxies {
				if strings.Contains(s.Name, only) {
					o.Subjects = append(o.Subjects, s)
				}
			}
			o.Progress = progress()
			r := scale.Result{
				Date:    time.Now().UTC().Format(time.DateOnly),
				Command: "go run ./bench " + strings.Join(os.Args[1:], " "),
				Machine: machine.This(o.Bin),
				Options: o,
			}
			r.Samples, err = scale.Run(cmd.Context(), o)
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return err
			}
			return write(r, out, page)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Services, "services", 1000, "number of Services")
	f.IntVar(&o.Endpoints, "endpoints", 5, "endpoints of each Service")
	f.IntVar(&o.Runs, "runs", 3, "runs of each subject")
	f.IntVar(&o.Changes, "changes", 7, "changes measured in each run")
	f.DurationVar(&o.Limit, "limit", 300*time.Second, "time after which a first sync or a change is given up")
	f.DurationVar(&o.ChurnFor, "churn", 0, "also measure a rolling update, and this long a hundred changes a second with live traffic")
	f.StringVar(&only, "only", "", "measure only subjects whose name contains this")
	f.StringVar(&o.Profiles, "profiles", "", "existing directory for heap profiles (changes nothing that is measured but by a few kB)")
	f.BoolVar(&pageOnly, "page-only", false, "measure nothing, make the report from the samples in --json")
	f.StringVar(&out, "json", "", "file for the samples")
	f.StringVar(&page, "markdown", "", "file for the report (standard output if empty)")
	return cmd
}

// progress returns a function that shows what is being done, with the time since the start, on
// one line of the terminal.
func progress() func(string) {
	start := time.Now()
	return func(what string) {
		fmt.Fprintf(os.Stderr, "\r\033[K%s %s", time.Since(start).Round(time.Second), what)
	}
}

// A result is samples that make a page.
type result interface{ Markdown() string }

// remake makes the report of samples that were saved; r is a pointer to the empty result.
func remake(r result, out, page string) error {
	b, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, r); err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return write(r, "", page)
}

func write(r result, out, page string) error {
	if out != "" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if page == "" {
		fmt.Print(r.Markdown())
		return nil
	}
	return os.WriteFile(page, []byte(r.Markdown()), 0o644)
}
