package faulty

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ErrCrashed is the answer of a catalog that a fault took away. It wraps catalog.ErrUnavailable.
var ErrCrashed = fmt.Errorf("crashed by plan: %w", catalog.ErrUnavailable)

// errPlanned marks errors made here.
var errPlanned = errors.New("planned fault")

// Catalog passes calls on, except where its plan says otherwise. Safe for concurrent use.
type Catalog struct {
	inner   catalog.Catalog
	plan    *Plan
	crashed chan struct{}

	mu struct {
		sync.Mutex

		crashed  bool
		underway int
		idle     chan struct{} // closed when underway falls to 0; nil if nobody waits
	}
}

var _ catalog.Catalog = (*Catalog)(nil)

// New wraps inner. A nil plan has no faults.
func New(inner catalog.Catalog, plan *Plan) *Catalog {
	if plan == nil {
		plan = NewPlan()
	}
	return &Catalog{inner: inner, plan: plan, crashed: make(chan struct{})}
}

// Crash takes the catalog away now.
func (c *Catalog) Crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.crashed {
		c.mu.crashed = true
		close(c.crashed)
	}
}

// Crashed is closed once the catalog was taken away.
func (c *Catalog) Crashed() <-chan struct{} { return c.crashed }

// Quiesce waits until no call is in the wrapped catalog, or ctx ends.
func (c *Catalog) Quiesce(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.mu.underway == 0 {
			c.mu.Unlock()
			return nil
		}
		if c.mu.idle == nil {
			c.mu.idle = make(chan struct{})
		}
		idle := c.mu.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("wait for calls under way: %w", ctx.Err())
		}
	}
}

// apply runs call on the wrapped catalog, unless crashed.
func (c *Catalog) apply(call func() error) error {
	c.mu.Lock()
	if c.mu.crashed {
		c.mu.Unlock()
		return ErrCrashed
	}
	c.mu.underway++
	c.mu.Unlock()

	err := call()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.underway--; c.mu.underway == 0 && c.mu.idle != nil {
		close(c.mu.idle)
		c.mu.idle = nil
	}
	if c.mu.crashed {
		return ErrCrashed // the process that asked is gone
	}
	return err
}

// do runs call as the plan says.
func (c *Catalog) do(ctx context.Context, op Op, call func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", op, catalog.ErrUnavailable, err) // not counted: it would not have been sent
	}
	select {
	case <-c.crashed:
		return ErrCrashed // not counted either: the plan speaks of calls before the crash
	default:
	}
	f, ok := c.plan.next(op)
	if !ok {
		return c.apply(call)
	}
	err := c.fail(ctx, op, f, call)
	if f.Crash {
		c.Crash()
		return ErrCrashed
	}
	return err
}

func (c *Catalog) fail(ctx context.Context, op Op, f Fault, call func() error) error {
	planned := f.Err
	if planned == nil {
		planned = catalog.ErrUnavailable
	}
	planned = fmt.Errorf("%s: %w: %s: %w", op, errPlanned, f, planned)
	switch f.Kind {
	case Slow:
		if err := c.wait(ctx, op, f); err != nil {
			return err
		}
		return c.apply(call)
	case Lost:
		if err := c.apply(call); errors.Is(err, ErrCrashed) {
			return err
		}
		return planned
	default: // Refuse, and kinds unknown
		return planned
	}
}

func (c *Catalog) wait(ctx context.Context, op Op, f Fault) error {
	var elapsed <-chan time.Time
	if f.Gate == nil {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-f.Gate:
	case <-elapsed:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %s: %w: %w", op, errPlanned, f, catalog.ErrUnavailable, ctx.Err())
	case <-c.crashed:
		return ErrCrashed
	}
	return nil
}

// answer is do for a call that returns something, of which nothing comes through beside an error.
func answer[T any](ctx context.Context, c *Catalog, op Op, call func() (T, error)) (T, error) {
	var out T
	err := c.do(ctx, op, func() (err error) {
		out, err = call()
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return out, nil
}

// Close closes the wrapped catalog, unless it crashed: then the wrapped catalog belongs to the next process.
func (c *Catalog) Close() error {
	select {
	case <-c.crashed:
		return nil
	default:
		return c.inner.Close()
	}
}
