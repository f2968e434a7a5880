package storage

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
)

// What lies from an offset on is told from the tail and from stored objects, and is no older than its record; times are
// 1000, 1001, ... .
func TestBacklog(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	l := w.logs[0]
	for i := range 100 {
		require.NoError(t, w.produce(ctx, e, l, value(0, i, 700)))
		if i == 30 || i == 70 {
			require.NoError(t, e.Tidy(ctx))
		}
	}
	last := int64(0)
	for at := range int64(100) {
		b, err := e.Backlog(ctx, l.tp, at)
		require.NoError(t, err)
		require.EqualValues(t, 100, b.HighWatermark)
		require.GreaterOrEqual(t, b.Oldest, 1000+at, "never older than the record")
		require.GreaterOrEqual(t, b.Oldest, last)
		require.Less(t, b.Oldest, int64(1100))
		last = b.Oldest
	}
	tail, err := e.Backlog(ctx, l.tp, 99)
	require.NoError(t, err)
	require.Equal(t, Backlog{HighWatermark: 100, Oldest: 1099}, tail)
	for _, at := range []int64{100, 101, math.MaxInt64} {
		none, err := e.Backlog(ctx, l.tp, at)
		require.NoError(t, err)
		require.EqualValues(t, -1, none.Oldest, at)
	}
	_, err = e.DeleteRecords(ctx, l.tp, 99)
	require.NoError(t, err)
	for _, at := range []int64{-1, 0, 50, 99} {
		b, err := e.Backlog(ctx, l.tp, at)
		require.NoError(t, err)
		require.Equal(t, Backlog{LogStart: 99, HighWatermark: 100, Oldest: 1099}, b, "below the log start it counts from there")
	}
	e.DropTopic(w.topic)
	_, err = e.Backlog(ctx, l.tp, 0)
	require.ErrorIs(t, err, ErrNotLeader, "nothing is known of it any more")
}

// How much there is is known without the store, of which only the age of the oldest is asked.
func TestBacklogWithoutTheStore(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	l := w.logs[0]
	for i := range 10 {
		require.NoError(t, w.produce(ctx, e, l, value(0, i, 700)))
	}
	require.NoError(t, e.Tidy(ctx))
	require.NoError(t, e.Close(ctx))

	plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpGet, Count: math.MaxInt, Kind: faulty.Refuse})
	e = w.open(func(c *Config) { c.Store = faulty.New(w.store, plan) })
	b, err := e.Backlog(ctx, l.tp, 3)
	require.Error(t, err)
	require.Equal(t, Backlog{HighWatermark: 10, Oldest: -1}, b)
	require.Positive(t, plan.Calls(faulty.OpGet))
	e.DropTopic(w.topic)
	b, err = e.Backlog(ctx, l.tp, 3)
	require.ErrorIs(t, err, ErrNotLeader)
	require.EqualValues(t, -1, b.HighWatermark, "nothing is known of it any more")
}

// A broker tells the backlog of what another leads.
func TestBacklogOfAFollower(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, b := f.join(1), f.join(2)
	require.NoError(t, a.Acquire(ctx, append(f.tps(), controllerLease)))
	for i := range 6 {
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], value(0, i, 100)))
		if i == 2 {
			require.NoError(t, a.Tidy(ctx))
		}
	}
	f.follows(b)
	require.NoError(t, b.Know(ctx, append(f.tps(), catalog.TopicPartition{Topic: catalog.TopicID{9}})))
	for at := range int64(6) {
		led, err := a.Backlog(ctx, f.logs[0].tp, at)
		require.NoError(t, err)
		followed, err := b.Backlog(ctx, f.logs[0].tp, at)
		require.NoError(t, err)
		require.Equal(t, led, followed)
		require.GreaterOrEqual(t, led.Oldest, 1000+at)
	}
}
