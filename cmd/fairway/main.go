package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command(os.Args[0]).ExecuteContext(ctx)
	stop()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintf(os.Stderr, "fairway: %v\n", err)
		os.Exit(1)
	}
}

// An exitCode is an error that has been reported already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// noArgs refuses arguments that are not flags.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q: %s takes flags only (see %[2]s --help)", args[0], c.CommandPath())
	}
	return nil
}

// command returns what a program of this name is: kube-proxy is "fairway proxy", and coredns is
// "fairway dns".
func command(argv0 string) *cobra.Command {
	var c *cobra.Command
	switch filepath.Base(argv0) {
	case "kube-proxy":
		c = proxyCommand()
		c.Use = "kube-proxy"
	case "coredns":
		c = dnsCommand()
		c.Use = "coredns"
	default:
		c = &cobra.Command{
			Use:   "fairway",
			Short: "Fairway forwards connections to Kubernetes Services, and resolves their names",
			RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
		}
		c.AddCommand(proxyCommand(), dnsCommand(), renderCommand(), getCommand(), cleanupCommand(), demoCommand(), versionCommand())
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	})
	c.SilenceErrors, c.SilenceUsage = true, true // main reports errors
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}
