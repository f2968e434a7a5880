// Package memory keeps objects in a map. It has the semantics of the contract, the durability of a process, and is
// for tests and throw-away brokers.
//
// Bytes are copied in and out: neither a caller that reuses its buffers nor one that scribbles on what it read can
// change an object. The checksum of each Put is verified, so that every test with this store checks its callers'
// arithmetic. One mutex guards the map and is never held while copying bodies.
package memory

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Store is an [objstore.Store] in memory.
type Store struct {
	mu struct {
		sync.RWMutex

		objects map[string]object
		bytes   int64
		closed  bool
	}
}

// object is immutable once it is in the map.
type object struct {
	data     []byte
	checksum uint32
	put      time.Time
}

var _ objstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	s := &Store{}
	s.mu.objects = make(map[string]object)
	return s
}

// Bytes returns the size of all objects together.
func (s *Store) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.bytes
}

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	if err := s.check(ctx, "put", key); err != nil {
		return err
	}
	if err := objstore.ValidateBody(body); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	data := make([]byte, 0, body.Size)
	for _, slice := range body.Slices {
		data = append(data, slice...)
	}
	if sum := objstore.Checksum(data); sum != body.Checksum {
		return fmt.Errorf("put %s: %w: the bytes have %08x, the caller says %08x", key, objstore.ErrChecksum, sum, body.Checksum)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return fmt.Errorf("put %s: %w", key, objstore.ErrClosed)
	}
	if _, ok := s.mu.objects[key]; ok {
		return fmt.Errorf("put %s: %w", key, objstore.ErrExists)
	}
	s.mu.objects[key] = object{data: data, checksum: body.Checksum, put: time.Now()}
	s.mu.bytes += body.Size
	return nil
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	if err := s.check(ctx, "get", key); err != nil {
		return err
	}
	if off < 0 {
		return fmt.Errorf("get %s: %w: offset %d", key, objstore.ErrInvalidRange, off)
	}
	if len(p) == 0 {
		return nil
	}
	o, ok := s.object(key)
	if !ok {
		return fmt.Errorf("get %s: %w", key, objstore.ErrNotFound)
	}
	if off >= int64(len(o.data)) || copy(p, o.data[off:]) < len(p) {
		return fmt.Errorf("get %s: %d bytes at %d of %d: %w", key, len(p), off, len(o.data), io.ErrUnexpectedEOF)
	}
	return nil
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := s.check(ctx, "head", key); err != nil {
		return objstore.Info{}, err
	}
	o, ok := s.object(key)
	if !ok {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, objstore.ErrNotFound)
	}
	return o.info(key), nil
}

// List implements [objstore.Store].
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if err := s.check(ctx, "list", ""); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > objstore.MaxList {
		limit = objstore.MaxList
	}
	var found []objstore.Info
	s.mu.RLock()
	for key, o := range s.mu.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			found = append(found, o.info(key))
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(found, func(a, b objstore.Info) int { return strings.Compare(a.Key, b.Key) })
	if len(found) > limit {
		return found[:limit:limit], true, nil
	}
	return found, false, nil
}

// Delete implements [objstore.Store].
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := s.check(ctx, "delete", ""); err != nil {
		return err
	}
	if err := objstore.ValidateKeys(keys); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		s.mu.bytes -= int64(len(s.mu.objects[key].data))
		delete(s.mu.objects, key)
	}
	return nil
}

// Close implements [objstore.Store] and drops all objects.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	s.mu.objects = nil
	s.mu.bytes = 0
	return nil
}

// check is what each call starts with. An empty key is for calls that have none, or check theirs.
func (s *Store) check(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	s.mu.RLock()
	closed := s.mu.closed
	s.mu.RUnlock()
	if closed {
		return fmt.Errorf("%s %s: %w", op, key, objstore.ErrClosed)
	}
	if op == "list" || op == "delete" {
		return nil
	}
	if err := objstore.ValidateKey(key); err != nil {
		return fmt.Errorf("%s object: %w", op, err)
	}
	return nil
}

func (s *Store) object(key string) (object, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.mu.objects[key]
	return o, ok
}

func (o object) info(key string) objstore.Info {
	return objstore.Info{Key: key, Size: int64(len(o.data)), Checksum: o.checksum, HasChecksum: true, ModTime: o.put}
}
