package storage

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestAppendReadRestart(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 3)
	e := w.open()
	for i := range 50 {
		for p, l := range w.logs {
			require.NoError(t, w.produce(ctx, e, l, value(p, i, 100*(i%40))))
		}
	}
	w.check(ctx, e)
	epoch, err := e.Leader(w.logs[0].tp)
	require.NoError(t, err)
	e.Kill()

	e = w.open()
	next, err := e.Leader(w.logs[0].tp)
	require.NoError(t, err)
	require.Greater(t, next, epoch, "the leader epoch grows")
	w.check(ctx, e)
	end, err := e.EndOfEpoch(ctx, w.logs[0].tp, epoch)
	require.NoError(t, err)
	require.Equal(t, EpochEnd{Epoch: epoch, End: 50}, end)
	off, err := e.Offsets(ctx, w.logs[0].tp)
	require.NoError(t, err)
	require.Equal(t, epoch, off.LogStartEpoch, "the records at the log start are the old epoch's")
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 50, 10)))
	require.NoError(t, e.Tidy(ctx))
	w.check(ctx, e)
	require.NoError(t, e.Close(ctx))

	e = w.open()
	w.check(ctx, e)
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 51, 10)))
	w.check(ctx, e)
}

func TestResendIsAcknowledgedOnce(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	l := w.logs[0]
	require.NoError(t, w.produce(ctx, e, l, value(0, 0, 100)))
	again := func(e *Engine) {
		t.Helper()
		p, err := w.send(ctx, e, l, 0, value(0, 0, 100))
		require.NoError(t, err)
		<-p.Done()
		a, err := p.Result()
		require.NoError(t, err)
		require.EqualValues(t, 0, a.BaseOffset)
	}
	again(e)
	require.NoError(t, e.Tidy(ctx))
	again(e)
	e.Kill()
	e = w.open()
	again(e) // from the snapshot
	_, err := w.send(ctx, e, l, 5, value(0, 5, 10))
	require.ErrorIs(t, err, ErrOutOfOrderSequence)
	w.check(ctx, e)
}

// TestRandomLife does what happens to a broker in random order and compares with what producers were told.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ctx := t.Context()
		w := newWorld(t, 5)
		e := w.open()
		for step := range 120 {
			switch n := rng.IntN(100); {
			case n < 60:
				var wg sync.WaitGroup
				for p, l := range w.logs {
					count, size := rng.IntN(20), rng.IntN(3000)
					wg.Go(func() {
						for i := range count {
							if err := w.produce(ctx, e, l, value(p, len(l.acked)+i, size)); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			case n < 70:
				e.Kill()
				e = w.open()
			case n < 85:
				require.NoError(t, e.Tidy(ctx), "seed %d step %d", seed, step)
			case n < 92:
				l := w.logs[rng.IntN(len(w.logs))]
				if span := int64(len(l.acked)) - l.logStart; span > 0 {
					l.logStart += rng.Int64N(span + 1)
					low, err := e.DeleteRecords(ctx, l.tp, l.logStart)
					require.NoError(t, err)
					require.Equal(t, l.logStart, low)
				}
			default:
				w.check(ctx, e)
			}
		}
		w.check(ctx, e)
		require.NoError(t, e.Tidy(ctx))
		w.check(ctx, e)
		e.Kill()
		e = w.open()
		w.check(ctx, e)
		e.Kill()
	}
}

// TestSegmentMerges folds often enough for several generations.
func TestSegmentMerges(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 3)
	kinds := make(map[string]int)
	const mergeFanIn = 4
	e := w.open(func(c *Config) {
		c.MergeFanIn = mergeFanIn
		c.Hooks.Rewritten = func(kind string, _ int, _ int64, _ time.Duration) { kinds[kind]++ }
	})
	for i := range mergeFanIn*mergeFanIn*mergeFanIn + 5 {
		for p, l := range w.logs {
			require.NoError(t, w.produce(ctx, e, l, value(p, 2*i, 500)))
			require.NoError(t, w.produce(ctx, e, l, value(p, 2*i+1, 500)))
		}
		require.NoError(t, e.Tidy(ctx))
	}
	w.check(ctx, e)
	require.Positive(t, kinds["hot"])
	require.Zero(t, e.tail.bytes(), "what is folded is not cached as tail")
	require.Greater(t, kinds["segment"], mergeFanIn)
	objs, err := w.cat.FoldedObjects(ctx, 0, 1000)
	require.NoError(t, err)
	require.Less(t, len(objs), 5*mergeFanIn)
	require.Len(t, objects(t, w.store), len(objs), "retired objects are deleted, nothing else is left")

	// A deleted topic leaves nothing behind.
	require.NoError(t, w.cat.DeleteTopic(ctx, w.topic))
	e.DropTopic(w.topic)
	_, err = w.send(ctx, e, w.logs[0], 0, nil)
	require.ErrorIs(t, err, ErrNotLeader)
	for range 3 {
		require.NoError(t, e.Tidy(ctx))
	}
	require.Empty(t, objects(t, w.store))
	ids, err := w.cat.DeletedTopics(ctx)
	require.NoError(t, err)
	require.Empty(t, ids)
}

func TestOrphansOfADeadProcessAreSwept(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 10)))
	e.Kill()
	infos := objects(t, w.store)
	require.Len(t, infos, 1)
	// What a crash between PUT and commit leaves: an object nobody names.
	orphan := infos[0][:len(infos[0])-1] + "7"
	require.NoError(t, w.store.Put(ctx, orphan, bodyOf("orphan")))
	e = w.open()
	require.NoError(t, e.Tidy(ctx))
	_, err := w.store.Head(ctx, orphan)
	require.Error(t, err)
	w.check(ctx, e)
}

