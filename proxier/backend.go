package proxier

import (
	"context"
	"fmt"
)

// A Backend makes one kernel data plane implement a Snapshot. It is used by one goroutine at a
// time and has no goroutine, ticker or metric of its own: [Loop] owns all timing.
//
// Optional abilities are separate interfaces that callers ask for with a type assertion; see
// [Observer] and [RuleCounter].
type Backend interface {
	// Name is the value of --proxy-mode that selects this backend.
	Name() string

	// Apply makes the kernel implement want, changing as little as it can, and reports what it
	// changed. It is idempotent: a second Apply of the same snapshot changes nothing. The first
	// Apply after start adopts what an earlier process left. If Apply fails, every frontend
	// serves either its old or its new value, and the next Apply reads the kernel again. A
	// [PartialError] is no failure: all was applied but what it names.
	Apply(ctx context.Context, want *Snapshot) (Changes, error)

	// Invalidate makes the next Apply read the kernel again, because something else may have
	// changed it.
	Invalidate()

	// Close releases the backend's handles. It leaves the data plane working.
	Close() error
}

// An Observer is a Backend that can read back what the kernel would do now.
type Observer interface {
	Observe(ctx context.Context) ([]Observed, error)
}

// An Observed is one object of the kernel as a backend reads it back, for people and for tests
// that compare states: equal kernel states give equal lists.
type Observed struct {
	Object string // what it is called in the kernel, such as "ip nat KUBE-SVC-ABCDEF"
	Value  string // its content, without counters
}

// A RuleCounter is a Backend that knows how many rules of its own the kernel has. It is asked between
// two calls of Apply, and reads nothing for the answer.
type RuleCounter interface {
	Rules() []RuleCount
}

// A RuleCount is the number of a backend's rules in one table.
type RuleCount struct {
	Table   string // such as "nat"
	IPv6    bool
	Kept    int // in the kernel
	Written int // by the last Apply
}

// Changes is what an Apply wrote to the kernel.
type Changes struct {
	Added, Updated, Removed int  // kernel objects of the backend's own vocabulary: chains, map entries ...
	Lines                   int  // rules, entries or messages written for them
	Full                    bool // the kernel was read first
}

// IsZero reports whether nothing was written.
func (c Changes) IsZero() bool { return c.Added+c.Updated+c.Removed+c.Lines == 0 }

// String returns the counts for a log line.
func (c Changes) String() string {
	return fmt.Sprintf("added=%d updated=%d removed=%d lines=%d", c.Added, c.Updated, c.Removed, c.Lines)
}

// An OpError is the failure of one kernel operation.
type OpError struct {
	Op     string // such as "iptables-restore"
	Object string // such as "ip nat"
	Err    error
}

// Error returns "op object: err".
func (e *OpError) Error() string { return e.Op + " " + e.Object + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// A PartialError is returned by an Apply that applied everything except for Service ports that the
// kernel refuses; those keep their old value. Trying again is of no use until they change, or
// until the kernel is read again.
type PartialError struct{ Err error }

// Error returns the message of Err.
func (e *PartialError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *PartialError) Unwrap() error { return e.Err }
