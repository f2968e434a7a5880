package storage

import (
	"context"
	"strings"
	"sync"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func bodyOf(s string) objstore.Body { return objstore.NewBody([]byte(s)) }

// gatedStore lets no PUT through until the gate is closed.
type gatedStore struct {
	objstore.Store
	gate <-chan struct{}
}

func (s *gatedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	if strings.HasPrefix(key, markerPrefix) {
		return s.Store.Put(ctx, key, body)
	}
	select {
	case <-s.gate:
		return s.Store.Put(ctx, key, body)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heldStore holds the first PUT until first is closed, and tells when that has begun and the others are done.
type heldStore struct {
	objstore.Store
	once  sync.Once
	first chan struct{}
	puts  chan string
}

func (s *heldStore) Put(ctx context.Context, key string, body objstore.Body) error {
	if strings.HasPrefix(key, markerPrefix) {
		return s.Store.Put(ctx, key, body)
	}
	held := false
	s.once.Do(func() { held = true })
	if held {
		s.puts <- key
		<-s.first
		return s.Store.Put(ctx, key, body)
	}
	err := s.Store.Put(ctx, key, body)
	s.puts <- key
	return err
}