func TestFencedBrokerStartsOver(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	e := w.open()
	l := w.logs[0]
	require.NoError(t, w.produce(ctx, e, l, value(0, 0, 10)))
	before, err := e.Leader(l.tp)
	require.NoError(t, err)
	require.NoError(t, w.cat.FenceBroker(ctx, e.term.Load().epoch, catalog.FenceProvenDead))
	err = w.produce(ctx, e, l, value(0, 1, 10))
	require.ErrorIs(t, err, ErrNotLeader)
	require.Eventually(t, func() bool {
		epoch, err := e.Leader(l.tp)
		return err == nil && epoch > before
	}, 10*time.Second, time.Millisecond)
	w.resend(ctx, e, l)
	w.check(ctx, e)
}

func TestWatcherIsToldOnce(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 3)
	e := w.open()
	watch := e.NewWatcher()
	defer watch.Close()
	for _, l := range w.logs {
		watch.Add(l.tp)
	}
	require.Empty(t, watch.Take(nil))
	require.NoError(t, w.produce(ctx, e, w.logs[1], value(1, 0, 10)))
	<-watch.C()
	require.Equal(t, []catalog.TopicPartition{w.logs[1].tp}, watch.Take(nil))
	select {
	case <-watch.C():
		t.Fatal("told twice")
	default:
	}
	watch.Remove(w.logs[1].tp)
	require.NoError(t, w.produce(ctx, e, w.logs[1], value(1, 1, 10)))
	require.Empty(t, watch.Take(nil))
	e.DropTopic(w.topic)
	<-watch.C()
	require.Len(t, watch.Take(nil), 2)
}

func TestFindByTime(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	l := w.logs[0]
	find := func(want int64) {
		t.Helper()
		got, err := e.OffsetForTimestamp(ctx, l.tp, 1000+want)
		require.NoError(t, err)
		require.Equal(t, want, got.Offset)
		require.Equal(t, 1000+want, got.Timestamp)
	}
	for i := range 100 {
		require.NoError(t, w.produce(ctx, e, l, value(0, i, 700)))
		switch i {
		case 30, 50, 70:
			require.NoError(t, e.Tidy(ctx))
		}
	}
	for _, want := range []int64{0, 1, 29, 30, 31, 50, 69, 70, 71, 99} {
		find(want)
	}
	got, err := e.OffsetForTimestamp(ctx, l.tp, 1)
	require.NoError(t, err)
	require.EqualValues(t, 0, got.Offset)
	got, err = e.OffsetForTimestamp(ctx, l.tp, 5000)
	require.NoError(t, err)
	require.EqualValues(t, -1, got.Offset)
	got, err = e.MaxTimestamp(ctx, l.tp)
	require.NoError(t, err)
	require.EqualValues(t, 99, got.Offset)
	_, err = e.DeleteRecords(ctx, l.tp, 40)
	require.NoError(t, err)
	got, err = e.OffsetForTimestamp(ctx, l.tp, 1)
	require.NoError(t, err)
	require.EqualValues(t, 40, got.Offset)
}

