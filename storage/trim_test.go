package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
)

// deleteTo moves the log start of a log.
func (w *world) deleteTo(ctx context.Context, e *Engine, l *plog, before int64) {
	w.t.Helper()
	low, err := e.DeleteRecords(ctx, l.tp, before)
	require.NoError(w.t, err)
	l.logStart = low
}

func (w *world) packedBytes(l *plog) (rows int, bytes int64) {
	w.t.Helper()
	list, err := w.cat.PackedRows(w.t.Context(), l.tp, 0, 100_000)
	require.NoError(w.t, err)
	states, err := w.cat.LoadPartitions(w.t.Context(), []catalog.TopicPartition{l.tp})
	require.NoError(w.t, err)
	return len(list), states[0].Bytes
}

// Objects of which DeleteRecords leaves nothing are retired at once and their files deleted, without a merge.
func TestDeletedRecordsGiveTheirSpaceBack(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	w.foldEach(20, 300) // ten objects of each partition
	var ev events
	e := w.open(fanIn(1000), func(c *Config) { c.Hooks.Rewritten = ev.note })
	require.Len(t, objects(t, w.store), 20)
	w.deleteTo(ctx, e, w.logs[0], 7)
	require.NoError(t, e.Tidy(ctx))
	require.Len(t, w.folded(), 13)
	require.Len(t, objects(t, w.store), 13)
	size, err := e.Size(ctx, w.logs[0].tp)
	require.NoError(t, err)
	_, bytes := w.packedBytes(w.logs[0])
	require.Equal(t, bytes, size)
	w.check(ctx, e)

	w.deleteTo(ctx, e, w.logs[0], -1) // all of it
	require.NoError(t, e.Tidy(ctx))
	require.Len(t, objects(t, w.store), 10)
	rows, bytes := w.packedBytes(w.logs[0])
	require.Zero(t, rows)
	require.Zero(t, bytes)
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 10, 300)))
	require.NoError(t, e.Tidy(ctx))
	w.check(ctx, e)
	require.NotContains(t, ev.take(), "segment")

	// What an earlier process did not come to do is done by the next.
	w.deleteTo(ctx, e, w.logs[1], 4)
	e.Kill()
	e = w.open(fanIn(1000))
	require.NoError(t, e.Tidy(ctx))
	require.Len(t, objects(t, w.store), 10+1-4)
	w.check(ctx, e)
}

// The same with the answer of SetLogStart lost: readers know of the new log start before what lies below it goes.
func TestLogStartWhoseAnswerWasLost(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	w.foldEach(6, 300)
	s := newSeams(w, []catfaulty.Fault{{Op: catfaulty.OpSetLogStart, Index: 0, Kind: catfaulty.Lost}}, nil)
	e := w.open(fanIn(2), func(c *Config) { c.Catalog = s.cat })
	l := w.logs[0]
	_, err := e.DeleteRecords(ctx, l.tp, 3)
	require.Error(t, err)
	w.check(ctx, e)
	l.deleting = 3
	require.NoError(t, e.Tidy(ctx))
	w.check(ctx, e)
	require.EqualValues(t, 3, l.logStart)
}

// An object of the last generation is rewritten once more than half of it is dead, with others of its kind, and not again
// before half of what is left is dead.
func TestSparseObjectsAreRewritten(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 5)
	var ev events
	e := w.open(fanIn(4), func(c *Config) { c.Hooks.Rewritten = ev.note; c.FlushInterval = time.Hour; c.FlushBytes = 16 << 20 })
	tm := e.term.Load()
	tm.mu.Lock()
	tm.mu.lastSeal = time.Now() // no flush but those below
	tm.mu.Unlock()
	const size = 400 << 10 // one extent of two batches per partition in an object of 4 MiB: final from the start
	fill := func() {
		t.Helper()
		var last Pending
		for _, l := range w.logs {
			for range 2 {
				v := value(int(l.tp.Partition), len(l.acked)+len(l.maybe), size)
				p, err := w.send(ctx, e, l, l.seq+int32(len(l.maybe)), v)
				require.NoError(t, err)
				l.maybe = append(l.maybe, v)
				last = p
			}
		}
		tm.mu.Lock()
		tm.mu.full, tm.mu.open = append(tm.mu.full, tm.mu.open), nil
		tm.mu.Unlock()
		tm.wake <- struct{}{}
		<-last.Done()
		for _, l := range w.logs {
			l.acked, l.seq, l.maybe = append(l.acked, l.maybe...), l.seq+int32(len(l.maybe)), nil
		}
		require.NoError(t, e.Tidy(ctx))
	}
	fill()
	fill()
	require.Len(t, w.folded(), 2)
	for _, o := range w.folded() {
		require.EqualValues(t, maxGeneration, o.Generation, "never to be merged")
	}
	ev.take()
	w.deleteTo(ctx, e, w.logs[0], 4) // of each object a fifth, then another
	w.deleteTo(ctx, e, w.logs[1], 4)
	require.NoError(t, e.Tidy(ctx))
	require.Empty(t, ev.take(), "more than half is live")
	w.deleteTo(ctx, e, w.logs[2], 2)
	require.NoError(t, e.Tidy(ctx))
	require.Equal(t, []string{"segment"}, ev.take())
	left := w.folded()
	require.Len(t, left, 2)
	total := int64(0)
	for _, o := range left {
		total += o.Size
	}
	require.Less(t, total, int64(15*size), "of the first object two partitions are left")
	require.Len(t, objects(t, w.store), 2)
	w.check(ctx, e)
	for range 3 {
		require.NoError(t, e.Tidy(ctx))
	}
	require.Empty(t, ev.take(), "not again")

	w.deleteTo(ctx, e, w.logs[2], 4)
	require.NoError(t, e.Tidy(ctx))
	require.Equal(t, []string{"segment"}, ev.take())
	w.check(ctx, e)
	e.Kill()
	e = w.open(fanIn(4))
	w.check(ctx, e)
}
