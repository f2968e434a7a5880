package storage

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// restored is a catalog that, once it is put back, is at an earlier sequence of every broker epoch, and refuses commits as
// one that was restored from a backup does.
type restored struct {
	catalog.Catalog
	back atomic.Bool
}

func (r *restored) Commit(ctx context.Context, epoch catalog.BrokerEpoch, rows []catalog.TailEntry) (time.Time, error) {
	if r.back.Load() {
		return time.Time{}, catalog.ErrSequence
	}
	return r.Catalog.Commit(ctx, epoch, rows)
}

func (r *restored) tails(tails []catalog.BrokerTail) []catalog.BrokerTail {
	for i := range tails {
		if r.back.Load() {
			tails[i].Last = min(tails[i].Last, 1)
		}
	}
	return tails
}

func (r *restored) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	tails, err := r.Catalog.BrokerTails(ctx)
	return r.tails(tails), err
}

func (r *restored) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	beat, err := r.Catalog.Heartbeat(ctx, epoch)
	beat.Tails = r.tails(beat.Tails)
	return beat, err
}

// stops waits until the engine stopped for good, and checks that it said so and has no broker epoch.
func stops(t *testing.T, e *Engine) {
	t.Helper()
	select {
	case err := <-e.Stopped():
		require.ErrorIs(t, err, ErrCatalogLost)
		require.ErrorContains(t, err, "streamhouse restore")
	case <-time.After(20 * time.Second):
		require.Fail(t, "the engine goes on")
	}
	require.ErrorIs(t, e.Ready(), ErrCatalogLost)
	require.Nil(t, e.term.Load())
}

// A broker whose commits are gone from the catalog must not begin a new epoch, which would give their offsets out again,
// and whose keeper would delete their objects.
func TestCatalogPutBackUnderABroker(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name string
		ttl  time.Duration
		do   func(w *world, e *Engine)
	}{
		{"found by a commit", time.Minute, func(w *world, e *Engine) {
			_, err := w.send(ctx, e, w.logs[0], w.logs[0].seq, []byte("one more"))
			require.NoError(t, err)
		}},
		{"found by a heartbeat", 300 * time.Millisecond, func(*world, *Engine) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newFleet(t, 1)
			cat := &restored{Catalog: w.cat}
			m := w.join(1, func(conf *Config) { conf.Catalog, conf.Registration.TTL = cat, c.ttl })
			require.NoError(t, m.Acquire(ctx, w.tps()))
			for i := range 5 {
				require.NoError(t, w.produce(ctx, m.Engine, w.logs[0], value(0, i, 10)))
			}
			before, err := w.cat.ListBrokers(ctx)
			require.NoError(t, err)
			cat.back.Store(true)
			c.do(w.world, m.Engine)
			stops(t, m.Engine)
			after, err := w.cat.ListBrokers(ctx)
			require.NoError(t, err)
			require.Len(t, after, len(before), "no new epoch")
			require.NoError(t, m.Close(ctx))
			after, err = w.cat.ListBrokers(ctx)
			require.NoError(t, err)
			require.False(t, after[0].Fenced, "its epoch is not given up: nobody may sweep what it wrote")

			// No broker without memory starts on that catalog either.
			later, _, err := w.store.List(ctx, markerPrefix, "", objstore.MaxList)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(later[len(later)-1].Key, "/000000000002"), "%v", later)
		})
	}
}

// One that lost nothing itself has seen what others did.
func TestCatalogPutBackUnderAFollower(t *testing.T) {
	ctx := t.Context()
	w := newFleet(t, 1)
	writer := w.join(1)
	require.NoError(t, writer.Acquire(ctx, w.tps()))
	cat := &restored{Catalog: w.cat}
	idle := w.join(2, func(conf *Config) { conf.Catalog, conf.Registration.TTL = cat, 300*time.Millisecond })
	for i := range 5 {
		require.NoError(t, w.produce(ctx, writer.Engine, w.logs[0], value(0, i, 10)))
	}
	require.Eventually(t, func() bool {
		t := idle.term.Load()
		if t == nil || t.feed.take(ctx) != nil {
			return false
		}
		defer t.feed.give()
		c := t.feed.cursors[writer.Epoch()]
		return c != nil && c.after == 5
	}, 10*time.Second, time.Millisecond)
	cat.back.Store(true)
	stops(t, idle.Engine)
}
