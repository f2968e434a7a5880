package storage

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// undone is a catalog that shows what a fail-over undoes: log starts that were moved, topics that were deleted.
type undone struct {
	catalog.Catalog
	start   int64 // of all partitions
	deleted bool  // all topics
}

func (u *undone) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	states, err := u.Catalog.LoadPartitions(ctx, tps)
	if u.deleted {
		return nil, err
	}
	for i := range states {
		states[i].LogStart = max(states[i].LogStart, u.start)
	}
	return states, err
}

// DeleteRecords is not answered by a log start that was only seen: it is moved up to what is answered.
func TestLogStartThatIsUndone(t *testing.T) {
	ctx := t.Context()
	for name, before := range map[string]int64{"that log start": 3, "below it": 2, "above it": 4} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.foldEach(6, 300)
			l := w.logs[0]
			e := w.open(func(c *Config) { c.Catalog = &undone{Catalog: w.cat, start: 3} })
			off, err := e.Offsets(ctx, l.tp)
			require.NoError(t, err)
			require.EqualValues(t, 3, off.LogStart, "seen")
			w.deleteTo(ctx, e, l, before)
			require.Equal(t, max(before, 3), l.logStart)
			e.Kill()
			e = w.open()
			w.check(ctx, e) // with the log start that was answered
		})
	}
}

// Nothing is dropped by a log start that was only seen: there would be a hole where the log starts again.
func TestNothingIsDroppedByALogStartThatIsUndone(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	w.foldEach(6, 300)
	cat := &undone{Catalog: w.cat, start: 3}
	e := w.open(fanIn(2), func(c *Config) { c.Catalog = cat })
	for range 2 {
		require.NoError(t, e.Tidy(ctx))
	}
	require.Less(t, len(w.folded()), 6, "merged")
	e.Kill()
	e = w.open()
	w.check(ctx, e)
}

// Nor by a topic's deletion that was only seen: not when it is folded, nor when it is merged.
func TestNothingIsDroppedByADeletionThatIsUndone(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	w.foldEach(6, 300)
	cat := &undone{Catalog: w.cat}
	e := w.open(fanIn(2), func(c *Config) { c.Catalog = cat })
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 6, 300)))
	cat.deleted = true
	for range 2 {
		require.NoError(t, e.Tidy(ctx))
	}
	require.Less(t, len(w.folded()), 6, "merged")
	e.Kill()
	e = w.open()
	w.check(ctx, e)
}
