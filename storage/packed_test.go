package storage

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
)

// pagedCatalog counts what PackedSpans was asked, and for how much.
type pagedCatalog struct {
	catalog.Catalog
	calls int
}

func (c *pagedCatalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	c.calls++
	return c.Catalog.PackedSpans(ctx, spans, limit)
}

// Rows come once each and in order, whatever pages they come in, and no call asks for more than a page.
func TestEachPackedPages(t *testing.T) {
	ctx := t.Context()
	id := catalog.TopicID{1}
	inner := catmem.New(nil)
	const partitions = catalog.MaxSpans + 300
	_, err := inner.CreateTopic(ctx, catalog.TopicSpec{ID: id, Name: "t", Partitions: partitions})
	require.NoError(t, err)
	b, err := inner.RegisterBroker(ctx, catalog.Registration{})
	require.NoError(t, err)
	rows := map[int32]int64{0: packedPage, 1: 3, 2: 2*packedPage + 7, 5: packedPage - 10, 40: 1, catalog.MaxSpans + 9: 5}
	var e catalog.Edit
	type at struct {
		partition int32
		base      int64
	}
	var want []at
	var spans []catalog.Span
	for p := range int32(partitions) {
		tp := catalog.TopicPartition{Topic: id, Partition: p}
		for i := range rows[p] {
			e.Rows = append(e.Rows, catalog.PackedRow{TopicPartition: tp, Base: 10 * i, End: 10*i + 10, Extents: []byte{1}})
			if i > 0 {
				want = append(want, at{p, 10 * i})
			}
		}
		spans = append(spans, catalog.Span{TopicPartition: tp, From: 10, To: 1 << 40})
	}
	require.NoError(t, inner.Edit(ctx, b.Epoch, e))
	cat := &pagedCatalog{Catalog: inner}
	var got []at
	require.NoError(t, eachPacked(ctx, cat, spans, func(r *catalog.PackedRow) error {
		got = append(got, at{r.Partition, r.Base})
		return nil
	}))
	require.Equal(t, want, got)
	require.LessOrEqual(t, cat.calls, 7)
	require.EqualValues(t, 10, spans[0].From, "the caller's spans are left alone")
}
