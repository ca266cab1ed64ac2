package main

import "github.com/spf13/cobra"

func cleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what the proxy programmed on this node, and only that (root)",
		Long: `Remove what "fairway proxy" programmed on this node, in every backend, and what a kube-proxy
in iptables mode left behind. Everything else stays as it is. End the proxy first: connections
to Services fail afterwards.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return cleanup(c.Context())
		},
	}
}
