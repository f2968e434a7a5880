package cache

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func (o *object) span() Span { return Span{ID: o.id, Key: o.key, Size: o.size, Pos: 8, Len: 1000} }

// A small object costs one GET: its data comes with its footer. Who wants the footer only does not get the data.
func TestSmallObjectIsOneGet(t *testing.T) {
	s := newStore()
	small, large := makeObject(t, s, 1, "small", 100<<10), makeObject(t, s, 2, "large", 3*block)
	hits, misses := 0, 0
	c, _ := newCache(t, s, Config{
		Bytes: 32 * block, ReadAhead: -1,
		Hooks: Hooks{Hit: func(n int) { hits += n }, Miss: func(n int) { misses += n }},
	})
	ctx := context.Background()
	_, err := c.Footer(ctx, small.id, small.key, small.size)
	require.NoError(t, err)
	require.Equal(t, []read{{small.size - 64<<10, 64 << 10}}, s.take())
	require.Zero(t, c.Stats().Bytes)
	c.Drop(small.id)

	f, err := c.Open(ctx, small.id, small.key, small.size)
	require.NoError(t, err)
	require.Equal(t, small.footer.DataEnd(), f.DataEnd())
	small.check(t, c, 8, 1000)
	require.Equal(t, []read{{0, small.size}}, s.take())
	require.Equal(t, 1, misses, "the reader waited for it")
	small.check(t, c, 50<<10, 1000)
	require.Equal(t, 1, hits)
	require.GreaterOrEqual(t, c.Stats().Bytes, small.size)
	require.Less(t, c.Stats().Bytes, int64(block), "charged for what it takes")
	c.footers.clear()
	_, err = c.Open(ctx, small.id, small.key, small.size)
	require.NoError(t, err)
	require.Empty(t, s.take(), "its data keeps the footer in memory")

	_, err = c.Open(ctx, large.id, large.key, large.size)
	require.NoError(t, err)
	require.Equal(t, []read{{large.size - 64<<10, 64 << 10}}, s.take())
}

// What came in one piece is checked as any other: wrong bytes are never returned.
func TestDamageInASmallObject(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 300<<10)
	s.m["k"][block+100] ^= 1
	c, _ := newCache(t, s, Config{Bytes: 32 * block, ReadAhead: -1})
	_, err := c.Open(context.Background(), o.id, o.key, o.size)
	require.NoError(t, err)
	var p Pinned
	var bad *CorruptError
	require.ErrorAs(t, o.read(c, block, 1000, &p), &bad)
	require.EqualValues(t, 1, bad.Block)
	require.NoError(t, o.read(c, 8, 1000, &p))
	p.Release()
	s.m["k"][o.size-40] ^= 1 // the footer
	c.Clear()
	_, err = c.Open(context.Background(), o.id, o.key, o.size)
	require.ErrorContains(t, err, "corrupt")
	require.Zero(t, c.Stats().Bytes)
}

// No more objects are got at once than is configured, each once, and what came is there for the reader.
func TestAheadIsBounded(t *testing.T) {
	s := newStore()
	var objs []object
	var spans []Span
	for i := range 12 {
		objs = append(objs, makeObject(t, s, catalog.ObjectID(i+1), fmt.Sprint(i), 10<<10))
		spans = append(spans, objs[i].span())
	}
	s.gate, s.began = make(chan struct{}), make(chan read, 100)
	c, _ := newCache(t, s, Config{Bytes: 32 * block, ObjectFlights: 5})
	c.Ahead(t.Context(), spans)
	c.Ahead(t.Context(), spans)
	for range 5 {
		<-s.began
	}
	c.mu.Lock()
	require.Len(t, c.mu.coming, 5)
	c.mu.Unlock()
	close(s.gate)
	c.loads.Wait()
	require.Empty(t, s.began)
	for range 4 {
		c.Ahead(t.Context(), spans)
		c.loads.Wait()
	}
	require.Len(t, s.take(), len(objs))
	for i := range objs {
		f, err := c.Open(context.Background(), objs[i].id, objs[i].key, objs[i].size)
		require.NoError(t, err)
		require.NotNil(t, f)
		objs[i].check(t, c, 8, 1000)
	}
	require.Empty(t, s.take())
}

// Of a large object the beginning of the span is got, and no room is made for it from what readers hold.
func TestAheadOfLargeObjects(t *testing.T) {
	s := newStore()
	o, held := makeObject(t, s, 1, "k", 10*block), makeObject(t, s, 2, "held", 4*block)
	c, _ := newCache(t, s, Config{Bytes: 6 * block, ReadAhead: -1})
	span := Span{ID: o.id, Key: o.key, Size: o.size, Pos: 8, Len: 9 * block}
	require.EqualValues(t, aheadBlocks*block, span.Cost())
	c.Ahead(t.Context(), []Span{span})
	c.loads.Wait()
	require.Equal(t, []read{{o.size - 64<<10, 64 << 10}, {0, aheadBlocks * block}}, s.take())
	o.check(t, c, 8, block)
	require.Empty(t, s.take())

	c.Clear()
	var p Pinned
	require.NoError(t, held.read(c, 8, 4*block-8, &p))
	s.take()
	c.Ahead(t.Context(), []Span{span})
	c.loads.Wait()
	require.Equal(t, []read{{o.size - 64<<10, 64 << 10}}, s.take(), "its footer, for which there is other room")
	require.LessOrEqual(t, c.Stats().Bytes, int64(6*block))
	p.Release()
}

// Whatever is under way, a cache can be closed.
func TestCloseEndsAhead(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 10<<10)
	s.gate, s.began = make(chan struct{}), make(chan read, 1)
	c, _ := newCache(t, s, Config{Bytes: 32 * block})
	c.Ahead(t.Context(), []Span{o.span()})
	<-s.began
	c.Close()
	c.Ahead(t.Context(), []Span{o.span()})
	require.Len(t, s.take(), 1)
}
