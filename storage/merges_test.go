package storage

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// fanIn sets Config.MergeFanIn, and keeps the housekeeper out of the way: the test drives.
func fanIn(n int) func(*Config) {
	return func(c *Config) { c.MergeFanIn, c.MergeInterval = n, time.Hour }
}

// foldEach produces n records in turn over the logs and folds each object by itself.
func (w *world) foldEach(n, size int) {
	w.t.Helper()
	e := w.open(fanIn(1000))
	for i := range n {
		l := w.logs[i%len(w.logs)]
		require.NoError(w.t, w.produce(w.t.Context(), e, l, value(i%len(w.logs), len(l.acked), size)))
	}
	require.NoError(w.t, e.Tidy(w.t.Context()))
	require.Len(w.t, w.folded(), n)
	e.Kill()
}

func (w *world) folded() []catalog.Object {
	w.t.Helper()
	objs, err := w.cat.FoldedObjects(w.t.Context(), 0, 100_000)
	require.NoError(w.t, err)
	return objs
}

// A folded object with a bad block, one whose file is gone, and one with a bad footer are left aside, each with one
// warning. All others are merged at once, and go on to be.
func TestRottenFoldedObjectsAreLeftAside(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	w.foldEach(24, 300)
	objs := w.folded()
	bad, lost, torn := objs[3], objs[8], objs[20]
	store := &rottingStore{Store: w.store, flip: map[string]int64{bad.Key: 100, torn.Key: torn.Size - 10}, gone: map[string]bool{lost.Key: true}}
	good := w.store
	w.store = store
	log := &lines{Handler: slog.DiscardHandler}
	e := w.open(fanIn(3), func(c *Config) { c.Logger = slog.New(log) })
	require.NoError(t, e.Tidy(ctx), "what cannot be read is no error of what can")
	has := func(id catalog.ObjectID) bool {
		return slices.ContainsFunc(w.folded(), func(o catalog.Object) bool { return o.ID == id })
	}
	left := w.folded()
	require.LessOrEqual(t, len(left), 3+3, "21 good objects are merged three by three")
	for _, o := range []catalog.Object{bad, lost, torn} {
		require.True(t, has(o.ID), "not dropped: another day it may be read")
		require.Len(t, log.with(o.Key), 1, "told once")
	}
	for i := range 12 {
		require.NoError(t, w.produce(ctx, e, w.logs[i%2], value(i%2, len(w.logs[i%2].acked), 300)))
		require.NoError(t, e.Tidy(ctx))
	}
	require.LessOrEqual(t, len(w.folded()), 3+6, "merging goes on")
	require.Len(t, log.with("cannot be merged"), 3)
	e.Kill()

	w.store = good // a passing trouble of the disk: the next process merges them
	e = w.open(fanIn(2))
	require.NoError(t, e.Tidy(ctx))
	w.check(ctx, e)
	require.LessOrEqual(t, len(w.folded()), maxGeneration+1)
}

// rottingStore flips a bit of some objects and has lost others.
type rottingStore struct {
	objstore.Store
	flip map[string]int64
	gone map[string]bool
}

func (s *rottingStore) GetRange(ctx context.Context, key string, off int64, dst []byte) error {
	if s.gone[key] {
		return fmt.Errorf("get %s: %w", key, objstore.ErrNotFound)
	}
	if err := s.Store.GetRange(ctx, key, off, dst); err != nil {
		return err
	}
	if at, ok := s.flip[key]; ok && at >= off && at < off+int64(len(dst)) {
		dst[at-off] ^= 1
	}
	return nil
}

// A packed row that does not decode belongs to no one object: those it was met with are left aside, others go on.
func TestRottenPackedRowIsLeftAside(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	w.foldEach(12, 300)
	good := w.cat
	w.cat = &rottenRows{Catalog: good, tp: w.logs[1].tp}
	log := &lines{Handler: slog.DiscardHandler}
	e := w.open(fanIn(2), func(c *Config) { c.Logger = slog.New(log) })
	require.NoError(t, e.Tidy(ctx))
	require.NotEmpty(t, log.with("cannot be merged"))
	require.NoError(t, e.Tidy(ctx))
	e.Kill()
	w.cat = good
	e = w.open(fanIn(2))
	require.NoError(t, e.Tidy(ctx))
	require.LessOrEqual(t, len(w.folded()), 2)
	w.check(ctx, e)
}

type rottenRows struct {
	catalog.Catalog
	tp catalog.TopicPartition
}

func (c *rottenRows) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	rows, err := c.Catalog.PackedSpans(ctx, spans, limit)
	for i := range rows {
		if rows[i].TopicPartition == c.tp {
			rows[i].Extents[len(rows[i].Extents)/2] ^= 1
		}
	}
	return rows, err
}

// Generations take turns, so that a flood of young objects does not keep older ones from being merged; and a merge is
// bounded in bytes.
func TestPickGroup(t *testing.T) {
	var objs []catalog.Object
	add := func(n int, gen int32, size int64) {
		for range n {
			objs = append(objs, catalog.Object{ID: catalog.ObjectID(len(objs) + 1), Generation: gen, Size: size})
		}
	}
	add(100, 0, 1000)
	add(4, 1, 1000)
	add(3, 2, 1000)
	add(50, 3, mergeBytes/3)
	aside := map[catalog.ObjectID]bool{1: true, 3: true}
	last, turns := int32(maxGeneration-1), []int32(nil)
	for range 6 {
		group := pickGroup(objs, aside, 4, last)
		last = group[0].Generation
		turns = append(turns, last)
		switch last {
		case 0:
			require.Equal(t, []catalog.ObjectID{2, 4, 5, 6}, objectIDs(group))
		case 1:
			require.Len(t, group, 4)
		case 3:
			require.Len(t, group, 3, "as many as mergeBytes allows")
		}
	}
	require.Equal(t, []int32{0, 1, 3, 0, 1, 3}, turns)
	require.Empty(t, pickGroup(objs[:5], aside, 4, 0))
	for i := range objs {
		objs[i].Size = segmentBytes * 3 / 4
	}
	require.Len(t, pickGroup(objs, nil, 16, 3), 5)
}

