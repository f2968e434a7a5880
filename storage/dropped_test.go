package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// A topic may be deleted while its leases are being taken over. Nobody tells the engine a second time: it
// finds out, and does not hold it until it ends. The same goes for a topic that was taken and deleted between two looks of the
// broker at its topics.
func TestTopicsDeletedBeforeTheyWereTakenAreLetGo(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 2)
	a := f.join(1)
	cat := &slowAnswer{applied: make(chan struct{}), gate: make(chan struct{})}
	b := f.join(2, func(c *Config) { cat.Catalog, c.Catalog = c.Catalog, cat })
	require.NoError(t, a.Acquire(ctx, append(f.tps(), controllerLease)))
	f.produceAll(ctx, a) // partitions with extents in the tail are loaded, the others are not
	f.follows(b)
	deleted, old := f.topic, f.tps()
	f.create(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.NoError(t, a.HandOver(ctx, append(f.tps(), old...), b.Epoch()))
	stale := f.leases(b.Epoch())
	require.Len(t, stale, 4)
	adopted := make(chan error)
	go func() { adopted <- b.Adopt(ctx, stale) }()
	<-cat.applied
	require.NoError(t, f.cat.DeleteTopic(ctx, deleted))
	b.DropTopic(deleted)
	close(cat.gate)
	require.NoError(t, <-adopted)
	require.Contains(t, b.Held(), old[1], "nobody tells of it again")
	for _, l := range f.logs {
		require.Contains(t, b.Held(), l.tp)
	}

	require.NoError(t, b.term.Load().dropDeleted(ctx))
	require.Len(t, b.Held(), 2)
	for _, tp := range old {
		require.NotContains(t, b.Held(), tp)
		_, err := b.Leader(tp)
		require.Error(t, err)
	}
	f.produceAll(ctx, b) // the other topic goes on

	second := f.topic
	require.NoError(t, f.cat.DeleteTopic(ctx, second)) // never heard of it
	require.NoError(t, b.term.Load().dropDeleted(ctx))
	require.Len(t, b.Held(), 2, "nothing says that there is anything to look at")
	beat, err := b.handle.Heartbeat(ctx, b.Epoch())
	require.NoError(t, err)
	b.term.Load().positions(&beat, b.term.Load().start)
	require.NoError(t, b.term.Load().dropDeleted(ctx))
	require.Empty(t, b.Held())
	require.Equal(t, map[catalog.TopicPartition]catalog.LeaseEpoch{controllerLease: 0}, a.Held(), "the controller's lease is a topic's, too")
	a.term.Load().positions(&beat, a.term.Load().start)
	require.NoError(t, a.term.Load().dropDeleted(ctx))
	require.Len(t, a.Held(), 1)
}
