// Package retry tries the calls of an object store again, with jittered exponential backoff, until they succeed,
// fail for good, or a budget is used up.
//
// # Puts
//
// A Put is never tried again by guessing. After a failure that leaves it in doubt the next step is
// [objstore.Settle]: an object of our length and checksum under the key is our success, none means trying again, any
// other is [objstore.ErrExists]. So is "exists" after an attempt in doubt: it may be the echo of our own success.
// ErrExists at the first attempt is the caller's to judge and passes unchanged. If the budget ends while the outcome
// is unknown, the error wraps [objstore.ErrInDoubt].
//
// # What is not retried
//
// Errors that [objstore.Retriable] calls final, and the end of the caller's context. A full store is asked a few
// times only ([Policy.NoSpaceAttempts]): waiting for room is the business of somebody who can say so to producers.
package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Policy says how long to try. Zero fields have the defaults named.
type Policy struct {
	// Initial is the longest first wait (50 ms); each later one may be twice as long, up to Max (2 s). A wait is
	// drawn evenly from the upper half of what it may be.
	Initial, Max time.Duration
	// Budget is how long after the start of a call a new attempt may still begin (15 s). An attempt under way is
	// not cut short.
	Budget time.Duration
	// NoSpaceAttempts is how often a call may meet ErrNoSpace before it fails with it (3).
	NoSpaceAttempts int
	// OnRetry, if set, is told before each wait: the call's name, how many attempts failed so far, the last error,
	// the wait. It runs on the caller's goroutine.
	OnRetry func(op string, failed int, err error, wait time.Duration)
}

func (p Policy) withDefaults() Policy {
	if p.Initial <= 0 {
		p.Initial = 50 * time.Millisecond
	}
	if p.Max <= 0 {
		p.Max = 2 * time.Second
	}
	p.Max = max(p.Max, p.Initial)
	if p.Budget <= 0 {
		p.Budget = 15 * time.Second
	}
	if p.NoSpaceAttempts <= 0 {
		p.NoSpaceAttempts = 3
	}
	if p.OnRetry == nil {
		p.OnRetry = func(string, int, error, time.Duration) {}
	}
	return p
}

// Store passes calls on until they succeed.
type Store struct {
	inner  objstore.Store
	policy Policy
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner.
func New(inner objstore.Store, policy Policy) *Store {
	return &Store{inner: inner, policy: policy.withDefaults()}
}

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *Store) Calm() bool { return objstore.Calm(s.inner) }

// run calls step until it returns nil, an error that is final, or the budget is used up.
func (s *Store) run(ctx context.Context, op string, step func() error) error {
	start, noSpace, backoff := time.Now(), 0, s.policy.Initial
	for failed := 1; ; failed++ {
		err := step()
		if err == nil || !objstore.Retriable(err) {
			return err
		}
		if errors.Is(err, objstore.ErrNoSpace) {
			if noSpace++; noSpace >= s.policy.NoSpaceAttempts {
				return err
			}
		}
		wait := backoff/2 + rand.N(backoff/2+1)
		if time.Since(start)+wait > s.policy.Budget {
			return fmt.Errorf("gave up after %d attempts in %s: %w", failed, time.Since(start).Round(time.Millisecond), err)
		}
		s.policy.OnRetry(op, failed, err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			// The last failure is told for people; what callers match on is the context's end.
			return fmt.Errorf("%w after %d failed attempts, the last: %v", ctx.Err(), failed, err) //nolint:errorlint // a second %w would make this error retriable
		}
		backoff = min(backoff*2, s.policy.Max)
	}
}

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	// unsettled: the last attempt may have stored the object. tainted: some attempt may have, or may yet.
	unsettled, tainted := false, false
	err := s.run(ctx, "put", func() error {
		if unsettled {
			done, err := s.settle(ctx, key, body)
			if done || err != nil {
				return err
			}
			unsettled = false
		}
		err := s.inner.Put(ctx, key, body)
		switch {
		case tainted && errors.Is(err, objstore.ErrExists):
			done, settleErr := s.settle(ctx, key, body)
			if settleErr != nil {
				unsettled = true
				return settleErr
			}
			if !done {
				// It was there and is gone: somebody deletes under us.
				return fmt.Errorf("put %s: the object vanished: %w", key, objstore.ErrUnavailable)
			}
			return nil
		case objstore.InDoubt(err):
			unsettled, tainted = true, true
		}
		return err
	})
	if err != nil && tainted && !objstore.InDoubt(err) && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("put %s: %w: %w", key, objstore.ErrInDoubt, err)
	}
	return err
}

// settle returns done if the object is ours, ErrExists if it is somebody else's, and neither if there is none.
func (s *Store) settle(ctx context.Context, key string, body objstore.Body) (done bool, err error) {
	outcome, err := objstore.Settle(ctx, s.inner, key, body.Size, body.Checksum)
	if err != nil {
		return false, err
	}
	if outcome == objstore.Foreign {
		return false, fmt.Errorf("put %s: other bytes are there: %w", key, objstore.ErrExists)
	}
	return outcome == objstore.Stored, nil
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	return s.run(ctx, "get", func() error { return s.inner.GetRange(ctx, key, off, p) })
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.run(ctx, "head", func() (err error) {
		info, err = s.inner.Head(ctx, key)
		return err
	})
	return info, err
}

// List implements [objstore.Store].
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (objects []objstore.Info, more bool, err error) {
	err = s.run(ctx, "list", func() (err error) {
		objects, more, err = s.inner.List(ctx, prefix, after, limit)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return objects, more, nil
}

// Delete implements [objstore.Store]. Each attempt asks only for the keys the one before has left.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	asked := false
	err := s.run(ctx, "delete", func() error {
		err := s.inner.Delete(ctx, keys)
		if left, ok := errors.AsType[*objstore.DeleteError](err); ok {
			keys, asked = left.Left, true
		}
		return err
	})
	if _, ok := errors.AsType[*objstore.DeleteError](err); err != nil && asked && !ok {
		return &objstore.DeleteError{Left: keys, Err: err}
	}
	return err
}

// Close closes the wrapped store. Calls that wait end with its ErrClosed.
func (s *Store) Close() error { return s.inner.Close() }
