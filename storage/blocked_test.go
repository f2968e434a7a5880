package storage

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// badStore fails to read one key's bytes.
type badStore struct {
	objstore.Store
	bad  atomic.Pointer[string]
	gets atomic.Int64
	puts atomic.Int64
}

func (s *badStore) GetRange(ctx context.Context, key string, off int64, dst []byte) error {
	s.gets.Add(1)
	if err := s.Store.GetRange(ctx, key, off, dst); err != nil {
		return err
	}
	if k := s.bad.Load(); k != nil && key == *k && off == 0 {
		dst[100] ^= 1 // bit rot among the records
	}
	return nil
}

func (s *badStore) Put(ctx context.Context, key string, b objstore.Body) error {
	if strings.HasPrefix(key, "s") {
		s.puts.Add(1)
	}
	return s.Store.Put(ctx, key, b)
}

// One rotten small object in the tail: nothing of this broker's tail is folded any more.
func TestRottenTailObjectBlocksFold(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	s := &badStore{Store: w.store}
	w.store = s
	e := w.open(func(c *Config) { c.MergeInterval, c.FoldInterval, c.TailCacheBytes = time.Hour, time.Hour, 1 })
	for i := range 4 {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 100)))
	}
	_, objs := e.term.Load().oldestTail()
	s.bad.Store(&objs[1].row.Key)
	var err error
	for i := range 5 {
		require.NoError(t, w.produce(ctx, e, w.logs[1], value(1, i, 100)))
		err = e.Tidy(ctx)
	}
	rows, _ := e.term.Load().tailSize()
	t.Logf("last error: %v", err)
	require.Less(t, rows, 9, "a fold needs no bytes: the tail must not grow to its bound because of one bad object")
}

// Tiny objects keep a whole arena each.
func TestArenaAmplification(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open(func(c *Config) { c.MergeInterval, c.FoldInterval, c.TailCacheBytes = time.Hour, time.Hour, 48<<20 })
	for i := range 1000 {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 100)))
	}
	cached := 0
	_, objs := e.term.Load().oldestTail()
	for _, o := range objs {
		if o.tryRetain() {
			cached++
			o.Release()
		}
	}
	size, err := e.Size(ctx, w.logs[0].tp)
	require.NoError(t, err)
	var r Read
	require.NoError(t, e.Read(ctx, ReadRequest{TP: w.logs[0].tp, Offset: 900, MaxBytes: 1 << 20}, &r))
	e.tail.clear()
	held := e.cfg.Pool.InUse()
	t.Logf("%d objects, %d bytes of records; cached %d objects; a read of %d bytes holds %d bytes of memory", len(objs), size, cached, r.Bytes, held)
	r.Release()
	require.Equal(t, len(objs), cached, "48 MiB must hold %d bytes", size)
}
