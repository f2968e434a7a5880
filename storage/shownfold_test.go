package storage

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// shownFold is a catalog that shows a fold, or a hot merge, that a fail-over undoes.
type shownFold struct {
	catalog.Catalog
	folded, merged atomic.Int64 // the epoch; 0: none
}

func (s *shownFold) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	tails, err := s.Catalog.BrokerTails(ctx)
	for i := range tails {
		if int64(tails[i].Epoch) == s.folded.Load() {
			tails[i].Folded = tails[i].Last
		}
		if int64(tails[i].Epoch) == s.merged.Load() {
			tails[i].Merges++
		}
	}
	return tails, err
}

// shownFoldFleet is a broker that leads a partition, and one that follows it on a catalog that shows what was not kept.
func shownFoldFleet(t *testing.T) (w *fleet, cat *shownFold, writer, idle *member) {
	t.Helper()
	w = newFleet(t, 1)
	writer = w.joinDeaf(1)
	require.NoError(t, writer.Acquire(t.Context(), w.tps()))
	cat = &shownFold{Catalog: w.cat}
	idle = w.joinDeaf(2, func(conf *Config) { conf.Catalog, conf.Registration.TTL = cat, time.Minute })
	return w, cat, writer, idle
}

// A fold that was seen is undone: its rows are the tail again, for whoever takes the partitions over, too.
func TestFoldThatIsUndone(t *testing.T) {
	ctx := t.Context()
	w, cat, writer, idle := shownFoldFleet(t)
	for i := range 5 {
		require.NoError(t, w.produce(ctx, writer.Engine, w.logs[0], value(0, i, 10)))
	}
	idle.Heard(catalog.Announcement{})
	idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.after == 5 })
	cat.folded.Store(int64(writer.Epoch()))
	idle.Heard(catalog.Announcement{})
	idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.folded == 5 })
	cat.folded.Store(0)
	require.NoError(t, w.cat.FenceBroker(ctx, writer.Epoch(), catalog.FenceProvenDead))
	require.Eventually(t, func() bool { return idle.Acquire(ctx, w.tps()) == nil }, 10*time.Second, time.Millisecond)
	w.check(ctx, idle.Engine)
	require.NoError(t, w.produce(ctx, idle.Engine, w.logs[0], value(0, 5, 10)))
	w.check(ctx, idle.Engine)
}

// A hot merge that was seen is undone: what memory may name instead of the rows is not in the manifest, where folds would refuse
// it for ever and the sweep take it for an orphan. The term ends.
func TestMergeThatIsUndone(t *testing.T) {
	ctx := t.Context()
	w, cat, writer, idle := shownFoldFleet(t)
	require.NoError(t, w.produce(ctx, writer.Engine, w.logs[0], value(0, 0, 10)))
	cat.merged.Store(int64(writer.Epoch()))
	idle.Heard(catalog.Announcement{})
	idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.merges == 1 })
	before := idle.Epoch()
	cat.merged.Store(0)
	idle.Heard(catalog.Announcement{})
	require.Eventually(t, func() bool { return idle.Epoch() > before }, 10*time.Second, time.Millisecond)
}
