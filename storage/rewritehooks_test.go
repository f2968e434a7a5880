package storage

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// rewrite is what a hook was told of one.
type rewrite struct {
	objects int
	bytes   int64
	took    time.Duration
}

// fullStore takes two seconds for the PUT of a segment, and refuses it.
type fullStore struct{ slowStore }

var errFull = errors.New("the disk is full")

func (s fullStore) Put(ctx context.Context, key string, body objstore.Body) error {
	if key[0] == 's' {
		<-time.After(2 * time.Second)
		return errFull
	}
	return s.Store.Put(ctx, key, body)
}

// Merges are told with what they took in, what they wrote and how long that took, each kind of its own; so are those that fail.
func TestRewritesAreToldWithWhatTheyTook(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := newWorld(t, 1)
		w.foldEach(4, 300)
		told, failed := map[string]rewrite{}, map[string]time.Duration{}
		hooks := func(c *Config) {
			c.MergeInterval, c.FoldInterval = time.Hour, time.Hour // the test does it
			c.Hooks.Rewritten = func(kind string, objects int, bytes int64, took time.Duration) {
				if _, ok := told[kind]; !ok {
					told[kind] = rewrite{objects, bytes, took}
				}
			}
			c.Hooks.RewriteFailed = func(kind string, err error, took time.Duration) {
				if errors.Is(err, errFull) {
					failed[kind] = took
				}
			}
		}
		write := func(e *Engine) {
			for range hotMergeObjects {
				require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, len(w.logs[0].acked), 10)))
			}
		}
		e := w.open(fanIn(4), hooks, func(c *Config) { c.Store = fullStore{slowStore{w.store}} })
		write(e)
		require.Error(t, e.Tidy(ctx))
		require.Equal(t, 2*time.Second, failed[rewriteHot])
		require.Error(t, e.Tidy(ctx))
		require.Equal(t, 2*time.Second, failed[rewriteSegment])
		require.NotContains(t, told, rewriteHot)
		require.NotContains(t, told, rewriteSegment)
		e.Kill()

		clear(told)
		clear(failed)
		e = w.open(fanIn(4), hooks, func(c *Config) { c.Store = slowStore{w.store} })
		write(e)
		require.NoError(t, e.Tidy(ctx))
		require.Empty(t, failed)
		for _, kind := range []string{rewriteHot, rewriteSegment} {
			require.Equal(t, 2*time.Second, told[kind].took, kind)
			require.GreaterOrEqual(t, told[kind].objects, 4, kind)
			require.Positive(t, told[kind].bytes, kind)
		}
		require.Positive(t, told[rewriteFold].objects)
		w.check(ctx, e)
		e.Kill()
	})
}
