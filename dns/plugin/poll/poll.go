package poll

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// A File is read at once and then again in each period in which it changed. Its fields are set
// before the first call and then left alone.
type File struct {
	Path  string
	Every time.Duration // 0: read once, see Read

	// Load takes what the file holds. It is called by one goroutine at a time.
	Load func(data []byte, changed time.Time) error
	// Failed takes an error of a period. The file is tried again in the next one; an error that
	// stays the same is told once.
	Failed func(error)

	size    int64
	changed time.Time
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// Read loads the file if it changed since the last Read. It may not be called after Start.
func (f *File) Read() error {
	info, err := os.Stat(f.Path)
	if err != nil {
		return err
	}
	if info.Size() == f.size && info.ModTime().Equal(f.changed) {
		return nil
	}
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return err
	}
	// A file that cannot be used is not read again before it changes.
	f.size, f.changed = info.Size(), info.ModTime()
	if err := f.Load(data, f.changed); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

// Start begins to look for changes, until ctx is done or Close is called.
func (f *File) Start(ctx context.Context) {
	if f.Every <= 0 {
		return
	}
	ctx, f.stop = context.WithCancel(ctx)
	f.done.Go(func() {
		tick := time.NewTicker(f.Every)
		defer tick.Stop()
		last := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			text := ""
			if err := f.Read(); err != nil {
				if text = err.Error(); text != last {
					f.Failed(err)
				}
			}
			last = text
		}
	})
}

// Close ends what Start began and waits for it.
func (f *File) Close() {
	if f.stop != nil {
		f.stop()
	}
	f.done.Wait()
}
