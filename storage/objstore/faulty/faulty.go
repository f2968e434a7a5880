package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// ErrCrashed is the answer of a store that a fault took away. It wraps objstore.ErrClosed, so nobody retries it.
var ErrCrashed = fmt.Errorf("crashed by plan: %w", objstore.ErrClosed)

// errPlanned marks errors made here.
var errPlanned = errors.New("planned fault")

// Store passes calls on, except where its plan says otherwise.
type Store struct {
	inner   objstore.Store
	plan    *Plan
	crashed chan struct{}

	mu struct {
		sync.Mutex

		crashed  bool
		underway int
		idle     chan struct{} // closed when underway falls to 0; nil if nobody waits
	}
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner. A nil plan has no faults.
func New(inner objstore.Store, plan *Plan) *Store {
	if plan == nil {
		plan = NewPlan()
	}
	return &Store{inner: inner, plan: plan, crashed: make(chan struct{})}
}

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *Store) Calm() bool { return objstore.Calm(s.inner) }

// Crash takes the store away now.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.crashed {
		s.mu.crashed = true
		close(s.crashed)
	}
}

// Crashed is closed once the store was taken away.
func (s *Store) Crashed() <-chan struct{} { return s.crashed }

// Quiesce waits until no call is in the wrapped store, or ctx ends.
func (s *Store) Quiesce(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.mu.underway == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.mu.idle == nil {
			s.mu.idle = make(chan struct{})
		}
		idle := s.mu.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("wait for calls under way: %w", ctx.Err())
		}
	}
}

// apply runs call on the wrapped store, unless crashed.
func (s *Store) apply(call func() error) error {
	s.mu.Lock()
	if s.mu.crashed {
		s.mu.Unlock()
		return ErrCrashed
	}
	s.mu.underway++
	s.mu.Unlock()

	err := call()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.underway--; s.mu.underway == 0 && s.mu.idle != nil {
		close(s.mu.idle)
		s.mu.idle = nil
	}
	if s.mu.crashed {
		return ErrCrashed // the process that asked is gone
	}
	return err
}

// do runs call as the plan says. p is what a GetRange fills, nil for other calls.
func (s *Store) do(ctx context.Context, op Op, p []byte, call func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err) // not counted: it would not have been sent
	}
	select {
	case <-s.crashed:
		return ErrCrashed // not counted either: the plan speaks of calls before the crash
	default:
	}
	f, ok := s.plan.next(op)
	if !ok {
		return s.apply(call)
	}
	err := s.fail(ctx, op, f, p, call)
	if f.Crash {
		s.Crash()
		return ErrCrashed
	}
	return err
}

func (s *Store) fail(ctx context.Context, op Op, f Fault, p []byte, call func() error) error {
	planned := f.Err
	if planned == nil {
		planned = objstore.ErrUnavailable
	}
	planned = fmt.Errorf("%s: %w: %s: %w", op, errPlanned, f, planned)
	switch f.Kind {
	case Slow:
		if err := s.wait(ctx, op, f); err != nil {
			return err
		}
		return s.apply(call)
	case Lost:
		if err := s.apply(call); errors.Is(err, ErrCrashed) {
			return err
		}
		return planned
	case Truncate:
		if op != OpGet {
			return planned
		}
		if err := s.apply(call); err != nil {
			return err
		}
		clear(p[len(p)/2:])
		return fmt.Errorf("%s: %w: %s: %w", op, errPlanned, f, io.ErrUnexpectedEOF)
	case Corrupt:
		if op != OpGet {
			return planned
		}
		if err := s.apply(call); err != nil {
			return err
		}
		if len(p) > 0 {
			p[len(p)/2] ^= 1
		}
		return nil
	default: // Refuse, and kinds unknown
		return planned
	}
}

func (s *Store) wait(ctx context.Context, op Op, f Fault) error {
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
		return fmt.Errorf("%s: %w: %s: %w", op, errPlanned, f, ctx.Err())
	case <-s.crashed:
		return ErrCrashed
	}
	return nil
}

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	return s.do(ctx, OpPut, nil, func() error { return s.inner.Put(ctx, key, body) })
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	return s.do(ctx, OpGet, p, func() error { return s.inner.GetRange(ctx, key, off, p) })
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.do(ctx, OpHead, nil, func() (err error) {
		info, err = s.inner.Head(ctx, key)
		return err
	})
	if err != nil {
		return objstore.Info{}, err
	}
	return info, nil
}

// List implements [objstore.Store].
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (objects []objstore.Info, more bool, err error) {
	err = s.do(ctx, OpList, nil, func() (err error) {
		objects, more, err = s.inner.List(ctx, prefix, after, limit)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return objects, more, nil
}

// Delete implements [objstore.Store]. A planned error comes as the contract's: a DeleteError naming all keys.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	err := s.do(ctx, OpDelete, nil, func() error { return s.inner.Delete(ctx, keys) })
	if errors.Is(err, errPlanned) && len(keys) > 0 {
		return &objstore.DeleteError{Left: append([]string(nil), keys...), Err: err}
	}
	return err
}

// Close closes the wrapped store, unless it crashed: then the wrapped store belongs to the next process.
func (s *Store) Close() error {
	select {
	case <-s.crashed:
		return nil
	default:
		return s.inner.Close()
	}
}
