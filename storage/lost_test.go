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
	idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.after == 5 })
	cat.back.Store(true)
	stops(t, idle.Engine)
}

// shown is a catalog that loses the last commit of an epoch that anybody saw, as a server does that showed it while the
// commit still waited for the standby.
type shown struct {
	catalog.Catalog
	lost  atomic.Int64 // the epoch; 0: none
	looks atomic.Int64
}

func (s *shown) tails(tails []catalog.BrokerTail) []catalog.BrokerTail {
	for i := range tails {
		if int64(tails[i].Epoch) == s.lost.Load() {
			tails[i].Last--
		}
	}
	return tails
}

func (s *shown) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	tails, err := s.Catalog.BrokerTails(ctx)
	return s.tails(tails), err
}

func (s *shown) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	beat, err := s.Catalog.Heartbeat(ctx, epoch)
	beat.Tails = s.tails(beat.Tails)
	return beat, err
}

func (s *shown) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	brokers, err := s.Catalog.ListBrokers(ctx)
	for i := range brokers {
		if int64(brokers[i].Epoch) == s.lost.Load() {
			brokers[i].LastSequence--
		}
	}
	s.looks.Add(1)
	return brokers, err
}

// A commit that a broker has seen is gone. If it may never have been acknowledged, and its broker can make it again, that is
// waited for; if it had been, or its broker can tell no more, it counts as lost.
func TestCommitThatOnlyShowed(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name  string
		ttl   time.Duration
		vouch func(w *fleet, writer, idle *member)
		then  func(w *fleet, writer *member)
		stops bool
	}{
		{"seen only", time.Minute, nil, nil, false},
		{"announced", time.Minute, func(_ *fleet, writer, idle *member) {
			idle.Heard(catalog.Announcement{From: writer.Epoch(), Last: 5})
		}, nil, true},
		{"seen by a heartbeat", 300 * time.Millisecond, nil, nil, true},
		{"its broker is fenced", time.Minute, nil, func(w *fleet, writer *member) {
			require.NoError(t, w.cat.FenceBroker(ctx, writer.Epoch(), catalog.FenceProvenDead))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newFleet(t, 1)
			writer := w.joinDeaf(1)
			require.NoError(t, writer.Acquire(ctx, w.tps()))
			cat := &shown{Catalog: w.cat}
			idle := w.joinDeaf(2, func(conf *Config) { conf.Catalog, conf.Registration.TTL = cat, c.ttl })
			for i := range 5 {
				require.NoError(t, w.produce(ctx, writer.Engine, w.logs[0], value(0, i, 10)))
			}
			idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.after == 5 })
			if c.vouch != nil {
				c.vouch(w, writer, idle)
			}
			if c.stops && c.then == nil {
				idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.vouched == 5 })
			}
			cat.lost.Store(int64(writer.Epoch()))
			if c.then != nil {
				c.then(w, writer)
			}
			idle.Heard(catalog.Announcement{})
			if c.stops {
				stops(t, idle.Engine)
				return
			}
			require.Eventually(t, func() bool { return cat.looks.Load() >= 3 }, 10*time.Second, time.Millisecond, "it looks again and again")
			cat.lost.Store(0) // made again
			require.NoError(t, w.produce(ctx, writer.Engine, w.logs[0], value(0, 5, 10)))
			idle.follows(t, writer.Epoch(), func(c *cursor) bool { return c.after == 6 })
			require.NoError(t, idle.Ready())
		})
	}
}

// follows has the engine look at everything until its cursor of an epoch is as wanted.
func (m *member) follows(t *testing.T, epoch catalog.BrokerEpoch, is func(c *cursor) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		m.Heard(catalog.Announcement{})
		term := m.term.Load()
		if term == nil || term.feed.take(t.Context()) != nil {
			return false
		}
		defer term.feed.give()
		c := term.feed.cursors[epoch]
		return c != nil && is(c)
	}, 10*time.Second, time.Millisecond)
}
