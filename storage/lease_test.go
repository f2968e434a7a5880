package storage

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// between does something once before a read of catalog or store is answered.
type between struct {
	catalog.Catalog
	mu sync.Mutex
	do func()
}

func (b *between) set(do func()) {
	b.mu.Lock()
	b.do = do
	b.mu.Unlock()
}

func (b *between) now() {
	b.mu.Lock()
	do := b.do
	b.do = nil
	b.mu.Unlock()
	if do != nil {
		do()
	}
}

func (b *between) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	rows, err := b.Catalog.PackedRows(ctx, tp, from, limit)
	b.now()
	return rows, err
}

type betweenStore struct {
	objstore.Store
	b *between
}

func (s betweenStore) GetRange(ctx context.Context, key string, off int64, dst []byte) error {
	err := s.Store.GetRange(ctx, key, off, dst)
	s.b.now()
	return err
}

// An answer that was being computed when its term ended is an error, or as true as one computed afterwards.
func TestAnswersOfATermThatEnded(t *testing.T) {
	ctx := t.Context()
	const folded = 6
	type setup struct {
		w *world
		e *Engine
		b *between
	}
	open := func(t *testing.T) *setup {
		t.Helper()
		w := newWorld(t, 1)
		b := &between{Catalog: w.cat}
		e := w.open(func(c *Config) {
			c.Catalog, c.Store = b, betweenStore{w.store, b}
			c.MergeInterval, c.BlockCacheBytes = time.Hour, 1
		})
		for i := range folded {
			require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 200)))
		}
		require.NoError(t, e.Tidy(ctx))
		return &setup{w, e, b}
	}
	// another term, in which the log grew by a record
	end := func(t *testing.T, s *setup) {
		t.Helper()
		old := s.e.term.Load()
		old.fail(errors.New("ended by the test"))
		require.Eventually(t, func() bool {
			now := s.e.term.Load()
			return now != nil && now != old
		}, 10*time.Second, time.Millisecond)
		require.NoError(t, s.w.produce(ctx, s.e, s.w.logs[0], value(0, folded, 200)))
	}
	// the lease ran out, unnoticed but by the clock: another broker may have taken it
	expire := func(_ *testing.T, s *setup) {
		s.e.cfg.PredecessorsDead = false
		s.e.term.Load().trustedUntil.Store(0)
	}

	t.Run("time beyond the log", func(t *testing.T) {
		s := open(t)
		s.b.set(func() { end(t, s) })
		got, err := s.e.OffsetForTimestamp(ctx, s.w.logs[0].tp, 1000+folded)
		require.True(t, errors.Is(err, ErrNotLeader) || err == nil && got.Offset == folded, "%v, %v", got, err)
		got, err = s.e.OffsetForTimestamp(ctx, s.w.logs[0].tp, 1000+folded)
		require.NoError(t, err)
		require.EqualValues(t, folded, got.Offset)
	})
	t.Run("largest time", func(t *testing.T) {
		s := open(t)
		s.b.set(func() { end(t, s) })
		got, err := s.e.MaxTimestamp(ctx, s.w.logs[0].tp)
		require.True(t, errors.Is(err, ErrNotLeader) || err == nil && got.Offset == folded, "%v, %v", got, err)
	})
	t.Run("time, lease ran out", func(t *testing.T) {
		s := open(t)
		s.b.set(func() { expire(t, s) })
		_, err := s.e.OffsetForTimestamp(ctx, s.w.logs[0].tp, 1000+folded)
		require.ErrorIs(t, err, ErrNotLeader)
	})
	t.Run("offset out of range, lease ran out", func(t *testing.T) {
		s := open(t)
		expire(t, s)
		var r Read
		err := s.e.Read(ctx, ReadRequest{TP: s.w.logs[0].tp, Offset: folded + 1, MaxBytes: 1 << 20}, &r)
		require.ErrorIs(t, err, ErrNotLeader)
		require.NotErrorIs(t, err, ErrOffsetOutOfRange, "a consumer would skip what another broker has")
		require.NoError(t, s.e.Read(ctx, ReadRequest{TP: s.w.logs[0].tp, Offset: 0, MaxBytes: 1 << 20}, &r), "committed reads go on")
		r.Release()
	})
	t.Run("read of the manifest", func(t *testing.T) {
		s := open(t)
		s.b.set(func() { end(t, s) })
		readAll(t, s.w, s.e)
	})
	t.Run("read of the store", func(t *testing.T) {
		s := open(t)
		readAll(t, s.w, s.e) // loads the rows
		s.b.set(func() { end(t, s) })
		readAll(t, s.w, s.e)
	})
	t.Run("log start that moved in between", func(t *testing.T) {
		s := open(t)
		l := s.w.logs[0]
		s.b.set(func() {
			end(t, s)
			_, err := s.e.DeleteRecords(ctx, l.tp, 4)
			require.NoError(t, err)
			l.logStart = 4
		})
		got, err := s.e.OffsetForTimestamp(ctx, l.tp, 1)
		require.True(t, errors.Is(err, ErrNotLeader) || err == nil && got.Offset == 4, "%v, %v", got, err)
		s.w.check(ctx, s.e)
	})
}

// readAll reads from the start: what it gets must be right, an error must be ErrNotLeader.
func readAll(t *testing.T, w *world, e *Engine) {
	t.Helper()
	l := w.logs[0]
	var r Read
	defer func() { r.Release() }()
	err := e.Read(t.Context(), ReadRequest{TP: l.tp, Offset: 0, MaxBytes: 1 << 20, MinOne: true}, &r)
	if err != nil {
		require.ErrorIs(t, err, ErrNotLeader)
	} else {
		require.NotZero(t, r.Bytes)
		require.GreaterOrEqual(t, r.HighWatermark, int64(6))
	}
	w.check(t.Context(), e)
}
