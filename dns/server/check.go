package server

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin/logging"
	"github.com/fairway-lb/fairway/proxier/names"
)

// Check makes everything that a configuration asks for and throws it away: what it returns is why a
// server would refuse to start with it, such as a template that does not parse. No socket is bound
// and no cluster is asked, but host names of forward are looked up.
func Check(cfg *corefile.Config, log *slog.Logger) error {
	s := New(Options{Log: log, NewSource: func(*corefile.Kubernetes) (names.Source, func(context.Context) error, error) {
		return nowhere{}, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil
	}})
	s.sink = logging.NewSink(io.Discard, 1)
	defer s.sink.Close()
	g, err := s.build(cfg, nil)
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(g.made) {
		p.close()
	}
	return nil
}

// nowhere is the source of a cluster that never says anything.
type nowhere struct{}

func (nowhere) Inputs() names.Inputs     { return names.Inputs{} }
func (nowhere) Changed() <-chan struct{} { return nil }
func (nowhere) Synced() <-chan struct{}  { return nil }
func (nowhere) Staleness() time.Duration { return 0 }