func objectIDs(objs []catalog.Object) []catalog.ObjectID {
	var ids []catalog.ObjectID
	for _, o := range objs {
		ids = append(ids, o.ID)
	}
	return ids
}

// events notes in which order rewrites end.
type events struct {
	mu  sync.Mutex
	all []string
}

func (ev *events) note(kind string, _ int, _ int64, _ time.Duration) {
	ev.mu.Lock()
	ev.all = append(ev.all, kind)
	ev.mu.Unlock()
}

func (ev *events) take() []string {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	out := ev.all
	ev.all = nil
	return out
}

// While a segment merge copies, the tail grows: it is hot merged meanwhile, and when it needs a fold the merge gives way.
func TestMergesGiveWayToTheTail(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	w.foldEach(4, 900<<10)
	b := &between{Catalog: w.cat}
	var ev events
	e := w.open(fanIn(4), func(c *Config) {
		c.Store, c.BlockCacheBytes, c.TailCacheBytes = betweenStore{w.store, b}, 1, 8<<20
		c.Hooks.Rewritten = ev.note
	})
	tm := e.term.Load()
	e.rewrite <- struct{}{}
	b.set(func() { // at the first GET of the merge
		for range hotMergeObjects + 10 {
			require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, len(w.logs[0].acked), 10)))
		}
	})
	more, err := tm.mergeSegments(ctx)
	require.NoError(t, err)
	require.True(t, more)
	require.Equal(t, []string{"hot", "segment"}, ev.take(), "a long tail does not wait for the merge to end")

	require.NoError(t, tm.tidyTail(ctx, true))
	ev.take()
	<-e.rewrite
	e.Kill()
	w.foldEach2(t, 4, 900<<10)
	e = w.open(fanIn(4), func(c *Config) {
		c.Store, c.BlockCacheBytes = betweenStore{w.store, b}, 1
		c.Hooks.Rewritten = ev.note
	})
	tm = e.term.Load()
	e.rewrite <- struct{}{}
	before := len(objects(t, w.store))
	press := func(n int) {
		tm.mu.Lock()
		tm.mu.rows += n
		tm.mu.Unlock()
	}
	b.set(func() { press(maxTailRows) })
	more, err = tm.mergeSegments(ctx)
	require.NoError(t, err)
	require.True(t, more, "to be done again")
	more, err = tm.mergeSegments(ctx)
	require.NoError(t, err)
	require.False(t, more, "not before the tail is folded")
	require.Empty(t, ev.take(), "no merge went on over a tail that needs a fold")
	require.Len(t, objects(t, w.store), before, "nothing is left of it")
	press(-maxTailRows)
	_, err = tm.mergeSegments(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"segment"}, ev.take())
	<-e.rewrite
	w.check(ctx, e)
}

// foldEach2 folds more objects behind those of foldEach.
func (w *world) foldEach2(t *testing.T, n, size int) {
	t.Helper()
	e := w.open(fanIn(1000))
	for range n {
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, len(w.logs[0].acked), size)))
	}
	require.NoError(t, e.Tidy(t.Context()))
	e.Kill()
}

// A backlog of slow merges: what frees space, and the tail's folds, have their turn all the same.
func TestMergesGiveWayToTheSweep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := newWorld(t, 1)
		w.foldEach(40, 300)
		var ev events
		log := &callLog{Catalog: w.cat, ev: &ev}
		e := w.open(func(c *Config) {
			c.Catalog, c.Store, c.MergeFanIn = log, slowStore{w.store}, 2
			c.MergeInterval, c.FoldInterval = time.Second, 10*time.Second
			c.Hooks.Rewritten = ev.note
		})
		for range 12 {
			require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, len(w.logs[0].acked), 10)))
			<-time.After(5 * time.Second)
		}
		merges, longest, folds, sweeps := 0, 0, 0, 0
		for _, kind := range ev.take() {
			switch kind {
			case "segment":
				merges++
				longest = max(longest, merges)
			case "sweep":
				sweeps++
				merges = 0
			case "fold":
				folds++
			}
		}
		require.Positive(t, longest)
		require.LessOrEqual(t, longest, 3, "merges in a row")
		require.GreaterOrEqual(t, sweeps, 4)
		require.GreaterOrEqual(t, folds, 2)
		e.Kill()
	})
}

// callLog notes sweeps.
type callLog struct {
	catalog.Catalog
	ev *events
}

func (c *callLog) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	c.ev.note("sweep", 0, 0, 0)
	return c.Catalog.ListRetired(ctx, grace, limit)
}

// slowStore takes two seconds for the PUT of a segment.
type slowStore struct{ objstore.Store }

func (s slowStore) Put(ctx context.Context, key string, body objstore.Body) error {
	if strings.HasPrefix(key, "s") {
		<-time.After(2 * time.Second)
	}
	return s.Store.Put(ctx, key, body)
}
