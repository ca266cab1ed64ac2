package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/server"
	"github.com/fairway-lb/fairway/proxier/watch"
)

func dnsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dns [-conf Corefile] [flags]",
		Short: "Answer the cluster's DNS queries",
		Long: `Answer DNS queries for a Kubernetes cluster, in place of CoreDNS and with its flags and
configuration file. Services, EndpointSlices, Namespaces and, if an option needs them, Pods come
from the API server, or from a folder of manifests.

` + dnsUsage(),
		Args:               cobra.ArbitraryArgs,
		DisableFlagParsing: true, // CoreDNS's flags are long with one dash
		RunE: func(c *cobra.Command, args []string) error {
			f, err := parseDNSFlags(args)
			switch {
			case errors.Is(err, flag.ErrHelp):
				return c.Help()
			case err != nil:
				return err
			case f.version:
				fmt.Fprintf(c.OutOrStdout(), "Fairway-%s\n%s/%s, %s, \n", versionString(), runtime.GOOS, runtime.GOARCH, runtime.Version())
				return nil
			case f.plugins:
				for _, name := range corefile.Supported() {
					fmt.Fprintln(c.OutOrStdout(), "dns."+name)
				}
				return nil
			}
			return runDNS(c.Context(), f, os.Stdout)
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "check COREFILE",
		Short: "Say whether a Corefile would be accepted, and with which warnings",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return checkCorefile(c.OutOrStdout(), args[0]) },
	})
	return c
}

// dnsFlags are CoreDNS's flags and a few of ours.
type dnsFlags struct {
	conf, pidfile            string
	port                     uint
	plugins, quiet, version  bool
	manifests, kubeconfig    string
	verbosity                int
	alsologtostderr, toerror bool // of the library that CoreDNS logs with: no effect
}

// dnsFlagSet returns a set that fills f. Both -flag and --flag are understood.
func dnsFlagSet(f *dnsFlags) *flag.FlagSet {
	fs := flag.NewFlagSet("dns", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&f.conf, "conf", "", "Corefile to load; stdin reads it from there (default \"Corefile\", if there is one)")
	for _, name := range []string{"dns.port", "p"} {
		fs.UintVar(&f.port, name, 53, "port of server blocks that name none")
	}
	fs.StringVar(&f.pidfile, "pidfile", "", "write the process id to this file")
	fs.BoolVar(&f.plugins, "plugins", false, "list the plugins and exit")
	fs.BoolVar(&f.quiet, "quiet", false, "print nothing at start")
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	fs.StringVar(&f.manifests, "manifests", "", "folder of manifests to follow in place of the API server")
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file for kubernetes directives that name neither an endpoint nor a kubeconfig")
	fs.IntVar(&f.verbosity, "v", 0, "from 4 on, log what helps with debugging")
	fs.BoolVar(&f.toerror, "logtostderr", false, "no effect")
	fs.BoolVar(&f.alsologtostderr, "alsologtostderr", false, "no effect")
	return fs
}

func parseDNSFlags(args []string) (f dnsFlags, err error) {
	set := dnsFlagSet(&f)
	if err := set.Parse(args); err != nil {
		return f, err
	}
	switch {
	case set.NArg() > 0:
		return f, fmt.Errorf("extra command line arguments: %s", strings.Join(set.Args(), " "))
	case f.port > 65535:
		return f, fmt.Errorf("flag -dns.port: %d: no such port", f.port)
	}
	return f, nil
}

func dnsUsage() string {
	var text strings.Builder
	set := dnsFlagSet(new(dnsFlags))
	set.SetOutput(&text)
	text.WriteString("Flags, with one dash or two:\n")
	set.PrintDefaults()
	return text.String()
}

// load reads the Corefile that the flags name.
func (f *dnsFlags) load() (*corefile.Config, error) {
	o := corefile.Options{DefaultPort: uint16(f.port), OwnObjects: f.manifests != "" || f.kubeconfig != ""}
	path := f.conf
	if path == "" {
		path = "Corefile"
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return corefile.Parse("default", []byte(corefile.DefaultText), o)
		}
	}
	return corefile.Load(path, o)
}

// runDNS serves until ctx is done.
func runDNS(ctx context.Context, f dnsFlags, out io.Writer) error {
	log := newLineLogger(out, f.verbosity)
	klog.SetSlogLogger(watch.LibraryLog(log))
	saveMemory()
	limitMemory("/sys/fs/cgroup/memory.max")
	if f.pidfile != "" {
		if err := os.WriteFile(f.pidfile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return fmt.Errorf("flag -pidfile: %w", err)
		}
		defer os.Remove(f.pidfile)
	}
	load := f.load
	if f.conf == "stdin" { // can be read only once
		cfg, err := f.load()
		if err != nil {
			return err
		}
		load = func() (*corefile.Config, error) { return cfg, nil }
	}
	s := server.New(server.Options{Load: load, NewSource: f.newSource(log), Out: out, Quiet: f.quiet, Log: log, Version: versionString(),
		Metrics: dnsRequests()})
	stop := dnsSignals(ctx, s)
	defer stop()
	return s.Run(ctx)
}

// limitMemory lets the garbage collector work harder before the memory that a container may have,
// which the file says, is used up. GOMEMLIMIT, if set, decides instead.
func limitMemory(file string) {
	text, err := os.ReadFile(file)
	if err != nil || os.Getenv("GOMEMLIMIT") != "" {
		return // no container, or none with a limit of this kind
	}
	if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// dnsSignals takes the signals that CoreDNS takes, beside those that end the context: USR1 reloads,
// QUIT ends at once, HUP does nothing. The function that it returns gives them back.
func dnsSignals(ctx context.Context, s *server.Server) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGHUP)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case sig := <-signals:
				if sig == syscall.SIGQUIT {
					os.Exit(0)
				}
				_ = s.Reload(ctx) // it logs its errors
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		signal.Reset(syscall.SIGHUP)
		close(done)
		<-ended
	}
}

// checkCorefile is a dry run: it prints what a server would do with a Corefile.
func checkCorefile(out io.Writer, path string) error {
	cfg, err := corefile.Load(path, corefile.Options{OwnObjects: true, AllFaults: true})
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	if err := server.Check(cfg, newLineLogger(out, 0)); err != nil {
		return err
	}
	for _, b := range cfg.Blocks {
		var keys, plugins []string
		for _, k := range b.Keys {
			keys = append(keys, k.String())
		}
		for _, d := range b.Plugins {
			if !slices.Contains(plugins, d.Plugin()) {
				plugins = append(plugins, d.Plugin())
			}
		}
		fmt.Fprintf(out, "%s: %s: %s\n", b.Pos, strings.Join(keys, " "), strings.Join(plugins, " "))
	}
	fmt.Fprintf(out, "%s: accepted\n", filepath.Base(path))
	return nil
}
