package objstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func (t *suite) testDelete() {
	s := t.store
	putAll(t, s, []string{"d/1", "d/2", "d/3", "keep"})
	require.NoError(t, s.Delete(t.Context(), nil))
	require.NoError(t, s.Delete(t.Context(), []string{"d/1", "d/absent", "d/2", "d/1", "none/at/all"}))
	requireAbsent(t, s, "d/1")
	requireAbsent(t, s, "d/2")
	requireContent(t, s, "d/3", []byte("d/3"))
	require.NoError(t, s.Delete(t.Context(), []string{"d/1", "d/2", "d/3"}))
	require.NoError(t, s.Delete(t.Context(), []string{"d/1", "d/2", "d/3"}))
	keys, err := listAll(t.Context(), s, "", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"keep"}, keys)
}

func (t *suite) testDeleteMany() {
	s := t.store
	keys := make([]string, objstore.MaxList+100) // more than one batch of any backend, most of them absent
	for i := range keys {
		keys[i] = fmt.Sprintf("many/%d/%d", i%7, i)
		if i%10 == 0 {
			put(t, s, keys[i], []byte("x"))
		}
	}
	put(t, s, "many/keep", []byte("x"))
	require.NoError(t, s.Delete(t.Context(), keys))
	left, err := listAll(t.Context(), s, "", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"many/keep"}, left)
}

// testDeleteThenPut: what was kept of a deleted object is not shown for a new one.
func (t *suite) testDeleteThenPut() {
	s := t.store
	for i := range 10 {
		data := random(uint64(i), 1000+i)
		put(t, s, "again/and/again", data)
		requireContent(t, s, "again/and/again", data)
		require.NoError(t, s.Delete(t.Context(), []string{"again/and/again"}))
		requireAbsent(t, s, "again/and/again")
	}
}

func (t *suite) testDeleteWhileReading() {
	s := t.store
	const size = 200_000
	data := random(1, size)
	for round := range 8 {
		key := fmt.Sprintf("reading/%d", round)
		put(t, s, key, data)
		var wg sync.WaitGroup
		problems := make(chan error, 4)
		started := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				p := make([]byte, size)
				started <- struct{}{}
				for {
					err := s.GetRange(t.Context(), key, 0, p)
					if errors.Is(err, objstore.ErrNotFound) {
						return
					}
					if err == nil && !bytes.Equal(p, data) {
						err = errors.New("a reader saw other bytes")
					}
					if err != nil {
						problems <- err
						return
					}
				}
			})
		}
		for range 4 {
			<-started
		}
		require.NoError(t, s.Delete(t.Context(), []string{key}))
		wg.Wait() // ends only if every reader finds it gone
		close(problems)
		for err := range problems {
			require.NoError(t, err)
		}
		requireAbsent(t, s, key)
	}
}

func (t *suite) testContextEnded() {
	s := t.store
	put(t, s, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Put(ctx, "new", objstore.NewBody([]byte("x")))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, objstore.Retriable(err))
	require.ErrorIs(t, s.GetRange(ctx, "there", 0, make([]byte, 1)), context.Canceled)
	_, err = s.Head(ctx, "there")
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = s.List(ctx, "", "", 0)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Delete(ctx, []string{"there"}), context.Canceled)
	keys, err := listAll(t.Context(), s, "", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"there"}, keys)
}

// testContextEndsDuringPut: whatever the moment, the object is there whole or not at all, and settling tells which.
func (t *suite) testContextEndsDuringPut() {
	s := t.store
	body := objstore.NewBody(split(random(1, 4<<20), 2, 10_000)...)
	for i := range 6 {
		key := fmt.Sprintf("cut/%d", i)
		ctx, cancel := context.WithCancel(t.Context())
		started, result := make(chan struct{}), make(chan error, 1)
		go func() {
			close(started)
			result <- s.Put(ctx, key, body)
		}()
		<-started
		for range i {
			_, _ = s.Head(t.Context(), key) // any work that takes a moment
		}
		cancel()
		err := <-result
		outcome, settleErr := objstore.Settle(t.Context(), s, key, body.Size, body.Checksum)
		require.NoError(t, settleErr)
		if err == nil {
			require.Equal(t, objstore.Stored, outcome)
			continue
		}
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, objstore.InDoubt(err))
		require.NotEqual(t, objstore.Foreign, outcome, "a part of the object is visible")
	}
}

func (t *suite) testClosed() {
	s := t.store
	put(t, s, "there", []byte("x"))
	require.NoError(t, s.GetRange(t.Context(), "there", 0, make([]byte, 1)))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	err := s.Put(t.Context(), "new", objstore.NewBody([]byte("x")))
	require.ErrorIs(t, err, objstore.ErrClosed)
	require.False(t, objstore.Retriable(err))
	require.ErrorIs(t, s.GetRange(t.Context(), "there", 0, make([]byte, 1)), objstore.ErrClosed)
	_, err = s.Head(t.Context(), "there")
	require.ErrorIs(t, err, objstore.ErrClosed)
	_, _, err = s.List(t.Context(), "", "", 0)
	require.ErrorIs(t, err, objstore.ErrClosed)
	require.ErrorIs(t, s.Delete(t.Context(), []string{"there"}), objstore.ErrClosed)
}
