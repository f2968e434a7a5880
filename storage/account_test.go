package storage

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
)

// bills adds up what Hooks.Requested tells.
type bills struct {
	mu     sync.Mutex
	shares map[string]map[catalog.TopicID]float64
	bytes  map[string]map[catalog.TopicID]float64
	made   map[string]int64 // requests that the store below got
	moved  map[string]int64 // bytes
}

func newBills() *bills {
	b := &bills{made: map[string]int64{}, moved: map[string]int64{}}
	b.shares = map[string]map[catalog.TopicID]float64{"put": {}, "get": {}}
	b.bytes = map[string]map[catalog.TopicID]float64{"put": {}, "get": {}}
	return b
}

func (b *bills) requested(op string, id catalog.TopicID, share, bytes float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares[op][id] += share
	b.bytes[op][id] += bytes
}

func (b *bills) done(e metered.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made[e.Op]++
	b.moved[e.Op] += e.Bytes
}

func sum(m map[catalog.TopicID]float64) (s float64) {
	for _, v := range m {
		s += v
	}
	return s
}

// Two topics share log objects; what both are billed for, and what is nobody's, is what was really asked of the store,
// whoever asked: flushes, merges of both kinds, reads with and without read-ahead, look-ups by time.
func TestSharesOfTopicsAddUpToTheRequestsMade(t *testing.T) {
	w := newWorld(t, 2)
	small := w.logs[0]
	w.create(2)
	large := w.logs[0]
	bill := newBills()
	e := w.open(fanIn(2), func(c *Config) {
		c.Store = metered.New(w.store, metered.Hooks{Done: bill.done})
		c.Hooks.Requested = bill.requested
		c.TailCacheBytes, c.BlockCacheBytes = 1, 1<<20
		c.FlushInterval = 20 * time.Millisecond
	})
	round := func() {
		for range 8 {
			a, err := w.send(t.Context(), e, small, small.seq, make([]byte, 1000))
			require.NoError(t, err)
			b, err := w.send(t.Context(), e, large, large.seq, make([]byte, 30_000))
			require.NoError(t, err)
			<-a.Done()
			<-b.Done()
			small.seq++
			large.seq++
		}
		require.NoError(t, e.Tidy(t.Context()))
	}
	round()
	round()
	round()
	for _, l := range []*plog{small, large} {
		for offset := int64(0); offset < int64(l.seq); {
			var rd Read
			require.NoError(t, e.Read(t.Context(), ReadRequest{TP: l.tp, Offset: offset, MaxBytes: 40_000, MinOne: true}, &rd))
			offset += int64(max(1, len(rd.Records)))
			rd.Release()
		}
		_, err := e.OffsetForTimestamp(t.Context(), l.tp, 1010)
		require.NoError(t, err)
	}
	e.DropBlocks()
	require.NoError(t, e.Read(context.Background(), ReadRequest{TP: small.tp, MaxBytes: 10, MinOne: true}, new(Read)))
	require.NoError(t, e.Close(t.Context()))

	bill.mu.Lock()
	defer bill.mu.Unlock()
	for _, op := range []string{"put", "get"} {
		require.InDelta(t, bill.made[op], sum(bill.shares[op]), 1e-6, op)
		require.InDelta(t, bill.moved[op], sum(bill.bytes[op]), 1e-3, op)
		for _, l := range []*plog{small, large} {
			require.Positive(t, bill.shares[op][l.tp.Topic], op)
		}
		nobody := bill.shares[op][catalog.TopicID{}]
		require.Less(t, nobody, float64(bill.made[op])/2, op)
	}
	perByte := bill.bytes["put"][large.tp.Topic] / bill.bytes["put"][small.tp.Topic]
	require.InDelta(t, 28, perByte, 3, "shares of PUTs are by bytes")
}

// What is stored is told of partitions that were used since the start, and of those that were not.
func TestStoredBytes(t *testing.T) {
	w := newWorld(t, 2)
	e := w.open()
	l := w.logs[0]
	for range 5 {
		require.NoError(t, w.produce(t.Context(), e, l, make([]byte, 10_000)))
	}
	check := func(e *Engine) {
		t.Helper()
		stored, err := e.StoredBytes(t.Context())
		require.NoError(t, err)
		require.Len(t, stored, 1)
		require.InDelta(t, 50_000, stored[w.topic], 2000)
	}
	check(e)
	require.NoError(t, e.Tidy(t.Context()))
	check(e)
	require.NoError(t, e.Close(t.Context()))
	loads := &costs{}
	e = w.open(func(c *Config) { c.Catalog = countingCatalog{w.cat, loads} })
	check(e)
	loads.loads.Store(0)
	check(e)
	require.Zero(t, loads.loads.Load(), "the catalog is asked once")
	require.NoError(t, e.Tidy(t.Context()))
	check(e)
	_, err := e.Size(t.Context(), l.tp) // loads it
	require.NoError(t, err)
	check(e)
	e.DropTopic(w.topic)
	stored, err := e.StoredBytes(t.Context())
	require.NoError(t, err)
	require.Empty(t, stored)
}

