package storage

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

const bubbleTTL = 6 * time.Second

func ttl(c *Config) { c.Registration.TTL = bubbleTTL }

// Wake-ups that are lost are made up for by heartbeats, and watchers are told.
func TestFollowersHearByHeartbeat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		a, b := f.join(1, ttl), f.join(2, ttl)
		require.NoError(t, a.Acquire(ctx, f.tps()))
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("one")))
		began := time.Now()
		f.follows(b)
		require.Less(t, time.Since(began), 50*time.Millisecond, "woken at once")
		b.handle.Drop() // it listens no more
		synctest.Wait()
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("two")))
		began = time.Now()
		f.follows(b)
		require.LessOrEqual(t, time.Since(began), bubbleTTL/3)
		require.Greater(t, time.Since(began), 50*time.Millisecond, "not by an announcement")
		a.die()
		b.die()
	})
}

// A broker that cannot reach the catalog does not know how far behind it is: after a while it does not say.
func TestFollowersThatHearNothingSaySo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		a := f.join(1, ttl)
		plan := catfaulty.NewPlan()
		cat := catfaulty.New(f.shared.Open(), plan)
		b := f.join(2, ttl, func(c *Config) { c.Catalog, c.Fleet = cat, cat.Fleet() })
		require.NoError(t, a.Acquire(ctx, f.tps()))
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("one")))
		f.follows(b)
		plan.Next(catfaulty.Fault{Op: catfaulty.OpAny, Count: 1 << 30, Kind: catfaulty.Refuse})
		read := func() error {
			var r Read
			defer r.Release()
			return b.ReadFollower(ctx, ReadRequest{TP: f.logs[0].tp, MaxBytes: 100, MinOne: true}, &r)
		}
		<-time.After(bubbleTTL / 2)
		require.NoError(t, read(), "committed reads go on for a while")
		<-time.After(bubbleTTL)
		require.ErrorIs(t, read(), ErrNotLeader)
		a.die()
		b.die()
	})
}

// A hand-over that waits too long for what is in flight is given up, and the partitions go on.
func TestHandOverTakesFiveSecondsAtMost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		gate := make(chan struct{})
		a := f.join(1, ttl, func(c *Config) { c.Store = &gatedStore{Store: f.store, gate: gate} })
		b := f.join(2, ttl)
		require.NoError(t, a.Acquire(ctx, f.tps()))
		p, err := f.send(ctx, a.Engine, f.logs[0], 0, []byte("slow"))
		require.NoError(t, err)
		began := time.Now()
		require.ErrorIs(t, a.HandOver(ctx, f.tps(), b.Epoch()), ErrUnavailable)
		require.Equal(t, handOverTimeout, time.Since(began))
		_, err = a.Leader(f.logs[0].tp)
		require.NoError(t, err)
		close(gate)
		<-p.Done()
		_, err = p.Result()
		require.NoError(t, err)
		a.die()
		b.die()
	})
}

// What hangs when a hand-over begins keeps no partition closed; what hangs afterwards opens it again.
func TestHandOverClosesWhenTheStoreAnswers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		gate := make(chan struct{})
		a := f.join(1, ttl, func(c *Config) { c.Store = &gatedStore{Store: f.store, gate: gate} })
		b := f.join(2, ttl)
		l := f.logs[0]
		require.NoError(t, a.Acquire(ctx, f.tps()))
		first, err := f.send(ctx, a.Engine, l, 0, []byte("first"))
		require.NoError(t, err)
		synctest.Wait()
		limited, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- a.HandOver(limited, f.tps(), b.Epoch()) }()
		synctest.Wait()
		_, err = a.Leader(l.tp)
		require.NoError(t, err, "open while the store hangs")
		second, err := f.send(ctx, a.Engine, l, 1, []byte("second"))
		require.NoError(t, err)
		gate <- struct{}{} // lets one PUT through
		synctest.Wait()
		_, err = a.Leader(l.tp)
		require.ErrorIs(t, err, ErrNotLeader, "closed once the first is committed")
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		_, err = a.Leader(l.tp)
		require.NoError(t, err, "open again")
		close(gate)
		for i, p := range []Pending{first, second} {
			<-p.Done()
			got, err := p.Result()
			require.NoError(t, err)
			l.ack(t, got.BaseOffset, []byte([]string{"first", "second"}[i]))
		}
		require.NoError(t, f.produce(ctx, a.Engine, l, []byte("more")))
		f.give(a, b, f.tps()...)
		f.check(ctx, b.Engine)
		a.die()
		b.die()
	})
}

// A hand-over does not wait for the spacing of flushes.
func TestHandOverSealsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		a := f.join(1, ttl, func(c *Config) { c.FlushInterval = time.Second })
		b := f.join(2, ttl)
		require.NoError(t, a.Acquire(ctx, f.tps()))
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("one")))
		p, err := f.send(ctx, a.Engine, f.logs[0], 1, []byte("two"))
		require.NoError(t, err)
		began := time.Now()
		f.give(a, b, f.tps()...)
		require.Less(t, time.Since(began), 100*time.Millisecond)
		got, err := p.Result()
		require.NoError(t, err)
		require.EqualValues(t, 1, got.BaseOffset)
		a.die()
		b.die()
	})
}

// The log start is moved by the leader alone; followers learn of it in time, and never skip what is deleted silently.
func TestFollowersLearnTheLogStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := newFleet(t, 1)
		a, b := f.join(1, ttl), f.join(2, ttl)
		require.NoError(t, a.Acquire(ctx, append(f.tps(), controllerLease)))
		for i := range 6 {
			require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], value(0, i, 100)))
		}
		f.follows(b)
		_, err := a.DeleteRecords(ctx, f.logs[0].tp, 4)
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, a.Tidy(ctx))
			<-time.After(time.Second)
		}
		<-time.After(reloadAfter)
		var r Read
		err = b.ReadFollower(ctx, ReadRequest{TP: f.logs[0].tp, Offset: 1, MaxBytes: 100, MinOne: true}, &r)
		require.ErrorIs(t, err, ErrOffsetOutOfRange)
		require.EqualValues(t, 4, r.LogStart)
		require.EqualValues(t, 6, r.HighWatermark)
		r.Release()
		f.logs[0].logStart = 4
		f.follows(b)
		a.die()
		b.die()
	})
}

// What a follower is told of a topic that was deleted goes with the tail.
func TestFollowersForgetDeletedTopics(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 3)
	a, b := f.join(1), f.join(2)
	require.NoError(t, a.Acquire(ctx, append(f.tps(), controllerLease)))
	f.produceAll(ctx, a)
	f.follows(b)
	deleted := f.tps()
	require.NoError(t, f.cat.DeleteTopic(ctx, f.topic))
	b.DropTopic(f.topic)
	b.Heard(catalog.Announcement{})
	a.DropTopic(f.topic)
	var r Read
	require.ErrorIs(t, b.ReadFollower(ctx, ReadRequest{TP: deleted[0], MaxBytes: 1}, &r), ErrUnknownPartition)
	require.NoError(t, a.Tidy(ctx))
	b.Heard(catalog.Announcement{})
	require.Eventually(t, func() bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		return len(b.mu.partitions) == 0
	}, 10*time.Second, time.Millisecond)
}
