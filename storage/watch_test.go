package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// Watching a partition must not make its object: that of a dropped topic would stay for ever.
func TestWatchingADroppedTopicLeavesNothing(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open()
	early, late := e.NewWatcher(), e.NewWatcher()
	for _, l := range w.logs {
		early.Add(l.tp)
	}
	require.NoError(t, w.cat.DeleteTopic(t.Context(), w.topic))
	e.DropTopic(w.topic)
	for _, l := range w.logs {
		early.Add(l.tp)
		late.Add(l.tp)
	}
	require.Empty(t, e.all(), "a watcher brought partitions of a dropped topic back")
	require.Len(t, e.mu.waiting, 3)
	late.Close()
	early.Remove(w.logs[0].tp)
	early.Close()
	require.Empty(t, e.all())
	require.Empty(t, e.mu.waiting, "what is watched is forgotten with its watchers")
}

// A partition that is not known yet is told of when it comes, and from then on.
func TestWatchingAPartitionToCome(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	watch, closed := e.NewWatcher(), e.NewWatcher()
	defer watch.Close()
	w.create(2)
	to := []catalog.TopicPartition{w.logs[0].tp, w.logs[1].tp}
	watch.Add(to...)
	closed.Add(to...)
	closed.Close()
	require.Empty(t, watch.Take(nil))
	require.NoError(t, e.Acquire(ctx, to))
	<-watch.C()
	require.ElementsMatch(t, to, watch.Take(nil))
	require.Empty(t, e.mu.waiting)
	require.NoError(t, w.produce(ctx, e, w.logs[1], value(1, 0, 10)))
	<-watch.C()
	require.Equal(t, to[1:], watch.Take(nil))
	watch.Remove(to...)
	for _, p := range e.all() {
		require.Empty(t, p.mu.watchers)
	}
}
