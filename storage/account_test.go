package storage

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
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