func TestBackPressure(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	gate := make(chan struct{})
	w.store = &gatedStore{Store: w.store, gate: gate}
	e := w.open(func(c *Config) { c.MaxUncommittedBytes = 10_000 })
	l := w.logs[0]
	var waiting []Pending
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var err error
	for i := int32(0); err == nil; i++ {
		var p Pending
		if p, err = w.send(short, e, l, i, value(0, int(i), 1000)); err == nil {
			waiting = append(waiting, p)
			l.maybe = append(l.maybe, value(0, int(i), 1000))
		}
	}
	require.ErrorIs(t, err, ErrOverloaded)
	require.Less(t, len(waiting), 11)
	close(gate)
	for _, p := range waiting {
		<-p.Done()
		_, err := p.Result()
		require.NoError(t, err)
	}
	w.check(ctx, e)
}

func TestReadErrors(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	l := w.logs[0]
	require.NoError(t, w.produce(ctx, e, l, value(0, 0, 10)))
	var r Read
	for _, offset := range []int64{-1, 2} {
		err := e.Read(ctx, ReadRequest{TP: l.tp, Offset: offset, MaxBytes: 100}, &r)
		require.ErrorIs(t, err, ErrOffsetOutOfRange)
		require.EqualValues(t, 1, r.HighWatermark)
	}
	require.NoError(t, e.Read(ctx, ReadRequest{TP: l.tp, Offset: 0, MaxBytes: 1}, &r))
	require.Zero(t, r.Bytes, "does not fit, and none is demanded")
	err := e.Read(ctx, ReadRequest{TP: catalog.TopicPartition{Partition: 9}, MaxBytes: 1}, &r)
	require.ErrorIs(t, err, ErrNotLeader)
	_, err = e.DeleteRecords(ctx, l.tp, 2)
	require.ErrorIs(t, err, ErrOffsetOutOfRange)
}

func TestConfigIsChecked(t *testing.T) {
	_, err := Open(t.Context(), Config{Logger: slog.New(slog.DiscardHandler)})
	require.Error(t, err)
	require.False(t, errors.Is(err, ErrNotLeader))
}

// TestCommitsFollowSequences holds the first upload back while later ones finish: nothing of them may be acknowledged
// or seen before it.
func TestCommitsFollowSequences(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	store := &heldStore{Store: w.store, first: make(chan struct{}), puts: make(chan string, 10)}
	w.store = store
	e := w.open()
	l := w.logs[0]
	var pending []Pending
	for i := range int32(3) {
		p, err := w.send(ctx, e, l, i, value(0, int(i), 100))
		require.NoError(t, err)
		pending = append(pending, p)
		l.maybe = append(l.maybe, value(0, int(i), 100))
		<-store.puts // the first upload has begun, the others have ended
	}
	select {
	case <-pending[1].Done():
		t.Fatal("a later object was committed before an earlier one")
	case <-pending[2].Done():
		t.Fatal("a later object was committed before an earlier one")
	case <-time.After(20 * time.Millisecond):
	}
	off, err := e.Offsets(ctx, l.tp)
	require.NoError(t, err)
	require.Zero(t, off.HighWatermark)
	close(store.first)
	for i, p := range pending {
		<-p.Done()
		a, err := p.Result()
		require.NoError(t, err)
		require.EqualValues(t, i, a.BaseOffset)
	}
	w.check(ctx, e)
}
