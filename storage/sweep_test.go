package storage

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// shownFence is a catalog whose list of brokers comes from a server that shows a fence of which the one that answers all else
// knows nothing: the first was lost in between, and the second promoted without it.
type shownFence struct {
	catalog.Catalog
	fenced atomic.Int64 // the epoch; 0: none
}

func (s *shownFence) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	brokers, err := s.Catalog.ListBrokers(ctx)
	for i := range brokers {
		if int64(brokers[i].Epoch) == s.fenced.Load() {
			brokers[i].Fenced = true
		}
	}
	return brokers, err
}

// uncommitted puts an object as a broker does that is about to commit it.
func (f *fleet) uncommitted(m *member) string {
	f.t.Helper()
	key := segment.LogKey(time.Now(), m.cfg.Process, m.Epoch(), 77, 1)
	require.NoError(f.t, f.store.Put(f.t.Context(), key, bodyOf("object")))
	return key
}

// An object of a broker whose fence is undone may be named yet: it is no orphan. It is one when its broker is fenced after all,
// and then the sweep finds it, although it had been past it.
func TestOrphansOfAFenceThatIsUndone(t *testing.T) {
	ctx := t.Context()
	w := newFleet(t, 1)
	cat := &shownFence{Catalog: w.cat}
	writer := w.joinDeaf(2)
	sweeper := w.joinDeaf(1, func(conf *Config) { conf.Catalog = cat })
	key := w.uncommitted(writer)
	cat.fenced.Store(int64(writer.Epoch()))
	for range 3 {
		require.NoError(t, sweeper.term.Load().sweep(ctx))
	}
	require.Contains(t, objects(t, w.store), key, "its broker lives, and may commit it")
	cat.fenced.Store(0)
	require.NoError(t, sweeper.term.Load().sweep(ctx))
	w.fence(writer.Epoch())
	for range 3 {
		require.NoError(t, sweeper.term.Load().sweep(ctx))
	}
	require.NotContains(t, objects(t, w.store), key)
}

// committedLate is a catalog in which a broker commits an object after it was asked for that, and is fenced then.
type committedLate struct {
	catalog.Catalog
	asked func()
}

func (c *committedLate) KnownObjects(ctx context.Context, keys []string) (map[string]bool, error) {
	known, err := c.Catalog.KnownObjects(ctx, keys)
	if c.asked != nil {
		c.asked()
		c.asked = nil
	}
	return known, err
}

// What is named is asked after the fence is known to hold: what was committed before it counts.
func TestOrphanThatIsCommittedBeforeTheFence(t *testing.T) {
	ctx := t.Context()
	w := newFleet(t, 1)
	shown := &shownFence{Catalog: w.cat}
	cat := &committedLate{Catalog: shown}
	sweeper := w.joinDeaf(1, func(conf *Config) { conf.Catalog = cat })
	writer := w.joinDeaf(2)
	key := w.uncommitted(writer)
	shown.fenced.Store(int64(writer.Epoch()))
	cat.asked = func() {
		_, err := w.cat.Commit(ctx, writer.Epoch(), []catalog.TailEntry{{Epoch: writer.Epoch(), First: 1, Last: 1, Object: 1 << 40, Key: key, Size: 6}})
		require.NoError(t, err)
		w.fence(writer.Epoch())
	}
	require.NoError(t, sweeper.term.Load().sweep(ctx))
	require.Contains(t, objects(t, w.store), key)
}

// Nothing is deleted while it cannot be told whether a fence holds.
func TestOrphansWhileNobodyVouchesForTheFence(t *testing.T) {
	ctx := t.Context()
	w := newFleet(t, 1)
	writer := w.joinDeaf(2)
	key := w.uncommitted(writer)
	w.fence(writer.Epoch())
	s := newSeams(w.world, nil, nil)
	sweeper := w.joinDeaf(1, func(conf *Config) { conf.Catalog = s.cat })
	s.catPlan.Next(catfaulty.Fault{Op: catfaulty.OpFenceBroker, Kind: catfaulty.Refuse})
	require.ErrorIs(t, sweeper.term.Load().sweep(ctx), catalog.ErrUnavailable)
	require.Contains(t, objects(t, w.store), key)
	require.NoError(t, sweeper.term.Load().sweep(ctx))
	require.NotContains(t, objects(t, w.store), key)
}
