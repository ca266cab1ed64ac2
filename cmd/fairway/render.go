package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/admin"
	"github.com/fairway-lb/fairway/proxier/config"
	"github.com/fairway-lb/fairway/proxier/resolve"
	"github.com/fairway-lb/fairway/proxier/watch"
)

func renderCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "render --manifests DIR [-o FORMAT] [flags of fairway proxy]",
		Short: "Print what the proxy would program for a folder of manifests",
		Long: `Print what "fairway proxy" would program on this node for a folder of manifests. Nothing is
programmed, and no privileges are needed. The text form is input for iptables-restore and
ip6tables-restore; problems are told on standard error. The JSON form holds frontends and
problems too.`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
	}
	flags := config.AddFlags(c.Flags())
	var format string
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := flags.Config(backends)
		switch {
		case err != nil:
			return err
		case cfg.Manifests == "":
			return errors.New("render: --manifests DIR is missing: the folder whose Services to show")
		case format != "text" && format != "json":
			return fmt.Errorf("--output %q: want text or json", format)
		}
		s := settingsOf(cfg)
		// What is printed must not depend on the machine that prints it.
		s.resolve.IPv6, s.iptables.IPv6 = true, true
		return render(c.OutOrStdout(), c.ErrOrStderr(), s, format == "json")
	}
	return c
}

// A rendering is the JSON form of what would be programmed.
type rendering struct {
	Backend   string           `json:"backend"`
	Frontends []admin.Frontend `json:"frontends"`
	Problems  []admin.Problem  `json:"problems"`
	IPTables  iptables.Program `json:"iptables"`
}

// render writes what a proxy with these settings would program. Manifests that cannot be read
// are an error, after the rest has been written.
func render(w, problems io.Writer, s settings, asJSON bool) error {
	snapshot, bad := readOnce(s)
	if snapshot == nil {
		return bad
	}
	program := iptables.Compile(snapshot, s.iptables)
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err := e.Encode(rendering{s.mode, admin.Frontends(snapshot, ""), admin.Problems(snapshot, ""), program})
		return errors.Join(bad, err)
	}
	for _, p := range snapshot.Problems {
		fmt.Fprintln(problems, p)
	}
	_, err := io.WriteString(w, program.String())
	return errors.Join(bad, err)
}

// readOnce resolves a folder of manifests. The snapshot is nil if the folder cannot be read;
// otherwise an error tells of the files that cannot.
func readOnce(s settings) (*proxier.Snapshot, error) {
	objects, err := watch.ReadManifests(watch.ManifestOptions{Dir: s.manifests, NodeName: s.resolve.NodeName, Log: slog.New(slog.DiscardHandler)})
	store := watch.NewStore()
	store.Replace(objects)
	if err != nil && len(objects.Services) == 0 {
		return nil, err
	}
	out := *resolve.New(s.resolve).Resolve(store.Inputs())
	out.Problems = append(slices.Clone(store.Problems()), out.Problems...)
	return &out, err
}