// stored is what a member says that it stores.
func (f *fleet) stored(m *member) int64 {
	f.t.Helper()
	all, err := m.StoredBytes(f.t.Context())
	require.NoError(f.t, err)
	return all[f.topic]
}

// foldedBytes is what the catalog says that the folded extents hold.
func (f *fleet) foldedBytes() (n int64) {
	f.t.Helper()
	states, err := f.cat.LoadPartitions(f.t.Context(), f.tps())
	require.NoError(f.t, err)
	for i := range states {
		n += states[i].Bytes
	}
	return n
}

// What other brokers do with what they committed while they led a partition is seen by who leads it now.
func TestStoredBytesInAFleet(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, b := f.join(1), f.join(2)
	tp := f.logs[0].tp
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.Zero(t, f.stored(a))
	produce := func(m *member) {
		t.Helper()
		for range 5 {
			require.NoError(t, f.produce(ctx, m.Engine, f.logs[0], make([]byte, 10_000)))
		}
	}
	produce(a)
	total := f.stored(a)
	require.InDelta(t, 50_000, total, 2000)
	require.Zero(t, f.stored(b))

	// It moves, and the one before folds its tail only then.
	f.give(a, b, tp)
	require.Equal(t, total, f.stored(b))
	require.Zero(t, f.stored(a))
	require.NoError(t, a.Tidy(ctx))
	require.Equal(t, total, f.foldedBytes())
	f.forgets(b, tp)
	require.Equal(t, total, f.stored(b))
	size, err := b.Size(ctx, tp)
	require.NoError(t, err)
	require.Equal(t, total, size)

	// More comes, is folded, and it moves back to who knew how much there was once.
	produce(b)
	require.NoError(t, b.Tidy(ctx))
	total = f.foldedBytes()
	require.InDelta(t, 100_000, total, 4000)
	require.Equal(t, total, f.stored(b))
	f.forgets(a, tp)
	f.give(b, a, tp)
	require.Equal(t, total, f.stored(a))

	// A broker dies; the controller folds what it left.
	produce(a)
	total = f.stored(a)
	epoch := a.Epoch()
	a.die()
	f.fence(epoch)
	c := f.join(3)
	require.NoError(t, c.Acquire(ctx, f.tps()))
	require.Equal(t, total, f.stored(c))
	require.NoError(t, b.Acquire(ctx, []catalog.TopicPartition{controllerLease}))
	require.NoError(t, b.Tidy(ctx))
	require.Equal(t, total, f.foldedBytes())
	f.forgets(c, tp)
	require.Equal(t, total, f.stored(c))
}

// forgets waits until a member has seen that everything of a partition was folded.
func (f *fleet) forgets(m *member, tp catalog.TopicPartition) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		m.Heard(catalog.Announcement{})
		p := m.lookup(tp)
		if p == nil {
			return true
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.mu.tail) == 0
	}, 10*time.Second, time.Millisecond)
}

// The controller may drop what lies below a log start between two looks of the leader, who then finds nothing left to drop.
func TestStoredBytesThatTheControllerDrops(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, _, plan := f.faultyMember(1)
	c := f.join(2, func(c *Config) { c.MergeFanIn = 2 })
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.NoError(t, c.Acquire(ctx, []catalog.TopicPartition{controllerLease}))
	for range 6 {
		require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], make([]byte, 10_000)))
		require.NoError(t, a.Tidy(ctx)) // each an extent of its own
	}
	total := f.stored(a)
	_, err := a.DeleteRecords(ctx, f.logs[0].tp, 4)
	require.NoError(t, err)
	gate := make(chan struct{})
	at := plan.Calls(catfaulty.OpPackedSpans)
	plan.Add(catfaulty.Fault{Op: catfaulty.OpPackedSpans, Index: at, Kind: catfaulty.Slow, Gate: gate})
	done := make(chan error)
	go func() { done <- a.Tidy(ctx) }()
	require.Eventually(t, func() bool { return plan.Calls(catfaulty.OpPackedSpans) > at }, 10*time.Second, time.Millisecond)
	require.NoError(t, c.Tidy(ctx))
	require.Less(t, f.foldedBytes(), total/2, "the controller's merge dropped it")
	close(gate)
	require.NoError(t, <-done)
	require.Equal(t, f.foldedBytes(), f.stored(a))
	require.NoError(t, plan.Verify())
}
