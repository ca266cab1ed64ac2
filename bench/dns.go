package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/peerbin"
)

func dnsCommand() *cobra.Command {
	o := dnsbench.Options{Subjects: dnsbench.Subjects}
	var out, page string
	var pageOnly bool
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "Measure what answers cost, beside CoreDNS, NSD and Unbound",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			r := dnsbench.Result{Options: o}
			if pageOnly {
				return remake(&r, out, page)
			}
			if o.Bin, err = peerbin.Build(cmd.Context(), peerbin.CoreDNS, peerbin.Fairway); err != nil {
				return err
			}
			o.Progress = progress()
			r.Date, r.Command = time.Now().UTC().Format(time.DateOnly), "go run ./bench "+strings.Join(os.Args[1:], " ")
			r.Machine = dnsbench.Machine(o.Bin)
			if r.Samples, err = o.Run(cmd.Context()); err == nil && o.Services > 0 {
				r.Sizes, err = o.RunSize(cmd.Context())
			}
			r.Options = o
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return err
			}
			return write(r, out, page)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Rounds, "rounds", 5, "rounds in which every server is asked once")
	f.DurationVar(&o.Duration, "duration", 2*time.Second, "time of one run of dnsperf")
	f.StringSliceVar(&o.Subjects, "subjects", dnsbench.Subjects, "servers to measure; "+nameserver.Fairway+" and "+nameserver.CoreDNS+" are compared")
	f.StringVar(&o.Only, "only", "", "measure only the loads whose name matches this regular expression")
	f.IntVar(&o.Services, "services", 10000, "Services in the measurement of memory and changes; 0 for none")
	f.IntVar(&o.Endpoints, "endpoints", 10, "endpoints of each of these")
	f.IntVar(&o.Changes, "changes", 100, "changes in each of these runs")
	f.DurationVar(&o.Settle, "settle", 5*time.Second, "time after the first answer at which memory is read")
	f.BoolVar(&pageOnly, "page-only", false, "measure nothing, make the report from the samples in --json")
	f.StringVar(&out, "json", "", "file for the samples")
	f.StringVar(&page, "markdown", "", "file for the report (standard output if empty)")
	return cmd
}
