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
	"github.com/fairway-lb/fairway/bench/stage"
)

// A File is what one cell measured, with what is needed to repeat it.
type File struct {
	Date    string           `json:"date"`
	Command string           `json:"command"`
	Machine machine.Machine  `json:"machine"`
	Data    *datapath.Result `json:"data_path,omitempty"`
	Scale   *Programming     `json:"programming,omitempty"`
	// Names is what package dnsbench measured. It has a file of its own kind, see saveNames.
	Names *dnsbench.Result `json:"-"`
}

// Programming is what package scale measured.
type Programming struct {
	Options scale.Options  `json:"options"`
	Samples []scale.Sample `json:"samples"`
}

// A cell is one measurement.
type cell struct {
	name string
	run  func(ctx context.Context, o Options, f *File) error
}

// Options say what to measure and where to keep it.
type Options struct {
	Quick    bool   // the core figures
	Dir      string // for the results
	Bin      string // directory of the programs
	Command  string // how to repeat it
	Again    bool   // measure also what Dir has already
	Progress func(string)
}

// endpoints are those of each Service, in all cells.
const endpoints = 5

func (o Options) cells() []cell {
	if o.Quick {
		return []cell{
			data(10, false, 10, time.Minute), data(1000, false, 10, time.Minute), data(1000, true, 5, time.Minute),
			programming(1000, 2, 5, 10*time.Second, time.Minute),
			names(2, time.Second, 0, "cluster A"),
		}
	}
	out := []cell{}
	for _, n := range []int{10, 1000, 10_000} {
		for _, v6 := range []bool{false, true} {
			out = append(out, data(n, v6, 20, 5*time.Minute))
		}
	}
	return append(out,
		programming(10, 3, 10, time.Minute, time.Minute), programming(1000, 3, 10, time.Minute, time.Minute),
		programming(10_000, 3, 7, time.Minute, 5*time.Minute),
		programming(30_000, 1, 5, 0, 5*time.Minute), programming(100_000, 1, 3, 0, 5*time.Minute),
		names(5, 2*time.Second, 10_000, ""))
}

func data(services int, v6 bool, rounds int, limit time.Duration) cell {
	c := stage.Cluster{Services: services, Endpoints: endpoints, V6: v6}
	name := fmt.Sprintf("data-path-%d", services)
	if v6 {
		name += "-ipv6"
	}
	return cell{name, func(ctx context.Context, o Options, f *File) error {
		r, err := datapath.Run(ctx, datapath.Options{
			Cluster: c, Rounds: rounds, Limit: limit, Control: stage.Direct.Name, Bin: o.Bin, Progress: o.Progress,
			Subjects: append([]stage.Subject{stage.Direct}, stage.Proxies...),
		})
		f.Data = &r
		return err
	}}
}

func programming(services, runs, changes int, churn, limit time.Duration) cell {
	return cell{fmt.Sprintf("programming-%d", services), func(ctx context.Context, o Options, f *File) error {
		p := &Programming{Options: scale.Options{
			Services: services, Endpoints: endpoints, Runs: runs, Changes: changes, ChurnFor: churn, Limit: limit,
			Bin: o.Bin, Subjects: stage.Proxies, Progress: o.Progress,
		}}
		var err error
		p.Samples, err = scale.Run(ctx, p.Options)
		f.Scale = p
		return err
	}}
}

// namesCell is the name of the cell with the resolvers, and of its file.
const namesCell = "dns"

// names measures the resolvers; only is part of the name of the loads to measure, "" for all.
func names(rounds int, duration time.Duration, services int, only string) cell {
	return cell{namesCell, func(ctx context.Context, o Options, f *File) (err error) {
		d := dnsbench.Options{
			Subjects: dnsbench.Subjects, Rounds: rounds, Duration: duration, Services: services, Endpoints: 10, Changes: 100, Settle: 5 * time.Second,
			Only: only, Bin: o.Bin, Progress: o.Progress,
		}
		r := &dnsbench.Result{Date: f.Date, Command: f.Command, Machine: dnsbench.Machine(o.Bin), Options: d}
		if r.Samples, err = d.Run(ctx); err == nil && services > 0 {
			r.Sizes, err = d.RunSize(ctx)
		}
		f.Names = r
		return err
	}}
}

// Run measures all cells whose files are not there yet. What one cell fails with does not keep
// the others from being measured.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	m := machine.This(o.Bin)
	cells := o.cells()
	var errs []error
	for i, c := range cells {
		path := filepath.Join(o.Dir, c.name+".json")
		if _, err := os.Stat(path); err == nil && !o.Again {
			continue
		}
		f := File{Date: time.Now().UTC().Format(time.DateOnly), Command: o.Command, Machine: m}
		inner := o
		inner.Progress = func(what string) {
			o.Progress(fmt.Sprintf("%d of %d, %s: %s", i+1, len(cells), c.name, what))
		}
		if err := c.run(ctx, inner, &f); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err := save(path, f); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

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

// Load reads the results of a directory by the names of their cells. Files that are no results of
// this package are left out; one that cannot be read is an error.
func Load(dir string) (map[string]File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	out := map[string]File{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		var f File
		name := strings.TrimSuffix(filepath.Base(p), ".json")
		if name == namesCell {
			f.Names = &dnsbench.Result{}
			err = json.Unmarshal(b, f.Names)
		} else {
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		if f.Data != nil || f.Scale != nil || f.Names != nil {
			out[name] = f
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no results in %s: %w", dir, fs.ErrNotExist)
	}
	return out, nil
}
