package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/suite"
)

func allCommand() *cobra.Command {
	var o suite.Options
	var page string
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Measure everything, or with --quick the core, and write the report",
		Long: `Measure everything, or with --quick the core, and write the report.

What the directory of results has already is not measured again, so that an interrupted
benchmark goes on where it was; --again starts anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Bin, err = peerbin.Build(cmd.Context(), peerbin.Proxy, peerbin.CoreDNS, peerbin.Fairway); err != nil {
				return err
			}
			o.Progress = progress()
			o.Command = "go run ./bench " + strings.Join(os.Args[1:], " ")
			err = suite.Run(cmd.Context(), o)
			fmt.Fprintln(os.Stderr)
			if err != nil {
				return err
			}
			return report(o.Dir, page)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Quick, "quick", false, "the core figures only, in about 10 minutes")
	f.BoolVar(&o.Again, "again", false, "measure also what there are results of")
	f.StringVar(&o.Dir, "results", "bench/results", "directory for the samples")
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
		Short: "Say what is slower in results B than in results A, beyond noise",
		Long: `Say what is slower in the directory of results B than in A, beyond noise.

The exit status is 1 if anything is slower.`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := suite.Load(args[0])
			if err != nil {
				return err
			}
			b, err := suite.Load(args[1])
			if err != nil {
				return err
			}
			differences, compared := suite.Compare(a, b)
			slower := 0
			for _, d := range differences {
				fmt.Println(d)
				if d.Ratio.Value > 1 {
					slower++
				}
			}
			fmt.Printf("%d figures compared, %d slower, %d faster\n", compared, slower, len(differences)-slower)
			if compared == 0 {
				return fmt.Errorf("%s and %s have no figure in common", args[0], args[1])
			}
			if slower > 0 {
				return fmt.Errorf("%d figures are slower", slower)
			}
			return nil
		},
	}
}
