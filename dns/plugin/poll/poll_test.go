package poll

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFile has a file that is swapped by its symbolic link, as ConfigMaps are, that cannot be used,
// that goes away and that comes back.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	point := func(text string, n int64) {
		t.Helper()
		path := filepath.Join(dir, text)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Time{}, time.Unix(n, 0)),
			os.Symlink(path, link+".new"), os.Rename(link+".new", link)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var loaded, failed []string
		errBad := errors.New("cannot be used")
		f := &File{Path: link, Every: time.Second,
			Load: func(data []byte, _ time.Time) error {
				if loaded = append(loaded, string(data)); string(data) == "bad" {
					return errBad
				}
				return nil
			},
			Failed: func(err error) { failed = append(failed, err.Error()) },
		}
		if err := f.Read(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
		f.Start(t.Context())
		steps := []func(){
			func() { point("one", 1) },
			func() { point("two", 2) },
			func() { point("bad", 3) },
			func() { _ = os.Remove(link) },
			func() { point("two", 2) },
		}
		for _, step := range steps {
			step()
			time.Sleep(5*time.Second + time.Millisecond)
		}
		f.Close()
		point("six", 6)
		time.Sleep(5 * time.Second)
		if diff := cmp.Diff([]string{"one", "two", "bad", "two"}, loaded); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{link + ": cannot be used", "stat " + link + ": no such file or directory"}, failed); diff != "" {
			t.Error(diff)
		}
	})
}
