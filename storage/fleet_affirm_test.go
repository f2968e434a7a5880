package storage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// deposed is a fleet in which a leads nothing any more and does not know it: it was fenced, as a broker is whose connection was
// seen to go, its session is trusted for long, and b leads and has appended.
func deposed(t *testing.T) (f *fleet, a, b *member) {
	t.Helper()
	ctx := t.Context()
	f = newFleet(t, 1)
	a, b = f.joinDeaf(1), f.join(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	for i := range 3 {
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], value(0, i, 100)))
	}
	f.fence(a.Epoch())
	require.NoError(t, b.Acquire(ctx, f.tps()))
	for i := range 3 {
		require.NoError(t, f.produce(ctx, b.Engine, f.logs[0], value(0, 3+i, 100)))
	}
	_, err := a.Leader(f.logs[0].tp)
	require.NoError(t, err, "it does not know")
	return f, a, b
}

// A broker that was fenced while it trusts its session refuses no offset: the leader may have it, and a consumer would skip
// data.
func TestADeposedLeaderRefusesNoOffset(t *testing.T) {
	ctx := t.Context()
	f, a, b := deposed(t)
	tp := f.logs[0].tp
	var r Read
	require.NoError(t, a.Read(ctx, ReadRequest{TP: tp, Offset: 1, MaxBytes: 1 << 20}, &r), "what is committed is true for ever")
	r.Release()
	err := a.Read(ctx, ReadRequest{TP: tp, Offset: 5, MaxBytes: 1 << 20}, &r)
	require.ErrorIs(t, err, ErrNotLeader)
	require.NotErrorIs(t, err, ErrOffsetOutOfRange)
	require.NoError(t, b.Read(ctx, ReadRequest{TP: tp, Offset: 5, MaxBytes: 1 << 20}, &r))
	r.Release()
	require.ErrorIs(t, b.Read(ctx, ReadRequest{TP: tp, Offset: 7, MaxBytes: 1 << 20}, &r), ErrOffsetOutOfRange, "this one leads")
}

// Nor does it refuse a batch for what another leader knows better.
func TestADeposedLeaderRefusesNoSequence(t *testing.T) {
	ctx := t.Context()
	f, a, b := deposed(t)
	l := f.logs[0]
	_, err := f.send(ctx, a.Engine, l, l.seq, []byte("next of what b has"))
	require.ErrorIs(t, err, ErrNotLeader)
	require.NotErrorIs(t, err, ErrOutOfOrderSequence)
	_, err = f.send(ctx, b.Engine, l, l.seq+7, []byte("a hole"))
	require.ErrorIs(t, err, ErrOutOfOrderSequence, "this one leads")
}

// Nor a deletion.
func TestADeposedLeaderRefusesNoDeletion(t *testing.T) {
	ctx := t.Context()
	f, a, b := deposed(t)
	_, err := a.DeleteRecords(ctx, f.logs[0].tp, 5)
	require.ErrorIs(t, err, ErrNotLeader)
	_, err = b.DeleteRecords(ctx, f.logs[0].tp, 7)
	require.ErrorIs(t, err, ErrOffsetOutOfRange)
}

// A broker that was told that it is fenced when it wanted to speak ends its term at once.
func TestADeposedLeaderLearnsIt(t *testing.T) {
	ctx := t.Context()
	f, a, _ := deposed(t)
	old := a.Epoch()
	require.ErrorIs(t, a.Affirm(ctx), ErrNotLeader)
	require.Eventually(t, func() bool { return a.Epoch() > old }, 10*time.Second, time.Millisecond)
	require.NoError(t, a.Affirm(ctx), "it registered anew")
	_, err := a.Leader(f.logs[0].tp)
	require.ErrorIs(t, err, ErrNotLeader)
}

// slowFleet answers whether an epoch is fenced late, or not at all.
type slowFleet struct {
	catalog.Fleet
	takes  time.Duration
	silent atomic.Bool
	asked  atomic.Int64
}

func (s *slowFleet) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	s.asked.Add(1)
	if s.silent.Load() {
		<-ctx.Done()
		return fmt.Errorf("no answer: %w: %w", catalog.ErrUnavailable, ctx.Err())
	}
	err := s.Fleet.Unfenced(ctx, epoch)
	<-time.After(s.takes) // the answer is under way, and gets old
	return err
}

// Many who ask share a question, which is never one that was sent before they asked.
func TestAffirmIsShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		slow := &slowFleet{takes: 20 * time.Millisecond}
		a := f.joinDeaf(1, func(c *Config) { slow.Fleet, c.Fleet = c.Fleet, slow })
		require.NoError(t, a.Acquire(t.Context(), f.tps()))
		var wg sync.WaitGroup
		began := time.Now()
		for range 100 {
			wg.Go(func() { require.NoError(t, a.Affirm(t.Context())) })
		}
		wg.Wait()
		require.LessOrEqual(t, slow.asked.Load(), int64(2), "those who came while the first was under way")
		require.LessOrEqual(t, time.Since(began), 50*time.Millisecond)

		<-time.After(time.Second)
		slow.asked.Store(0)
		for range 1000 {
			require.NoError(t, a.Affirm(t.Context()))
		}
		require.EqualValues(t, 1000, slow.asked.Load(), "one after the other shares nothing")
		slow.takes = 0
		began = time.Now()
		for range 1000 {
			require.NoError(t, a.Affirm(t.Context()))
		}
		require.GreaterOrEqual(t, time.Since(began), 999*affirmSpacing, "at most so often")

		// Who asks after the fence does not get the answer to a question sent before it.
		<-time.After(affirmSpacing)
		slow.takes = time.Second / 2
		before := make(chan error)
		go func() { before <- a.Affirm(t.Context()) }()
		synctest.Wait()
		f.fence(a.Epoch())
		require.ErrorIs(t, a.Affirm(t.Context()), ErrNotLeader)
		require.NoError(t, <-before)
	})
}

// Without an answer of the catalog nobody speaks, and nobody waits for long, whatever the number of partitions.
func TestAffirmWithoutTheCatalog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		slow := &slowFleet{}
		a := f.joinDeaf(1, func(c *Config) { slow.Fleet, c.Fleet = c.Fleet, slow })
		require.NoError(t, a.Acquire(t.Context(), f.tps()))
		slow.silent.Store(true)
		began := time.Now()
		var r Read
		for range 100 {
			err := a.Read(t.Context(), ReadRequest{TP: f.logs[0].tp, Offset: 9, MaxBytes: 100}, &r)
			require.ErrorIs(t, err, ErrNotLeader)
			require.NotErrorIs(t, err, ErrOffsetOutOfRange)
		}
		require.LessOrEqual(t, time.Since(began), affirmTimeout)
		slow.silent.Store(false)
		<-time.After(affirmRest)
		require.ErrorIs(t, a.Read(t.Context(), ReadRequest{TP: f.logs[0].tp, Offset: 9, MaxBytes: 100}, &r), ErrOffsetOutOfRange, "it is back")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		slow.takes = time.Minute
		require.ErrorIs(t, a.Affirm(ended), context.Canceled)
	})
}
