package storage

import (
	"context"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func bodyOf(s string) objstore.Body { return objstore.NewBody([]byte(s)) }

// gatedStore lets no PUT through until the gate is closed.
type gatedStore struct {
	objstore.Store
	gate <-chan struct{}
}

func (s *gatedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	select {
	case <-s.gate:
		return s.Store.Put(ctx, key, body)
	case <-ctx.Done():
		return ctx.Err()
	}
}
