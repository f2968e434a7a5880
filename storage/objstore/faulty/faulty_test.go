package faulty_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
)

var body = objstore.NewBody([]byte("0123456789"))

func stored(t *testing.T, s objstore.Store, key string) bool {
	t.Helper()
	_, err := s.Head(t.Context(), key)
	if err != nil {
		require.ErrorIs(t, err, objstore.ErrNotFound)
	}
	return err == nil
}

func TestRefusedDoesNothingAndLostDoesIt(t *testing.T) {
	inner := memory.New()
	own := errors.New("of the test")
	plan := faulty.NewPlan(
		faulty.Fault{Op: faulty.OpPut, Index: 1, Kind: faulty.Refuse},
		faulty.Fault{Op: faulty.OpPut, Index: 2, Kind: faulty.Lost},
		faulty.Fault{Op: faulty.OpDelete, Index: 0, Kind: faulty.Lost, Err: own},
		faulty.Fault{Op: faulty.OpList, Index: 0, Count: 2, Kind: faulty.Lost},
	)
	s := faulty.New(inner, plan)
	require.NoError(t, s.Put(t.Context(), "0", body))
	err := s.Put(t.Context(), "1", body)
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.True(t, objstore.Retriable(err))
	require.True(t, objstore.InDoubt(err))
	require.ErrorIs(t, s.Put(t.Context(), "2", body), objstore.ErrUnavailable)
	require.NoError(t, s.Put(t.Context(), "3", body))
	require.Equal(t, []bool{true, false, true, true},
		[]bool{stored(t, inner, "0"), stored(t, inner, "1"), stored(t, inner, "2"), stored(t, inner, "3")})

	err = s.Delete(t.Context(), []string{"0", "2"})
	require.ErrorIs(t, err, own)
	left, ok := errors.AsType[*objstore.DeleteError](err)
	require.True(t, ok)
	require.Equal(t, []string{"0", "2"}, left.Left)
	require.False(t, stored(t, inner, "0"))

	for range 2 {
		objects, _, err := s.List(t.Context(), "", "", 0)
		require.Error(t, err)
		require.Empty(t, objects, "an error comes with no objects")
	}
	_, _, err = s.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	require.NoError(t, plan.Verify())
	require.Equal(t, 4, plan.Calls(faulty.OpPut))
	require.Equal(t, 3, plan.Calls(faulty.OpList))
	require.Equal(t, 8, plan.Calls(faulty.OpAny))
}

func TestReadsTruncatedAndCorrupted(t *testing.T) {
	plan := faulty.NewPlan(
		faulty.Fault{Op: faulty.OpGet, Index: 0, Kind: faulty.Truncate},
		faulty.Fault{Op: faulty.OpGet, Index: 1, Kind: faulty.Corrupt},
		faulty.Fault{Op: faulty.OpHead, Index: 0, Kind: faulty.Corrupt},
	)
	s := faulty.New(memory.New(), plan)
	require.NoError(t, s.Put(t.Context(), "k", body))
	p := make([]byte, 10)
	require.ErrorIs(t, s.GetRange(t.Context(), "k", 0, p), io.ErrUnexpectedEOF)
	require.Equal(t, "01234\x00\x00\x00\x00\x00", string(p))
	require.NoError(t, s.GetRange(t.Context(), "k", 0, p))
	require.Equal(t, "0123446789", string(p))
	require.NoError(t, s.GetRange(t.Context(), "k", 0, p))
	require.Equal(t, "0123456789", string(p))
	_, err := s.Head(t.Context(), "k")
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.NoError(t, plan.Verify())
}

func TestAFaultNeverHitIsToldSo(t *testing.T) {
	plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpPut, Index: 1, Kind: faulty.Refuse})
	plan.Add(faulty.Fault{Op: faulty.OpAny, Index: 0, Count: 3, Kind: faulty.Slow, Crash: true})
	s := faulty.New(memory.New(), plan)
	_ = s.Put(t.Context(), "k", body)
	err := plan.Verify()
	require.ErrorContains(t, err, "refuse put #1 (0 of 1, 1 calls of its kind)")
	require.ErrorContains(t, err, "slow any #0-2, crash (1 of 3, 1 calls of its kind)")
}

func TestCrashAppliesOrNotAndNothingAfter(t *testing.T) {
	for _, kind := range []faulty.Kind{faulty.Refuse, faulty.Lost, faulty.Slow} {
		inner := memory.New()
		plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpAny, Index: 1, Kind: kind, Crash: true})
		s := faulty.New(inner, plan)
		require.NoError(t, s.Put(t.Context(), "0", body))
		err := s.Put(t.Context(), "1", body)
		require.ErrorIs(t, err, faulty.ErrCrashed)
		require.False(t, objstore.Retriable(err))
		<-s.Crashed()
		require.ErrorIs(t, s.Put(t.Context(), "2", body), faulty.ErrCrashed)
		require.ErrorIs(t, s.GetRange(t.Context(), "0", 0, make([]byte, 1)), faulty.ErrCrashed)
		require.ErrorIs(t, s.Delete(t.Context(), []string{"0"}), faulty.ErrCrashed)
		require.NoError(t, s.Close())
		require.NoError(t, s.Quiesce(t.Context()))
		require.NoError(t, plan.Verify())

		require.True(t, stored(t, inner, "0"), "the wrapped store stays open for the next process")
		require.Equal(t, kind != faulty.Refuse, stored(t, inner, "1"))
		require.False(t, stored(t, inner, "2"))
	}
}

func TestSlowWaitsForItsGateItsDelayOrTheCrash(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		inner := memory.New()
		s := faulty.New(inner, faulty.NewPlan(
			faulty.Fault{Op: faulty.OpPut, Index: 0, Kind: faulty.Slow, Delay: time.Minute},
			faulty.Fault{Op: faulty.OpPut, Index: 1, Count: 3, Kind: faulty.Slow, Gate: gate},
		))
		start := time.Now()
		require.NoError(t, s.Put(t.Context(), "0", body))
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Put(ctx, "1", body), context.DeadlineExceeded)

		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), "2", body) }()
		synctest.Wait()
		require.Empty(t, done)
		s.Crash()
		require.ErrorIs(t, <-done, faulty.ErrCrashed)
		require.False(t, stored(t, inner, "1"))
		require.False(t, stored(t, inner, "2"))
	})
}

// held is a store whose Puts wait.
type held struct {
	objstore.Store

	entered, release chan struct{}
}

func (h held) Put(ctx context.Context, key string, b objstore.Body) error {
	close(h.entered)
	<-h.release
	return h.Store.Put(ctx, key, b)
}

func TestQuiesceWaitsForTheWrappedStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := held{memory.New(), make(chan struct{}), make(chan struct{})}
		s := faulty.New(inner, nil)
		put, quiet := make(chan error, 1), make(chan error, 1)
		go func() { put <- s.Put(t.Context(), "k", body) }()
		<-inner.entered
		s.Crash()
		go func() { quiet <- s.Quiesce(t.Context()) }()
		synctest.Wait()
		require.Empty(t, quiet)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Quiesce(ctx), context.DeadlineExceeded)
		close(inner.release)
		require.NoError(t, <-quiet)
		require.ErrorIs(t, <-put, faulty.ErrCrashed, "a dead process hears no answer")
		require.True(t, stored(t, inner.Store, "k"))
	})
}
