// Package slow adds a fixed latency to the calls of an object store, to measure on a local folder what a distant
// store costs. The wait comes before the call: a context that ends during it leaves no effect.
package slow

import (
	"context"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Latency is added before each call. Zero adds nothing.
type Latency struct {
	// Put is for Put, Get for GetRange, Other for Head, List and Delete.
	Put, Get, Other time.Duration
}

// Store waits, then passes calls on.
type Store struct {
	inner   objstore.Store
	latency Latency
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner.
func New(inner objstore.Store, latency Latency) *Store { return &Store{inner: inner, latency: latency} }

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *Store) Calm() bool { return objstore.Calm(s.inner) }

func wait(ctx context.Context, op string, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait before %s: %w", op, ctx.Err())
	}
}

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	if err := wait(ctx, "put", s.latency.Put); err != nil {
		return err
	}
	return s.inner.Put(ctx, key, body)
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	if err := wait(ctx, "get", s.latency.Get); err != nil {
		return err
	}
	return s.inner.GetRange(ctx, key, off, p)
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := wait(ctx, "head", s.latency.Other); err != nil {
		return objstore.Info{}, err
	}
	return s.inner.Head(ctx, key)
}

// List implements [objstore.Store].
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if err := wait(ctx, "list", s.latency.Other); err != nil {
		return nil, false, err
	}
	return s.inner.List(ctx, prefix, after, limit)
}

// Delete implements [objstore.Store].
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := wait(ctx, "delete", s.latency.Other); err != nil {
		return err
	}
	return s.inner.Delete(ctx, keys)
}

// Close closes the wrapped store.
func (s *Store) Close() error { return s.inner.Close() }
