package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/suite"
)

func allCommand() *cobra.Command {
	var o suite.Options
	var results, page string
	var quick, rehearse, again bool
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Measure everything, or with --quick the core, and write the report",
		Long: `Measure everything, or with --quick the core, and write the report.

Until all of it is measured, samples are kept in .cache/bench/unfinished-*, so that an interrupted
benchmark goes on where it was; --again starts anew. Then they take the place of the results.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			name := "full"
			switch {
			case quick:
				o.Plan, name = suite.Quick, "quick"
			case rehearse:
				o.Plan, name = suite.Rehearsal, "rehearsal"
			}
			if o.Bin, err = peerbin.Build(cmd.Context(), peerbin.Proxy, peerbin.CoreDNS, peerbin.Fairway); err != nil {
				return err
			}
			o.Dir = filepath.Join(filepath.Dir(o.Bin), "bench", "unfinished-"+name)
			if again {
				if err := os.RemoveAll(o.Dir); err != nil {
					return err
				}
			}
			o.Progress = progress()
			o.Command = "go run ./bench " + strings.Join(os.Args[1:], " ")
			err = suite.Run(cmd.Context(), o)
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return fmt.Errorf("what is measured is kept in %s, the same command measures the rest: %w", o.Dir, err)
			}
			if err := suite.Publish(o.Dir, results); err != nil {
				return err
			}
			return report(results, page)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&quick, "quick", false, "the core figures only, in under 10 minutes")
	f.BoolVar(&rehearse, "rehearse", false, "everything as briefly as can be, in about 15 minutes: shows that it works, and little else")
	cmd.MarkFlagsMutuallyExclusive("quick", "rehearse")
	f.BoolVar(&again, "again", false, "measure also what an interrupted run has measured")
	f.StringVar(&results, "results", "bench/results", "directory for the samples")
	f.StringVar(&page, "report", "docs", "directory for the report")
	return cmd
}

func reportCommand() *cobra.Command {
	var results, page string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make the report of the results there are",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return report(results, page) },
	}
	cmd.Flags().StringVar(&results, "results", "bench/results", "directory of the samples")
	cmd.Flags().StringVar(&page, "report", "docs", "directory for the report")
	return cmd
}

func report(results, dir string) error {
	files, err := suite.Load(results)
	if err != nil {
		return err
	}
	r, err := suite.Report(files)
	if err != nil {
		return err
	}
	if err := suite.Save(dir, r); err != nil {
		return err
	}
	fmt.Println(dir + "/benchmarks.md")
	return nil
}

func compareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compare A B",
		Short: "Say what is worse in results B than in results A, beyond noise",
		Long: `Say what is worse in the directory of results B than in A, beyond noise.

The exit status is 1 if anything is worse.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := suite.Load(args[0])
			if err != nil {
				return err
			}
			b, err := suite.Load(args[1])
			if err != nil {
				return err
			}
			differences, compared := suite.Compare(a, b)
			worse := 0
			for _, d := range differences {
				fmt.Fprintln(cmd.OutOrStdout(), d)
				if d.Ratio.Value > 1 {
					worse++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d figures compared, %d worse, %d better\n", compared, worse, len(differences)-worse)
			if compared == 0 {
				return fmt.Errorf("%s and %s have no figure in common", args[0], args[1])
			}
			if worse > 0 {
				return fmt.Errorf("%d figures are worse", worse)
			}
			return nil
		},
	}
}
