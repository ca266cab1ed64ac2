package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// ManifestOptions say which folder Manifests follows.
type ManifestOptions struct {
	// Dir is the folder. Its files named *.yaml, *.yml and *.json are read, but for those
	// whose name starts with a dot. Sub-folders are not.
	Dir string
	// NodeName is the node whose Node object counts; there need not be one.
	NodeName string
	// Settle is for how long the folder must be quiet after a change before it is read, so that
	// half-written files are not; 0 means 50 ms. At most ten times that is waited.
	Settle time.Duration
	// Rescan is how often the folder is looked at without a notification: for file systems that
	// give none, and for files that are links into other folders; 0 means 10 s.
	Rescan time.Duration
	// Names also reads Namespaces, Pods and ServiceImports, which a proxy ignores.
	Names bool
	// Log receives what could not be read, once per file and state. Nil means slog.Default.
	Log *slog.Logger
}

// A Replacer takes a whole state at once: a [Store] or a [Names].
type Replacer interface {
	Replace(Objects)
}

// Both hands a state to several Replacers, in their order. A Store must come last: it trims the
// objects.
func Both(list ...Replacer) Replacer { return replacers(list) }

type replacers []Replacer

// Replace hands the state on.
func (r replacers) Replace(o Objects) {
	for _, x := range r {
		x.Replace(o)
	}
}

// Manifests keeps store equal to a folder of manifests until ctx is done, then returns nil. It
// returns an error at once if the folder cannot be read.
//
// The files hold what `kubectl get -o yaml` or `-o json` prints of Services, EndpointSlices,
// Nodes and ServiceCIDRs, List kinds included; objects of other kinds are ignored. Fields are
// checked strictly. A file with an error in it changes nothing: its last good state stays in
// force, and a problem of kind Manifest (see [Store.Problems]) and a line of log name file, line
// and field. If two files define an object, the first by file name wins.
//
// A write that replaces a file by rename is atomic, as is the symlink swap by which Kubernetes
// updates a ConfigMap volume; other writes are read when they have settled.
func Manifests(ctx context.Context, store Replacer, o ManifestOptions) error {
	f := newFolder(o)
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", o.Dir, err)
	}
	defer w.Close()
	if err := w.Add(o.Dir); err != nil {
		return fmt.Errorf("watch %s: %w", o.Dir, err)
	}
	if _, err := f.refresh(); err != nil {
		return err
	}
	store.Replace(f.objects())
	tick := time.NewTicker(f.Rescan)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.Errors: // an overflow: something changed
		case <-w.Events:
		}
		// Also after a tick, which may come while somebody writes.
		if !settle(ctx, func() <-chan fsnotify.Event { return w.Events }, f.Settle, 10*f.Settle) {
			return nil
		}
		// Add follows a folder that was replaced by another of its name; for the same folder
		// it does nothing.
		err := w.Add(o.Dir)
		changed := false
		if err == nil {
			changed, err = f.refresh()
		}
		if f.fault(err) || changed {
			store.Replace(f.objects())
		}
	}
}

// ReadManifests reads the folder once. The error joins a [ManifestError] for everything that
// could not be read, whose files are left out; the other objects are good. Problems of good
// files, such as an object defined twice, are among the objects.
func ReadManifests(o ManifestOptions) (Objects, error) {
	o.Log = slog.New(slog.DiscardHandler)
	f := newFolder(o)
	if _, err := f.refresh(); err != nil {
		return Objects{}, err
	}
	var errs []error
	for _, name := range f.names() {
		errs = append(errs, f.files[name].errs...)
	}
	return f.objects(), errors.Join(errs...)
}

// A folder remembers the last good state of each file.
type folder struct {
	ManifestOptions
	files map[string]*file
	err   string // why the folder cannot be read
}

type file struct {
	info    os.FileInfo
	read    time.Time
	good    []manifest
	errs    []error
	errText string
}

func newFolder(o ManifestOptions) *folder {
	if o.Settle <= 0 {
		o.Settle = 50 * time.Millisecond
	}
	if o.Rescan <= 0 {
		o.Rescan = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &folder{ManifestOptions: o, files: map[string]*file{}}
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// refresh brings every file up to date and reports whether any differs from before. It fails,
// and changes nothing, if the folder cannot be listed.
func (f *folder) refresh() (changed bool, err error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return false, fmt.Errorf("read manifests: %w", err)
	}
	now := map[string]*file{}
	for _, e := range entries {
		if name := e.Name(); isManifest(name) {
			old := f.files[name]
			if file := f.readFile(name, old); file != nil {
				now[name] = file
				changed = changed || file != old
			}
		}
	}
	changed = changed || len(now) != len(f.files)
	f.files = now
	return changed, nil
}

// racy is how much older than its reading a file must be for its time to prove that it did not
// change afterwards; file systems keep coarse times.
const racy = time.Second

// readFile returns the present state of one file: old itself if it did not change, nil if there
// is no such file.
func (f *folder) readFile(name string, old *file) *file {
	path := filepath.Join(f.Dir, name)
	now := &file{read: time.Now()}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.IsDir():
		return nil
	case err == nil && old.same(info):
		return old
	case err == nil && !info.Mode().IsRegular(): // reading a pipe could take for ever
		err = errors.New("not a regular file")
	}
	var data []byte
	if err == nil {
		now.info = info
		data, err = os.ReadFile(path)
	}
	var ignored map[string]int
	if err == nil {
		now.good, ignored, now.errs = readManifest(name, data, f.Names)
	} else {
		now.errs = []error{&ManifestError{File: name, Msg: err.Error()}}
	}
	if len(ignored) > 0 {
		f.Log.Debug("manifest holds objects of other kinds", "file", path, "ignored", ignored)
	}
	if now.errs != nil {
		now.errText = errors.Join(now.errs...).Error()
		if old != nil {
			now.good = old.good
		}
		if old == nil || old.errText != now.errText {
			f.Log.Error("manifest has errors; the last good state of the file stays in force",
				"file", path, "err", now.errText)
		}
	}
	return now
}

// same reports whether f was certainly read from the file that info tells of.
func (f *file) same(info os.FileInfo) bool {
	return f != nil && f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && f.read.Sub(info.ModTime()) > racy
}

func (f *folder) names() []string { return slices.Sorted(maps.Keys(f.files)) }
