package storage

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

// busyStore counts GETs, and how many are under way at a time.
type busyStore struct {
	objstore.Store
	gets, now, most atomic.Int64
}

func (s *busyStore) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	s.gets.Add(1)
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	return s.Store.GetRange(ctx, key, off, p)
}

// namesCatalog counts how often keys of objects are asked for.
type namesCatalog struct {
	catalog.Catalog
	asked atomic.Int64
}

func (c *namesCatalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	c.asked.Add(1)
	return c.Catalog.ObjectsByID(ctx, ids)
}

// replay reads a log as a consumer does, step after step, and returns the number of records.
func (w *world) replay(e *Engine, l *plog, maxBytes int) (records int) {
	w.t.Helper()
	ctx := w.t.Context()
	off, err := e.Offsets(ctx, l.tp)
	require.NoError(w.t, err)
	var r Read
	for at := off.LogStart; at < off.HighWatermark; {
		require.NoError(w.t, e.Read(ctx, ReadRequest{TP: l.tp, Offset: at, MaxBytes: maxBytes, MinOne: true}, &r))
		var raw []byte
		for _, s := range r.Records {
			raw = append(raw, s...)
		}
		r.Release()
		require.NotEmpty(w.t, raw)
		for len(raw) > 0 {
			var b []byte
			b, raw, err = recordbatch.Next(raw)
			require.NoError(w.t, err)
			h, err := recordbatch.ParseHeader(b)
			require.NoError(w.t, err)
			require.Equal(w.t, at, h.BaseOffset)
			at += int64(h.LastOffsetDelta) + 1
			records++
		}
	}
	return records
}

// A log of small objects that no cache holds, in a store that takes 50 ms for a GET: a replay gets each object once, in one
// piece, and several at a time, but not any number.
func TestReplayOfSmallObjectsIsNotOneByOne(t *testing.T) {
	const objects, get = 400, 50 * time.Millisecond
	for _, c := range []struct {
		name     string
		folded   bool
		maxBytes int
	}{
		{"tail, large answers", false, 1 << 20},
		{"tail, small answers", false, 4 << 10},
		{"folded, large answers", true, 1 << 20},
		{"folded, small answers", true, 4 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				e := w.open()
				for i := range objects {
					require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, i, 2000)))
				}
				e.Kill()
				busy := &busyStore{Store: slow.New(w.store, slow.Latency{Get: get})}
				names := &namesCatalog{Catalog: w.cat}
				w.store, w.cat = busy, names
				e = w.open(fanIn(1<<20), func(c *Config) { c.BlockCacheBytes = 4 << 20 })
				if c.folded {
					require.NoError(t, e.Tidy(t.Context()))
					e.names.mu.byID = nil
					names.asked.Store(0)
				}
				began := time.Now()
				busy.gets.Store(0)
				require.Equal(t, objects, w.replay(e, w.logs[0], c.maxBytes))
				took := time.Since(began)
				t.Logf("%d objects in %v, %d GETs, at most %d at a time, %d look-ups", objects, took, busy.gets.Load(), busy.most.Load(), names.asked.Load())
				require.Less(t, took, objects*get/8)
				require.EqualValues(t, objects, busy.gets.Load(), "each once, in one piece")
				require.LessOrEqual(t, busy.most.Load(), int64(20))
				require.LessOrEqual(t, names.asked.Load(), int64(objects/16))
				require.LessOrEqual(t, e.CacheStats().BlockBytes, int64(4<<20))
				e.Kill()
			})
		})
	}
}

// Who wants one batch gets no more than that of a store where each GET costs money.
func TestASingleReadDoesNotReadAhead(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	for i := range 50 {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 2000)))
	}
	e.Kill()
	busy := &busyStore{Store: w.store}
	w.store = busy
	e = w.open()
	busy.gets.Store(0)
	var r Read
	require.NoError(t, e.Read(ctx, ReadRequest{TP: w.logs[0].tp, Offset: 20, MaxBytes: 1000, MinOne: true}, &r))
	require.Len(t, r.Records, 1)
	r.Release()
	e.Kill() // waits for what is under way
	require.EqualValues(t, 1, busy.gets.Load())
}
