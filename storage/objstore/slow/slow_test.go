package slow_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

func TestPutAndGetTakeAsLongAsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := slow.New(memory.New(), slow.Latency{Put: 280 * time.Millisecond, Get: 20 * time.Millisecond})
		start := time.Now()
		require.NoError(t, s.Put(t.Context(), "k", objstore.NewBody([]byte("x"))))
		require.Equal(t, 280*time.Millisecond, time.Since(start))
		require.NoError(t, s.GetRange(t.Context(), "k", 0, make([]byte, 1)))
		require.Equal(t, 300*time.Millisecond, time.Since(start))
		_, err := s.Head(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
	})
}

func TestContextThatEndsInTheWaitLeavesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := slow.New(inner, slow.Latency{Put: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, s.Put(ctx, "k", objstore.NewBody([]byte("x"))), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
		require.Zero(t, inner.Bytes())
	})
}
