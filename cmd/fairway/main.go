package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
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

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "fairway",
		Short:         "Fairway forwards connections to Kubernetes Services",
		Args:          cobra.NoArgs,
		SilenceErrors: true, // main reports them
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(proxyCommand(), cleanupCommand(), demoCommand(), getCommand(), versionCommand())
	return root
}
