package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/machine"
	"github.com/fairway-lb/fairway/bench/scale"
)

// A File is what one cell measured, with what is needed to repeat it. Results are kept as they were
// written: keys that nothing reads any more are left out when they are loaded, and say nothing that
// others do not say. These are, in samples of package scale of November 2026, change_cpu_ns, and
// cpu_ns of rolling and churn: the CPU time of changes, which their costs have. TestCommittedKeys
// knows them all; any other key that is not read would be a figure that got lost.
type File struct {
	Date    string           `json:"date"`
	Command string           `json:"command"`
	Machine machine.Machine  `json:"machine"`
	Data    *datapath.Result `json:"data_path,omitempty"`
	Scale   *Programming     `json:"programming,omitempty"`
	// Names is what package dnsbench measured. It has a file of its own kind, see save.
	Names *dnsbench.Result `json:"-"`
}

// Programming is what package scale measured.
type Programming struct {
	Options scale.Options  `json:"options"`
	Samples []scale.Sample `json:"samples"`
}

// A Plan is what to measure, and how thoroughly.
type Plan int

// The plans.
const (
	Full      Plan = iota
	Quick          // the core figures
	Rehearsal      // everything, so briefly that the figures say little: whether it works
)

// Options say what to measure and where to keep it.
type Options struct {
	Plan    Plan
	Dir     string // for the results; what it has already is not measured again
	Bin     string // directory of the programs
	Command string // how to repeat it
	// Progress is told in a few words what is being done.
	Progress func(string)
}

// Run measures all cells whose files are not there yet. What one cell fails with does not keep
// the others from being measured.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	m := machine.This(o.Bin)
	var todo []cell
	for _, c := range o.cells() {
		if _, err := os.Stat(o.path(c)); err != nil {
			todo = append(todo, c)
		}
	}
	clock := newClock(todo)
	var errs []error
	for _, c := range todo {
		f := File{Date: time.Now().UTC().Format(time.DateOnly), Command: o.Command, Machine: m}
		inner := o
		inner.Progress = func(what string) { o.Progress(clock.line(time.Now()) + c.name + ": " + what) }
		err := c.run(ctx, inner, &f)
		clock.done(time.Now())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err := save(o.path(c), f); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (o Options) path(c cell) string { return filepath.Join(o.Dir, c.name+".json") }

// A clock knows how much of a plan is done. What is left is taken to be as much slower or faster
// than it should be as what is done.
type clock struct {
	todo     []cell
	ended    int
	begin    time.Time // of the plan
	cell     time.Time // of the present cell
	expected time.Duration
}

func newClock(todo []cell) *clock {
	now := time.Now()
	return &clock{todo: todo, begin: now, cell: now}
}

// done ends the present cell.
func (c *clock) done(now time.Time) {
	c.expected += c.todo[c.ended].about
	c.ended++
	c.cell = now
}

// line is a bar, the time left, and which cell of how many it is.
func (c *clock) line(now time.Time) string {
	all := time.Duration(0)
	for _, x := range c.todo {
		all += x.about
	}
	present := min(now.Sub(c.cell), c.todo[c.ended].about)
	left := all - c.expected - present
	if c.expected > 0 {
		left = time.Duration(float64(left) * c.cell.Sub(c.begin).Seconds() / c.expected.Seconds())
	}
	const width = 20
	full := int(width * (c.expected + present) / max(1, all))
	return fmt.Sprintf("[%s%s] %.0f min left; %d of %d, ", strings.Repeat("=", full), strings.Repeat(" ", width-full),
		left.Minutes(), c.ended+1, len(c.todo))
}

// Publish moves the results of one directory into another, in the place of all that it has.
func Publish(from, to string) error {
	old, err := filepath.Glob(filepath.Join(to, "*.json"))
	if err != nil {
		return err
	}
	for _, p := range old {
		if len(place(cellOf(p))) == 3 { // else it is of another program
			if err := os.Remove(p); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	fresh, err := filepath.Glob(filepath.Join(from, "*.json"))
	if err != nil {
		return err
	}
	for _, p := range fresh {
		if err := os.Rename(p, filepath.Join(to, filepath.Base(p))); err != nil {
			return err
		}
	}
	return os.Remove(from)
}

// cellOf is the name of the cell of a file.
func cellOf(path string) string { return strings.TrimSuffix(filepath.Base(path), ".json") }

// save writes a file at once or not at all.
func save(path string, f File) error {
	var content any = f
	if f.Names != nil {
		content = f.Names // as "bench dns" writes it
	}
	b, err := json.MarshalIndent(content, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// load reads the result of one cell. That of another program has nothing in it.
func load(path string) (f File, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if cellOf(path) == namesCell {
		f.Names = &dnsbench.Result{}
		err = json.Unmarshal(b, f.Names)
		f.Date, f.Command, f.Machine = f.Names.Date, f.Names.Command, f.Names.Machine
	} else {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Load reads the results of a directory by the names of their cells. Files that are no results of
// this package are left out; one that cannot be read is an error.
func Load(dir string) (map[string]File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	out := map[string]File{}
	for _, p := range paths {
		f, err := load(p)
		if err != nil {
			return nil, err
		}
		if f.Data != nil || f.Scale != nil || f.Names != nil {
			out[cellOf(p)] = f
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no results in %s: %w", dir, fs.ErrNotExist)
	}
	return out, nil
}
