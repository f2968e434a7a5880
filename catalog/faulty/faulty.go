package faulty

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/fault"
)

// ErrCrashed is the answer of a catalog that a fault took away. It wraps catalog.ErrUnavailable.
var ErrCrashed = fmt.Errorf("crashed by plan: %w", catalog.ErrUnavailable)

// Catalog passes calls on, except where its plan says otherwise. Safe for concurrent use.
type Catalog struct {
	*seam
	inner catalog.Catalog
}

// seam has the methods of a Catalog that are of no call: Crash, Crashed and Quiesce.
type seam = fault.Seam[Op]

var _ catalog.Catalog = (*Catalog)(nil)

// New wraps inner. A nil plan has no faults.
func New(inner catalog.Catalog, plan *Plan) *Catalog {
	return &Catalog{fault.NewSeam(plan, fault.Answers{
		Refused: catalog.ErrUnavailable, Crashed: ErrCrashed, Ended: catalog.ErrUnavailable,
	}), inner}
}

// answer is Do for a call that returns something, of which nothing comes through beside an error.
func answer[T any](ctx context.Context, c *Catalog, op Op, call func() (T, error)) (T, error) {
	var out T
	err := c.Do(ctx, op, func() (err error) {
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
	if c.Gone() {
		return nil
	}
	return c.inner.Close()
}
