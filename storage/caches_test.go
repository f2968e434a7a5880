package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCacheStatsFollowTheCaches(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	const tail, blocks = 256 << 10, 512 << 10
	e := w.open(func(c *Config) {
		c.TailCacheBytes, c.BlockCacheBytes, c.MergeInterval = tail, blocks, time.Hour
	})
	require.Zero(t, e.CacheStats())
	for i := range 20 {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 100<<10)))
	}
	s := e.CacheStats()
	require.Positive(t, s.TailBytes)
	require.LessOrEqual(t, s.TailBytes, int64(tail))
	require.Greater(t, s.TailEvicted, int64(10), "log objects of 100 KiB, two of which have room")
	require.Zero(t, s.TailMissed)
	require.Zero(t, s.BlockBytes)

	w.check(ctx, e)
	s = e.CacheStats()
	require.GreaterOrEqual(t, s.TailMissed, s.TailEvicted, "a read for each object that is not in memory")
	require.Positive(t, s.BlockBytes)
	require.LessOrEqual(t, s.BlockBytes, int64(blocks))
	require.Positive(t, s.BlockEvicted)

	require.NoError(t, e.Tidy(ctx))
	require.Zero(t, e.CacheStats().TailBytes, "all is folded")
	w.check(ctx, e)
	e.DropBlocks()
	w.check(ctx, e)
	require.NoError(t, e.Close(ctx))
	last := e.CacheStats()
	require.Zero(t, last.TailBytes)
	require.Zero(t, last.BlockBytes)
	require.GreaterOrEqual(t, last.TailMissed, s.TailMissed, "counters only grow")
	require.GreaterOrEqual(t, last.TailEvicted, s.TailEvicted)
	require.GreaterOrEqual(t, last.BlockEvicted, s.BlockEvicted)
}

// A term that ends empties the tail cache without committing anything: the figure must not stay.
func TestTailBytesEndWithTheTerm(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open(func(c *Config) { c.MergeInterval = time.Hour })
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 100)))
	require.Positive(t, e.CacheStats().TailBytes)
	e.Kill()
	require.Zero(t, e.CacheStats().TailBytes)
}

func TestCacheStatsAllocateNothing(t *testing.T) {
	e := newWorld(t, 1).open()
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = e.CacheStats() }))
}

// A client that asks for much gets a part of it in time, where each object has to come from the store.
func TestReadEndsInTime(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open(func(c *Config) { c.TailCacheBytes, c.BlockCacheBytes, c.MergeInterval = 1, 1, time.Hour })
	const records = 20
	for i := range records {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 100)))
	}
	read := func(minOne bool, until time.Time) (bytes int) {
		var r Read
		defer r.Release()
		require.NoError(t, e.Read(ctx, ReadRequest{TP: w.logs[0].tp, MaxBytes: 1 << 20, MinOne: minOne, Until: until}, &r))
		return r.Bytes
	}
	over := time.Now().Add(-time.Second)
	one := read(true, over)
	require.Positive(t, one, "at least one batch")
	require.Zero(t, read(false, over))
	require.Equal(t, records*one, read(true, time.Time{}))
	require.Equal(t, records*one, read(true, time.Now().Add(time.Hour)))
}
