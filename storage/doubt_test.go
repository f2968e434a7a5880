package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// doubtWorld is a world whose catalog has faults.
func doubtWorld(t *testing.T, faults ...catfaulty.Fault) (*world, *seams, *Engine) {
	t.Helper()
	w := newWorld(t, 2)
	s := newSeams(w, faults, nil)
	e := w.open(func(c *Config) {
		c.Catalog, c.Store = s.cat, s.store
		c.MergeInterval, c.FoldInterval = time.Hour, time.Hour
	})
	return w, s, e
}

func storeKeys(t *testing.T, s objstore.Store) int {
	t.Helper()
	infos, _, err := s.List(t.Context(), "", "", objstore.MaxList)
	require.NoError(t, err)
	return len(infos)
}

// MergeTail applied, answer lost, and the read that should settle it fails too.
func TestMergeTailInDoubtTwice(t *testing.T) {
	ctx := t.Context()
	w, _, e := doubtWorld(t,
		catfaulty.Fault{Op: catfaulty.OpMergeTail, Index: 0, Kind: catfaulty.Lost},
		catfaulty.Fault{Op: catfaulty.OpTailAt, Index: 0, Kind: catfaulty.Refuse})
	for i := range 3 {
		require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, i, 100)))
	}
	require.Error(t, e.Tidy(ctx))
	before := storeKeys(t, w.store)
	recovers(t, w, e)
	require.LessOrEqual(t, storeKeys(t, w.store), before+2, "no segment is left at each try")
}

// recovers waits for a term in which housekeeping works, and checks that all is there and writes go on.
func recovers(t *testing.T, w *world, e *Engine) {
	t.Helper()
	require.Eventually(t, func() bool {
		return e.Ready() == nil && e.Tidy(t.Context()) == nil
	}, 10*time.Second, time.Millisecond, "housekeeping must recover without a restart")
	e.tail.clear() // what a full tail cache does
	w.check(t.Context(), e)
	require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, 99, 100)))
	require.NoError(t, e.Tidy(t.Context()))
	w.check(t.Context(), e)
}

// tidyInDoubt has a fold applied, its answer lost, and the call that follows fail. It returns what Tidy says of it.
func tidyInDoubt(t *testing.T, next catfaulty.Op) (w *world, e *Engine, err error) {
	t.Helper()
	w, s, e := doubtWorld(t)
	for i := range 3 {
		require.NoError(t, w.produce(t.Context(), e, w.logs[0], value(0, i, 100)))
	}
	s.catPlan.Next(
		catfaulty.Fault{Op: catfaulty.OpFold, Kind: catfaulty.Lost},
		catfaulty.Fault{Op: next, Kind: catfaulty.Refuse})
	err = e.Tidy(t.Context())
	return w, e, err
}

// Fold applied, answer lost, and BrokerTails fails too.
func TestFoldInDoubtTwice(t *testing.T) {
	w, e, err := tidyInDoubt(t, catfaulty.OpBrokerTails)
	require.Error(t, err)
	recovers(t, w, e)
}

// Fold applied, answer lost, and nobody vouches for what shows of it: a fail-over may undo it, and the rows that memory would
// have forgotten are the tail again.
func TestFoldThatOnlyShows(t *testing.T) {
	w, e, err := tidyInDoubt(t, catfaulty.OpTailAt)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	recovers(t, w, e)
}

// A later term whose AcquireLeases fails once: what it installed is installed again on top.
func TestBeginFailsAfterInstall(t *testing.T) {
	ctx := t.Context()
	w, s, e := doubtWorld(t)
	l := w.logs[0]
	for i := range 4 {
		require.NoError(t, w.produce(ctx, e, l, value(0, i, 100)))
	}
	sizeBefore, err := e.Size(ctx, l.tp)
	require.NoError(t, err)
	s.catPlan.Next(catfaulty.Fault{Op: catfaulty.OpAcquireLeases, Kind: catfaulty.Refuse})
	old := e.term.Load()
	require.NoError(t, w.cat.FenceBroker(ctx, old.epoch, 2))
	v := value(0, 4, 100)
	require.Error(t, w.produce(ctx, e, l, v)) // meets the fence
	require.NoError(t, w.trySend(ctx, e, l))
	size, err := e.Size(ctx, l.tp)
	require.NoError(t, err)
	p := e.lookup(l.tp)
	p.mu.Lock()
	for _, x := range p.mu.tail {
		t.Logf("tail extent [%d, %d)", x.base, x.end)
	}
	p.mu.Unlock()
	t.Logf("size before %d, after %d", sizeBefore, size)
	var r Read
	require.NoError(t, e.Read(ctx, ReadRequest{TP: l.tp, Offset: 0, MaxBytes: 1 << 20}, &r))
	t.Logf("a read of everything returned %d bytes", r.Bytes)
	r.Release()
	tm := e.term.Load()
	e.rewrite <- struct{}{}
	require.NoError(t, w.produce(ctx, e, l, value(0, 5, 100)))
	for range 2 { // as the keeper does over minutes: fold what others left, merge what is ours, sweep after the grace
		epoch, objs := tm.oldestTail()
		if epoch != tm.epoch {
			_, err := tm.fold(ctx, epoch, objs)
			require.NoError(t, err)
			continue
		}
		_, err = tm.mergeHot(ctx, objs, true)
		require.NoError(t, err)
	}
	<-e.rewrite
	p.mu.Lock()
	for _, x := range p.mu.tail {
		t.Logf("afterwards: tail extent [%d, %d)", x.base, x.end)
	}
	p.mu.Unlock()
	e.tail.clear()
	<-time.After(time.Millisecond)
	require.NoError(t, tm.sweep(ctx))
	w.check(ctx, e)
	require.Equal(t, sizeBefore/4*5, size)
}
