package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
)

// The store is asked only if nothing was heard of it lately, and is gone only if it was asked for a while in vain.
func TestReadyStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := newWorld(t, 1)
		plan := faulty.NewPlan()
		e := w.open(func(c *Config) {
			c.Store = faulty.New(w.store, plan)
			c.MergeInterval, c.FoldInterval = time.Hour, time.Hour
		})
		asked := func(want int, err string) {
			t.Helper()
			before := plan.Calls(faulty.OpHead)
			switch got := e.ReadyStore(ctx); err {
			case "":
				require.NoError(t, got)
			default:
				require.ErrorContains(t, got, err)
			}
			require.Equal(t, want, plan.Calls(faulty.OpHead)-before)
		}
		asked(0, "")
		<-time.After(storeFresh)
		asked(1, "")
		asked(0, "") // it has just answered
		<-time.After(storeFresh)
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 10)))
		asked(0, "") // it has just stored something

		<-time.After(storeFresh)
		plan.Next(faulty.Fault{Op: faulty.OpHead, Count: 3, Kind: faulty.Refuse})
		asked(1, "") // one answer of that kind is no outage
		<-time.After(storeGone - storeFresh)
		asked(1, "")
		<-time.After(time.Second)
		asked(1, "does not answer, for 21s by now")
		plan.Next(faulty.Fault{Op: faulty.OpHead, Kind: faulty.Slow, Delay: time.Hour})
		began := time.Now()
		asked(1, "does not answer")
		require.Equal(t, storeWithin, time.Since(began))
		asked(1, "")

		// Nor is one of a broker that nobody asked for long.
		<-time.After(time.Minute)
		plan.Next(faulty.Fault{Op: faulty.OpHead, Count: 2, Kind: faulty.Refuse})
		asked(1, "")
		<-time.After(time.Minute / 2)
		asked(1, "does not answer, for 1m30s by now")
		asked(1, "")
		require.NoError(t, plan.Verify())

		e.Kill()
	})
}

// Without its note the store is not the one that the broker began with.
func TestReadyStoreThatWasEmptied(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		e := w.open()
		infos, _, err := w.store.List(t.Context(), markerPrefix, "", objstore.MaxList)
		require.NoError(t, err)
		require.Len(t, infos, 1)
		<-time.After(storeFresh)
		require.NoError(t, e.ReadyStore(t.Context()))
		require.NoError(t, w.store.Delete(t.Context(), []string{infos[0].Key}))
		<-time.After(storeFresh)
		require.ErrorContains(t, e.ReadyStore(t.Context()), "has lost "+infos[0].Key)
		e.Kill()
	})
}

// Brokers of a fleet keep each other's notes, until one is fenced.
func TestNotesOfBrokersThatLive(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newFleet(t, 1)
		first, second := w.joinDeaf(1), w.joinDeaf(2)
		<-time.After(storeFresh)
		require.NoError(t, first.ReadyStore(t.Context()))
		require.NoError(t, second.ReadyStore(t.Context()))
		w.fence(first.Epoch())
		third := w.joinDeaf(3)
		infos, _, err := w.store.List(t.Context(), markerPrefix, "", objstore.MaxList)
		require.NoError(t, err)
		require.Len(t, infos, 2, "of the two that live")
		<-time.After(storeFresh)
		require.NoError(t, second.ReadyStore(t.Context()))
		require.NoError(t, third.ReadyStore(t.Context()))
	})
}

// A fence that shows may be undone by a fail-over of the catalog. A broker that started in between took the other's note for that of
// a dead one.
func TestNoteThatWasTakenForThatOfADeadBroker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newFleet(t, 1)
		first := w.joinDeaf(1)
		cat := &shownFence{Catalog: w.cat}
		cat.fenced.Store(int64(first.Epoch()))
		w.joinDeaf(2, func(c *Config) { c.Catalog = cat })
		notes := func() int {
			infos, _, err := w.store.List(t.Context(), markerPrefix, "", objstore.MaxList)
			require.NoError(t, err)
			return len(infos)
		}
		require.Equal(t, 1, notes())
		<-time.After(storeFresh)
		require.NoError(t, first.ReadyStore(t.Context()))
		require.Equal(t, 2, notes())
	})
}
