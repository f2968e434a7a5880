package metered_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

func TestHooksAreToldOfEveryCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var started []string
		var events []metered.Event
		s := metered.New(slow.New(memory.New(), slow.Latency{Put: time.Second, Get: 2 * time.Second, Other: 3 * time.Second}), metered.Hooks{
			Start: func(op string) { started = append(started, op) },
			Done:  func(e metered.Event) { events = append(events, e) },
		})
		ctx := t.Context()
		require.NoError(t, s.Put(ctx, "a/b", objstore.NewBody([]byte("abc"))))
		require.Error(t, s.Put(ctx, "a/b", objstore.NewBody([]byte("abc"))))
		require.NoError(t, s.GetRange(ctx, "a/b", 1, make([]byte, 2)))
		_, err := s.Head(ctx, "a/b")
		require.NoError(t, err)
		_, _, err = s.List(ctx, "a/", "", 0)
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, []string{"a/b", "a/c"}))
		require.NoError(t, s.Close())

		require.Equal(t, []string{"put", "put", "get", "head", "list", "delete"}, started)
		require.Len(t, events, len(started))
		require.ErrorIs(t, events[1].Err, objstore.ErrExists)
		events[1].Err = nil
		require.Equal(t, []metered.Event{
			{Op: metered.OpPut, Key: "a/b", Bytes: 3, Duration: time.Second},
			{Op: metered.OpPut, Key: "a/b", Duration: time.Second},
			{Op: metered.OpGet, Key: "a/b", Offset: 1, Bytes: 2, Duration: 2 * time.Second},
			{Op: metered.OpHead, Key: "a/b", Duration: 3 * time.Second},
			{Op: metered.OpList, Key: "a/", Objects: 1, Duration: 3 * time.Second},
			{Op: metered.OpDelete, Objects: 2, Duration: 3 * time.Second},
		}, events)
		for _, e := range events {
			require.Contains(t, metered.Ops(), e.Op)
		}
	})
}
