package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/iptables/xtables"
	"github.com/fairway-lb/fairway/proxier"
)

// A kernel reads and writes the tables of one address family, in the network namespace of the
// calling thread. All input and output of this package goes through it.
type kernel struct {
	tool      restore.Tool
	intercept func(op, object string) error
	note      func(reason error)
	// misses is how often, in a row, rewrite had to leave it to the tool since the tables were read.
	misses int
}

// maxMisses is after how many misses rewrite gives up: the installed iptables may be one that
// package xtables does not know.
const maxMisses = 3

func newKernel(o Options, variant string, v6 bool) (*kernel, error) {
	wait := o.LockWait
	if wait <= 0 {
		wait = defaultLockWait
	}
	tool, err := restore.Find(variant, v6, wait)
	if err != nil {
		return nil, fmt.Errorf("find iptables (%s): %w", variant, err)
	}
	return &kernel{tool: tool, intercept: o.Intercept, note: o.Note}, nil
}

// family is the word for the address family that nft(8) uses.
func (k *kernel) family() string {
	if k.tool.V6() {
		return "ip6"
	}
	return "ip"
}

// do runs one operation.
func (k *kernel) do(op, table string, f func() error) error {
	object := k.family() + " " + table
	if k.intercept != nil {
		if err := k.intercept(op, object); err != nil {
			return &proxier.OpError{Op: op, Object: object, Err: err}
		}
	}
	if err := f(); err != nil {
		return &proxier.OpError{Op: op, Object: object, Err: err}
	}
	return nil
}

// read returns a table with everything in it.
func (k *kernel) read(ctx context.Context, table string) (restore.Table, error) {
	out := restore.Table{Name: table}
	err := k.do("iptables-save", table, func() error {
		text, err := k.tool.Save(ctx, table)
		if err != nil {
			return err
		}
		all, err := restore.Parse(text)
		if t := all.Table(table); t != nil {
			out = *t
		}
		return err
	})
	return out, err
}

// write hands a script for one table to the kernel, which takes it as a whole or not at all.
func (k *kernel) write(ctx context.Context, table string, script []byte) error {
	return k.do("iptables-restore", table, func() error { return k.tool.Restore(ctx, script) })
}

// rewrite writes chains of a table as a whole, which were what was says. With iptables-legacy it
// first tries without a program, which is faster.
func (k *kernel) rewrite(ctx context.Context, table string, was map[string]restore.Chain, chains []restore.Chain) error {
	if k.rewrites() {
		var edits []xtables.Edit
		for _, c := range chains {
			edits = append(edits, xtables.Edit{Chain: c.Name, Was: was[c.Name].Rules, Want: c.Rules})
		}
		err := k.do("rewrite", table, func() error { return xtables.Rewrite(table, k.tool.V6(), edits) })
		if err == nil {
			k.misses = 0
			return nil
		}
		if !errors.Is(err, xtables.ErrBusy) {
			k.misses++
		}
		if k.note != nil {
			k.note(err)
		}
	}
	return k.write(ctx, table, scriptOf(table, chains, nil, nil, nil))
}

// rewrites reports whether rewrite may do without a program.
func (k *kernel) rewrites() bool {
	return k.tool.Variant() == restore.Legacy && k.misses < maxMisses
}

// refused reports whether err says that the kernel or the tool found a script wrong.
func refused(err error) bool {
	var exit *restore.ExitError
	return errors.As(err, &exit) && exit.Refused()
}

// exists reports whether looking at a table has no side effect: iptables-legacy creates a table
// that somebody asks for.
func (k *kernel) exists(table string) bool {
	if k.tool.Variant() != restore.Legacy {
		return true
	}
	names, err := os.ReadFile("/proc/thread-self/net/" + map[bool]string{false: "ip", true: "ip6"}[k.tool.V6()] + "_tables_names")
	return err == nil && strings.Contains("\n"+string(names), "\n"+table+"\n")
}

// readSysctl returns the value of a sysctl in the namespace of the calling thread, "" if there
// is none.
func readSysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
