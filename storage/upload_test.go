package storage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// scriptedStore decides over each PUT of a log object.
type scriptedStore struct {
	objstore.Store
	put func(ctx context.Context, attempt int, store func() error) error

	pressed atomic.Bool // the backend asks to slow down

	mu      sync.Mutex
	damaged []string // stored bytes were not those whose checksum was promised
	puts    int
	running int
	most    int
}

func (s *scriptedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	k, err := segment.ParseKey(key)
	if err != nil || !strings.HasPrefix(key, "log/") {
		return s.Store.Put(ctx, key, body)
	}
	s.count(1)
	defer s.count(-1)
	return s.put(ctx, k.Attempt, func() error {
		sum := uint32(0)
		for _, b := range body.Slices {
			sum = objstore.UpdateChecksum(sum, b)
		}
		if sum != body.Checksum {
			s.mu.Lock()
			s.damaged = append(s.damaged, key)
			s.mu.Unlock()
		}
		return s.Store.Put(context.WithoutCancel(ctx), key, body)
	})
}

// Calm implements [objstore.Calmer].
func (s *scriptedStore) Calm() bool { return !s.pressed.Load() }

// count notes n more PUTs under way, and returns how many are.
func (s *scriptedStore) count(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 {
		s.puts++
	}
	s.running += n
	s.most = max(s.most, s.running)
	return s.running
}

// hedged runs a test in virtual time, with an engine that hedges PUTs and has saved up for it: 50 PUTs of 5 ms.
func hedged(t *testing.T, test func(w *world, s *scriptedStore, e *Engine, races *[]bool)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		s := &scriptedStore{Store: w.store}
		quick := func(_ context.Context, _ int, store func() error) error {
			<-time.After(5 * time.Millisecond)
			return store()
		}
		s.put = quick
		w.store = s
		var races []bool
		e := w.open(func(c *Config) {
			c.HedgeUploads, c.TailCacheBytes = true, 1
			c.Hooks.Hedged = func(won bool) { races = append(races, won) }
			c.Hooks.Requested = func(string, catalog.TopicID, float64, float64) {} // as brokers do: the engine wraps the store for it
		})
		for i := range 50 {
			require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, i, 500)))
		}
		require.Empty(t, races)
		require.Equal(t, 1, s.most)
		test(w, s, e, &races)
		s.put = quick
		require.NoError(t, e.Close(t.Context()))
		again := w.open()
		w.check(t.Context(), again)
		require.NoError(t, again.Close(t.Context()))
		require.Empty(t, s.damaged)
	})
}

// attempts are the attempts named by the keys of stored log objects other than the first.
func attempts(tb testing.TB, store objstore.Store) (later []int) {
	tb.Helper()
	for _, key := range objects(tb, store) {
		k, err := segment.ParseKey(key)
		require.NoError(tb, err)
		if strings.HasPrefix(key, "log/") && k.Attempt != 1 {
			later = append(later, k.Attempt)
		}
	}
	return later
}

func TestHedgedUploadThatHangs(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.put = func(ctx context.Context, attempt int, store func() error) error {
			if attempt == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			<-time.After(5 * time.Millisecond)
			return store()
		}
		began, stored := time.Now(), len(objects(t, s.Store))
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50, 500)))
		require.Less(t, time.Since(began), 50*time.Millisecond, "20 ms until it is slow, 5 ms for the second")
		require.Equal(t, []bool{true}, *races)
		require.Equal(t, []int{2}, attempts(t, s.Store))
		<-time.After(time.Second)
		require.Len(t, objects(t, s.Store), stored+1)
		w.check(t.Context(), e)
	})
}

// TestUploadWhileTheStoreAsksToSlowDown: a PUT is slow since it waits, and a second one would be one more that the store has not
// asked for. Once that is over, slow PUTs get a second one as before.
func TestUploadWhileTheStoreAsksToSlowDown(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.put = func(_ context.Context, attempt int, store func() error) error {
			if attempt == 1 {
				s.pressed.Store(true) // found out by this PUT
				<-time.After(time.Second)
			}
			return store()
		}
		for i := range 3 {
			require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50+i, 500)))
		}
		require.Empty(t, *races)
		require.Equal(t, 1, s.most)
		require.Empty(t, attempts(t, s.Store))

		s.put = func(_ context.Context, attempt int, store func() error) error {
			if attempt == 1 {
				s.pressed.Store(false)
				<-time.After(10 * time.Second)
			}
			return store()
		}
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 53, 500)))
		require.Equal(t, []bool{true}, *races)
		<-time.After(10 * time.Second) // the first
	})
}

