package storage

import (
	"context"
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// packedPage is how many packed rows are asked for at a time: with up to maxPackedExtents extents each, some 4 MiB.
const packedPage = 1024

// eachPacked calls visit for every packed row that reaches into the spans, by partition and base: one round trip for
// catalog.MaxSpans partitions or packedPage rows, not one for each partition. spans are in the order of partitions,
// each partition once.
func eachPacked(ctx context.Context, cat catalog.Catalog, spans []catalog.Span, visit func(*catalog.PackedRow) error) error {
	for len(spans) > 0 {
		batch := slices.Clone(spans[:min(len(spans), catalog.MaxSpans)])
		rows, err := cat.PackedSpans(ctx, batch, packedPage)
		if err != nil {
			return fmt.Errorf("read packed rows of %d partitions: %w", len(batch), err)
		}
		for i := range rows {
			if err := visit(&rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < packedPage {
			spans = spans[len(batch):]
			continue
		}
		// There may be more: of the last row's partition behind that row, and of those after it.
		last := &rows[len(rows)-1]
		for len(spans) > 0 && spans[0].Compare(last.TopicPartition) < 0 {
			spans = spans[1:]
		}
		if len(spans) > 0 && spans[0].TopicPartition == last.TopicPartition {
			spans = slices.Clone(spans)
			spans[0].From = last.End
			if spans[0].From >= spans[0].To {
				spans = spans[1:]
			}
		}
	}
	return nil
}
