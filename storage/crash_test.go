package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
)

// seams wraps a world's catalog and store so that one fault can be put at any call of either.
type seams struct {
	cat       *catfaulty.Catalog
	store     *faulty.Store
	catPlan   *catfaulty.Plan
	storePlan *faulty.Plan
	down      chan struct{} // closed when either crashed
}

func newSeams(w *world, cat []catfaulty.Fault, store []faulty.Fault) *seams {
	s := &seams{catPlan: catfaulty.NewPlan(cat...), storePlan: faulty.NewPlan(store...), down: make(chan struct{})}
	s.cat = catfaulty.New(w.cat, s.catPlan)
	s.store = faulty.New(w.store, s.storePlan)
	return s
}

// watch takes both down when one crashes, until ctx ends.
func (s *seams) watch(ctx context.Context) {
	select {
	case <-s.cat.Crashed():
	case <-s.store.Crashed():
	case <-ctx.Done():
		return
	}
	s.cat.Crash()
	s.store.Crash()
	close(s.down)
}

// life is everything a broker does to its catalog and store: start, write, hot merge, fold, segment merges, delete
// records, sweep, restart. One call at a time, so that every run makes the same calls. It stops at the first
// error of the context.
func (w *world) life(ctx context.Context, cfg Config) (*Engine, error) {
	e, err := openAgain(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for round := range 6 {
		for p, l := range w.logs {
			for i := range 2 {
				if w.before != nil {
					w.before(e)
				}
				if len(l.maybe) > 0 { // in doubt since an error: what a producer does is to send it again
					if err := w.trySend(ctx, e, l); err != nil {
						return e, err
					}
				}
				if err := w.produce(ctx, e, l, value(p, 10*round+i, 600)); err != nil && ctx.Err() != nil {
					return e, err
				}
			}
		}
		if w.settle != nil {
			w.settle()
		}
		if round == 2 { // a process that dies with a tail, of merged and unmerged rows, and one that takes over
			e.Kill()
			if e, err = openAgain(ctx, cfg); err != nil {
				return nil, err
			}
		}
		if round == 3 { // into an extent of one log, so that nothing of it can go yet; past some of the other
			for i, before := range []int64{8, 3} {
				w.logs[i].deleting = before
				if low, err := e.DeleteRecords(ctx, w.logs[i].tp, before); err == nil {
					w.logs[i].logStart = low
				}
			}
		}
		_ = e.Tidy(ctx) // what fails is tried again in the next round
		if ctx.Err() != nil {
			return e, ctx.Err()
		}
	}
	return e, nil
}

// openAgain opens; a start that meets a passing fault is tried once more, as an operator's supervisor does.
func openAgain(ctx context.Context, cfg Config) (*Engine, error) {
	e, err := Open(ctx, cfg)
	if err != nil && ctx.Err() == nil {
		e, err = Open(ctx, cfg)
	}
	return e, err
}

// trySend sends again what is in doubt until it is acknowledged.
func (w *world) trySend(ctx context.Context, e *Engine, l *plog) error {
	for {
		p, err := w.send(ctx, e, l, l.seq, l.maybe[0])
		if err == nil {
			select {
			case <-p.Done():
			case <-ctx.Done():
				return ctx.Err()
			}
			var a Appended
			if a, err = p.Result(); err == nil {
				l.ack(w.t, a.BaseOffset, l.maybe[0])
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}

func (w *world) lifeConfig(s *seams) Config {
	c := w.config()
	c.Catalog, c.Store = s.cat, s.store
	c.MergeInterval, c.FoldInterval = time.Hour, time.Hour // the test drives
	c.MergeFanIn = 2
	return c
}

// fault is one fault at one call of one seam.
type fault struct {
	catalog bool
	index   int
	kind    string // refuse, slow, lost
	crash   bool
}

func (f fault) String() string {
	seam, end := "store", "goes on"
	if f.catalog {
		seam = "catalog"
	}
	if f.crash {
		end = "crashes"
	}
	return fmt.Sprintf("%s call %d: %s, %s", seam, f.index, f.kind, end)
}

func (f fault) plans() ([]catfaulty.Fault, []faulty.Fault) {
	if f.catalog {
		kind := map[string]catfaulty.Kind{"refuse": catfaulty.Refuse, "slow": catfaulty.Slow, "lost": catfaulty.Lost}[f.kind]
		return []catfaulty.Fault{{Op: catfaulty.OpAny, Index: f.index, Kind: kind, Delay: time.Millisecond, Crash: f.crash}}, nil
	}
	kind := map[string]faulty.Kind{"refuse": faulty.Refuse, "slow": faulty.Slow, "lost": faulty.Lost}[f.kind]
	return nil, []faulty.Fault{{Op: faulty.OpAny, Index: f.index, Kind: kind, Delay: time.Millisecond, Crash: f.crash}}
}

// TestEveryCallFails puts one fault at every call of catalog and store in turn, in each kind, with the process dying
// there or going on, and checks the invariants after a restart: what was acknowledged is there once, byte for byte, offsets
// are dense, nothing else is, and no object is left that the manifest does not name.
func TestEveryCallFails(t *testing.T) {
	w := newWorld(t, 2)
	s := newSeams(w, nil, nil)
	e, err := w.life(t.Context(), w.lifeConfig(s))
	require.NoError(t, err)
	catCalls, storeCalls := s.catPlan.Calls(catfaulty.OpAny), s.storePlan.Calls(faulty.OpAny)
	w.check(t.Context(), e)
	e.Kill()
	for _, op := range []catfaulty.Op{catfaulty.OpCommit, catfaulty.OpFold, catfaulty.OpMergeTail, catfaulty.OpEdit, catfaulty.OpSetLogStart, catfaulty.OpForgetRetired, catfaulty.OpPackedSpans, catfaulty.OpSparseObjects} {
		require.Positive(t, s.catPlan.Calls(op), "the life must contain %s", op)
	}
	t.Logf("a life is %d catalog calls and %d store calls", catCalls, storeCalls)

	everyFault(t, catCalls, storeCalls, func(t *testing.T, f fault) {
		t.Helper()
		w := newWorld(t, 2)
		s := newSeams(w, nil, nil)
		w.survive(f, s, w.lifeConfig(s))
	})
}

// everyFault runs survive with a fault at every call of catalog and store, in each kind, with a crash there and without.
func everyFault(t *testing.T, catCalls, storeCalls int, survive func(t *testing.T, f fault)) {
	t.Helper()
	var faults []fault
	for _, kind := range []string{"refuse", "slow", "lost"} {
		for _, crash := range []bool{true, false} {
			for i := range catCalls {
				faults = append(faults, fault{true, i, kind, crash})
			}
			for i := range storeCalls {
				faults = append(faults, fault{false, i, kind, crash})
			}
		}
	}
	work := make(chan fault)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for f := range work {
				if !t.Failed() {
					t.Run(f.String(), func(t *testing.T) { survive(t, f) })
				}
			}
		})
	}
	for _, f := range faults {
		work <- f
	}
	close(work)
	wg.Wait()
}

// survive leads a life with one fault, and then has the next process find out what is left of it.
func (w *world) survive(f fault, s *seams, cfg Config) {
	t := w.t
	t.Helper()
	cat, store := f.plans()
	s.catPlan.Add(cat...)
	s.storePlan.Add(store...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	watch, unwatch := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(watch) })
	wg.Go(func() {
		select {
		case <-s.down:
			cancel()
		case <-watch.Done():
		}
	})
	e, err := w.life(ctx, cfg)
	if !f.crash && e != nil {
		require.NoError(t, err)
		w.check(ctx, e)
	}
	unwatch()
	wg.Wait()
	if e != nil {
		e.Kill()
	}
	if w.settle != nil {
		w.settle()
	}
	require.NoError(t, s.cat.Quiesce(t.Context()))
	require.NoError(t, s.store.Quiesce(t.Context()))
	require.NoError(t, s.catPlan.Verify())
	require.NoError(t, s.storePlan.Verify())

	// The next process.
	ctx = t.Context()
	e, err = Open(ctx, w.config())
	require.NoError(t, err)
	defer e.Kill()
	w.check(ctx, e)
	for _, l := range w.logs {
		w.resend(ctx, e, l)
		require.NoError(t, w.produce(ctx, e, l, []byte("after")))
	}
	w.check(ctx, e)
	for range 3 {
		require.NoError(t, e.Tidy(ctx))
	}
	w.check(ctx, e)
	requireNoOrphans(t, w.cat, w.store)
}

func requireNoOrphans(tb testing.TB, cat catalog.Catalog, store objstore.Store) {
	tb.Helper()
	keys := objects(tb, store)
	known, err := cat.KnownObjects(tb.Context(), keys)
	require.NoError(tb, err)
	for _, k := range keys {
		require.True(tb, known[k], "%s is an orphan", k)
	}
}
