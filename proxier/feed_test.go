package proxier

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFeedStartsEmpty(t *testing.T) {
	var f Feed
	s, changed := f.Current()
	if s != nil {
		t.Errorf("snapshot %v before the first", s)
	}
	select {
	case <-changed:
		t.Error("changed before the first snapshot")
	default:
	}
	f.Publish(revision(1))
	<-changed
	if s, _ := f.Current(); s.Revision != 1 {
		t.Errorf("revision %d, want 1", s.Revision)
	}
}

func TestFeedIsSilentAboutTheSameSnapshot(t *testing.T) {
	var f Feed
	s := revision(1)
	f.Publish(s)
	_, changed := f.Current()
	f.Publish(s)
	select {
	case <-changed:
		t.Error("a snapshot that was current already woke a reader")
	default:
	}
}

// TestFeedNeverMissesTheLast: slow readers miss snapshots in the middle, but every one of them
// sees the last, and revisions never go back.
func TestFeedNeverMissesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const last = 1000
		var f Feed
		var wg sync.WaitGroup
		for reader := range 4 {
			wg.Go(func() {
				seen := uint64(0)
				for seen < last {
					s, changed := f.Current()
					if s != nil {
						if s.Revision < seen {
							t.Errorf("reader %d: revision %d after %d", reader, s.Revision, seen)
							return
						}
						seen = s.Revision
					}
					if seen < last {
						<-changed
						time.Sleep(time.Duration(reader) * 3 * time.Millisecond)
					}
				}
			})
		}
		for n := range last {
			f.Publish(revision(uint64(n + 1)))
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
	})
}
