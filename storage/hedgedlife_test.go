package storage

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// farStore is the way to a store on which some first PUTs of log objects take long, each in its own way, by sequence. The
// store behind it is where faults are.
type farStore struct {
	objstore.Store
	late sync.WaitGroup // PUTs that the store does although they were called off

	mu    sync.Mutex
	races map[bool]int // that were told, by whether the second won
}

const (
	farQuick = time.Millisecond
	farLong  = 30 * time.Millisecond // longer than the shortest delay before a second PUT
	farEver  = time.Second           // in effect until it is called off
	farLate  = 50 * time.Millisecond // after it was called off
)

// Put implements [objstore.Store].
func (s *farStore) Put(ctx context.Context, key string, body objstore.Body) error {
	k, err := segment.ParseKey(key)
	if err != nil || !strings.HasPrefix(key, "log/") {
		return s.Store.Put(ctx, key, body)
	}
	first := k.Attempt == 1
	switch k.Sequence % 6 {
	case 1: // the first gets nowhere
		if first {
			if err := passes(ctx, farEver); err != nil {
				return err
			}
		}
	case 2: // the first is stored, and nobody hears of it in time
		if first {
			err := s.Store.Put(ctx, key, body)
			if ended := passes(ctx, farEver); ended != nil {
				return ended
			}
			return err
		}
	case 3: // the first is stored after it was called off and deleted
		if first {
			ended := passes(ctx, farEver)
			if ended == nil {
				break
			}
			late := objstore.NewBody(bytes.Join(body.Slices, nil)) // not ours after we returned
			s.late.Go(func() {
				<-time.After(farLate)
				_ = s.Store.Put(context.WithoutCancel(ctx), key, late)
			})
			return ended
		}
	case 4: // the first wins while the second is under way
		if err := passes(ctx, farLong); err != nil {
			return err
		}
	case 5: // the first wins, and the second is stored already
		if !first {
			err := s.Store.Put(ctx, key, body)
			if ended := passes(ctx, farEver); ended != nil {
				return ended
			}
			return err
		}
		if err := passes(ctx, farLong); err != nil {
			return err
		}
	}
	if err := passes(ctx, farQuick); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, body)
}

// passes waits; an error says that ctx ended before.
func passes(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hedging has lives led by an engine that hedges the PUTs of log objects, all of those that take long.
func (w *world) hedging(s *seams) (Config, *farStore) {
	far := &farStore{Store: s.store, races: map[bool]int{}}
	c := w.lifeConfig(s)
	c.Store, c.HedgeUploads = far, true
	c.Hooks.Hedged = func(won bool) {
		far.mu.Lock()
		defer far.mu.Unlock()
		far.races[won]++
	}
	w.before = func(e *Engine) {
		for range 128 { // pay for more, and forget how long the last ones took: what is slow is always the same
			e.uploads.Took(1<<9, farQuick)
			e.uploads.Took(1<<11, farQuick)
		}
	}
	w.settle = func() { // virtual time: what the losers of races still do
		<-time.After(2 * farEver)
		far.late.Wait()
	}
	return c, far
}

// TestEveryCallOfAHedgingEngineFails is TestEveryCallFails for an engine that hedges, in virtual time: the fault may be in the
// first PUT of a race, in the second, in what is done after one was called off, or in the deletion of the loser.
func TestEveryCallOfAHedgingEngineFails(t *testing.T) {
	catCalls, storeCalls := 0, 0
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		s := newSeams(w, nil, nil)
		cfg, far := w.hedging(s)
		e, err := w.life(t.Context(), cfg)
		require.NoError(t, err)
		catCalls, storeCalls = s.catPlan.Calls(catfaulty.OpAny), s.storePlan.Calls(faulty.OpAny)
		w.check(t.Context(), e)
		keys := objects(t, w.store)
		known, err := w.cat.KnownObjects(t.Context(), keys)
		require.NoError(t, err)
		for _, key := range keys {
			k, err := segment.ParseKey(key)
			require.NoError(t, err)
			require.True(t, known[key] || k.Sequence%6 == 3 && k.Attempt == 1, "%s was stored besides, and is left", key)
		}
		e.Kill()
		far.mu.Lock()
		defer far.mu.Unlock()
		require.Greater(t, far.races[true], 5, "the second won")
		require.Greater(t, far.races[false], 3, "the first won")
	})
	t.Logf("a life is %d catalog calls and %d store calls", catCalls, storeCalls)
	everyFault(t, catCalls, storeCalls, func(t *testing.T, f fault) {
		t.Helper()
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			s := newSeams(w, nil, nil)
			cfg, _ := w.hedging(s)
			w.survive(f, s, cfg)
		})
	})
}
