package metrics

import (
	"context"
	"fmt"
	"sync"
)

// readiness shares one check among all who ask while it runs: a flood of /ready must not become a flood of pings of the
// catalog, nor one that hangs a goroutine for each. (singleflight has no end of time that is the same for all.)
type readiness struct {
	mu struct {
		sync.Mutex
		running *readyCheck
	}
}

// readyCheck is one check under way.
type readyCheck struct {
	ctx  context.Context // ends when the answer is too late
	done chan struct{}
	err  error // once done
}

// ask returns what the check says that runs, or that it begins. Whoever asks waits no longer than that check may take, and one
// that hangs is known to hang; its answer, should it come, is for nobody.
func (r *readiness) ask(ctx context.Context, check func(context.Context) error) error {
	c := r.join(ctx, check)
	select {
	case <-c.done:
		return c.err
	case <-c.ctx.Done():
		select {
		case <-c.done: // which ends the context, too
			return c.err
		default:
			return errReadyLate
		}
	case <-ctx.Done():
		return fmt.Errorf("check readiness: %w", ctx.Err())
	}
}

// join returns the check that runs, beginning it when needed. It outlives who began it, for others may wait for it.
func (r *readiness) join(ctx context.Context, check func(context.Context) error) *readyCheck {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.mu.running; c != nil {
		return c
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	c := &readyCheck{ctx: ctx, done: make(chan struct{})}
	r.mu.running = c
	go func() {
		defer cancel()
		if c.err = check(ctx); c.err == nil && ctx.Err() != nil {
			c.err = errReadyLate
		}
		r.mu.Lock()
		r.mu.running = nil
		r.mu.Unlock()
		close(c.done)
	}()
	return c
}