// TestHedgedUploadStoredTwice: the first PUT cannot be called off and is stored long after, from memory that the tail
// cache has let go of. It is deleted then, and what it stored were still the right bytes.
func TestHedgedUploadStoredTwice(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.put = func(_ context.Context, attempt int, store func() error) error {
			if attempt == 1 {
				<-time.After(3 * time.Second)
			}
			return store()
		}
		stored := len(objects(t, s.Store))
		for i := range 3 { // as many as were saved up for at least
			require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50+i, 500)))
		}
		require.Equal(t, []bool{true, true, true}, *races)
		require.Len(t, objects(t, s.Store), stored+3)
		<-time.After(4 * time.Second)
		require.Empty(t, s.damaged)
		require.Len(t, objects(t, s.Store), stored+3, "the slower ones are gone")
		w.check(t.Context(), e)
	})
}

// TestHedgedUploadWhoseFirstWins: the first ends while the second runs.
func TestHedgedUploadWhoseFirstWins(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.put = func(ctx context.Context, attempt int, store func() error) error {
			if attempt == 1 {
				<-time.After(30 * time.Millisecond)
				return store()
			}
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			_ = store()
			return errors.New("the answer is lost")
		}
		stored := len(objects(t, s.Store))
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50, 500)))
		require.Equal(t, []bool{false}, *races)
		<-time.After(time.Second)
		require.Len(t, objects(t, s.Store), stored+1)
		require.Empty(t, attempts(t, s.Store))
	})
}

// TestHedgedUploadWhoseFirstFails: the second is there already, and what the first may have stored is deleted.
func TestHedgedUploadWhoseFirstFails(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.put = func(_ context.Context, attempt int, store func() error) error {
			<-time.After(30 * time.Millisecond)
			err := store()
			if attempt == 1 {
				return errors.New("the answer is lost")
			}
			return err
		}
		stored := len(objects(t, s.Store))
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50, 500)))
		require.Equal(t, []bool{true}, *races)
		<-time.After(time.Second)
		require.Len(t, objects(t, s.Store), stored+1)
		require.Equal(t, []int{2}, attempts(t, s.Store))
	})
}

// TestHedgedUploadsThatFail: of a race nothing is left, and a store in trouble is not asked twice at a time.
func TestHedgedUploadsThatFail(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, races *[]bool) {
		t := w.t // of the bubble
		s.most = 0
		s.put = func(_ context.Context, attempt int, store func() error) error {
			<-time.After(time.Duration(30*attempt) * time.Millisecond)
			if attempt > 4 {
				return store()
			}
			if attempt == 2 {
				_ = store()
			}
			return errors.New("busy")
		}
		before, stored := s.puts, len(objects(t, s.Store))
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 50, 500)))
		require.Equal(t, []bool{false}, *races, "a second one was sent, and was no use")
		require.Equal(t, 2, s.most, "the first two")
		require.Equal(t, before+5, s.puts)
		<-time.After(time.Second)
		require.Len(t, objects(t, s.Store), stored+1)
		require.Equal(t, []int{5}, attempts(t, s.Store))
		s.most = 0
		s.put = func(_ context.Context, _ int, store func() error) error { <-time.After(time.Second); return store() }
		for i := range 5 {
			require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 51+i, 500)))
		}
		require.Equal(t, 1, s.most, "nothing was saved up again")
	})
}

// TestHedgedUploadWhenAllEnds: the engine is killed in the midst of a race.
func TestHedgedUploadWhenAllEnds(t *testing.T) {
	hedged(t, func(w *world, s *scriptedStore, e *Engine, _ *[]bool) {
		t := w.t // of the bubble
		s.put = func(ctx context.Context, _ int, _ func() error) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, w.produce(ctx, e, w.logs[0], value(0, 50, 500)))
		require.Equal(t, 2, s.count(0))
		e.Kill()
		synctest.Wait()
		require.Zero(t, s.count(0))
	})
}
