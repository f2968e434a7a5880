package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/streamhouse/streamhouse/internal/fault"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// ErrCrashed is the answer of a store that a fault took away. It wraps objstore.ErrClosed, so nobody retries it.
var ErrCrashed = fmt.Errorf("crashed by plan: %w", objstore.ErrClosed)

// Store passes calls on, except where its plan says otherwise.
type Store struct {
	*seam
	inner objstore.Store
}

// seam has the methods of a Store that are of no call: Crash, Crashed and Quiesce.
type seam = fault.Seam[Op]

var _ objstore.Store = (*Store)(nil)

// New wraps inner. A nil plan has no faults.
func New(inner objstore.Store, plan *Plan) *Store {
	return &Store{fault.NewSeam(plan, fault.Answers{Refused: objstore.ErrUnavailable, Crashed: ErrCrashed}), inner}
}

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *Store) Calm() bool { return objstore.Calm(s.inner) }

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	return s.Do(ctx, OpPut, func() error { return s.inner.Put(ctx, key, body) })
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	return s.DoRead(ctx, OpGet, func() error { return s.inner.GetRange(ctx, key, off, p) }, func(kind Kind) error {
		if kind == Truncate {
			clear(p[len(p)/2:])
			return io.ErrUnexpectedEOF
		}
		if len(p) > 0 {
			p[len(p)/2] ^= 1
		}
		return nil
	})
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.Do(ctx, OpHead, func() (err error) {
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
	err = s.Do(ctx, OpList, func() (err error) {
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
	err := s.Do(ctx, OpDelete, func() error { return s.inner.Delete(ctx, keys) })
	if errors.Is(err, fault.ErrPlanned) && len(keys) > 0 {
		return &objstore.DeleteError{Left: append([]string(nil), keys...), Err: err}
	}
	return err
}

// Close closes the wrapped store, unless it crashed: then the wrapped store belongs to the next process.
func (s *Store) Close() error {
	if s.Gone() {
		return nil
	}
	return s.inner.Close()
}
