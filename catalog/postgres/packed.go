package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

// replaceRows removes packed rows in the versions named, then adds new ones, which must overlap nothing. The partitions of
// the new ones are locked.
func (t *tx) replaceRows(old []catalog.RowRef, rows []catalog.PackedRow) error {
	old = slices.SortedFunc(slices.Values(old), func(a, b catalog.RowRef) int {
		if c := a.Compare(b.TopicPartition); c != 0 {
			return c
		}
		return compareOffsets(a.Base, b.Base)
	})
	if err := batches(len(old), func(int) int { return 0 }, func(from, to int) error { return t.dropRows(old[from:to]) }); err != nil {
		return err
	}
	rows = slices.SortedFunc(slices.Values(rows), func(a, b catalog.PackedRow) int {
		if c := a.Compare(b.TopicPartition); c != 0 {
			return c
		}
		return compareOffsets(a.Base, b.Base)
	})
	for i := 1; i < len(rows); i++ {
		if a, b := &rows[i-1], &rows[i]; a.TopicPartition == b.TopicPartition && a.End > b.Base {
			return fmt.Errorf("new packed rows of %s overlap at %d: %w", b.TopicPartition, b.Base, catalog.ErrConflict)
		}
	}
	size := func(i int) int { return len(rows[i].Extents) }
	return batches(len(rows), size, func(from, to int) error { return t.insertRows(rows[from:to]) })
}

func compareOffsets(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (t *tx) dropRows(old []catalog.RowRef) error {
	n := len(old)
	topics, partitions, bases, versions := make([][16]byte, n), make([]int32, n), make([]int64, n), make([]int64, n)
	for i := range old {
		topics[i], partitions[i], bases[i], versions[i] = old[i].Topic, old[i].Partition, old[i].Base, old[i].Version
	}
	dropped, err := t.exec(`DELETE FROM catalog_packed_rows r USING unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[])
			AS o (topic, partition, base_offset, version)
		WHERE r.topic = o.topic AND r.partition = o.partition AND r.base_offset = o.base_offset AND r.version = o.version`,
		topics, partitions, bases, versions)
	if err == nil && dropped != int64(n) {
		err = fmt.Errorf("%d of %d packed rows from %s at %d on changed: %w",
			int64(n)-dropped, n, old[0].TopicPartition, old[0].Base, catalog.ErrConflict)
	}
	return err
}

func (t *tx) insertRows(rows []catalog.PackedRow) error {
	n := len(rows)
	topics, partitions, bases, ends, extents := make([][16]byte, n), make([]int32, n), make([]int64, n), make([]int64, n), make([][]byte, n)
	for i := range rows {
		r := &rows[i]
		topics[i], partitions[i], bases[i], ends[i], extents[i] = r.Topic, r.Partition, r.Base, r.End, r.Extents
		if r.Extents == nil {
			extents[i] = []byte{}
		}
	}
	// Rows do not overlap, so of those that begin below this one's end only the last can reach into it.
	added, err := t.exec(`INSERT INTO catalog_packed_rows (topic, partition, base_offset, end_offset, version, extents)
		SELECT n.topic, n.partition, n.base_offset, n.end_offset, (SELECT nextval('catalog_packed_versions')), n.extents
		FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::bytea[]) AS n (topic, partition, base_offset, end_offset, extents)
		WHERE coalesce((SELECT r.end_offset FROM catalog_packed_rows r
			WHERE r.topic = n.topic AND r.partition = n.partition AND r.base_offset < n.end_offset
			ORDER BY r.base_offset DESC LIMIT 1), 0) <= n.base_offset`, topics, partitions, bases, ends, extents)
	if err == nil && added != int64(n) {
		err = fmt.Errorf("%d of %d packed rows from %s at %d on overlap others: %w",
			int64(n)-added, n, rows[0].TopicPartition, rows[0].Base, catalog.ErrConflict)
	}
	return err
}

func scanPacked(r pgx.Rows) (p catalog.PackedRow, err error) {
	err = r.Scan((*[16]byte)(&p.Topic), &p.Partition, &p.Base, &p.End, &p.Version, &p.Extents)
	return p, err
}

// The first row of interest is the last one that begins at or below from, if it reaches above it.
const packedRowsSQL = `SELECT topic, partition, base_offset, end_offset, version, extents FROM catalog_packed_rows
	WHERE topic = $1 AND partition = $2 AND end_offset > $3 AND base_offset >= coalesce((SELECT base_offset FROM catalog_packed_rows
		WHERE topic = $1 AND partition = $2 AND base_offset <= $3 ORDER BY base_offset DESC LIMIT 1), 0)
	ORDER BY base_offset LIMIT $4`

// PackedRows implements [catalog.Manifest].
func (c *Catalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	return collect(ctx, c, "read packed rows of "+tp.String(), packedRowsSQL, scanPacked, [16]byte(tp.Topic), tp.Partition, from, limited(limit))
}

// As in PackedRows, for each span; spans are read in their order until there are enough rows.
const packedSpansSQL = `SELECT s.topic, s.partition, r.base_offset, r.end_offset, r.version, r.extents
	FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS s (topic, partition, low, high, n)
	CROSS JOIN LATERAL (SELECT base_offset, end_offset, version, extents FROM catalog_packed_rows p
		WHERE p.topic = s.topic AND p.partition = s.partition AND p.base_offset < s.high AND p.end_offset > s.low
		AND p.base_offset >= coalesce((SELECT f.base_offset FROM catalog_packed_rows f
			WHERE f.topic = s.topic AND f.partition = s.partition AND f.base_offset <= s.low ORDER BY f.base_offset DESC LIMIT 1), 0)
		ORDER BY p.base_offset LIMIT $5) r
	ORDER BY s.n, r.base_offset LIMIT $5`

// PackedSpans implements [catalog.Manifest], in one round trip.
func (c *Catalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	if err := catalog.CheckSpans(spans); err != nil {
		return nil, fmt.Errorf("read packed rows: %w", err)
	}
	spans = slices.SortedFunc(slices.Values(spans), func(a, b catalog.Span) int { return a.Compare(b.TopicPartition) })
	spans = slices.DeleteFunc(spans, func(s catalog.Span) bool { return s.From >= s.To })
	n := len(spans)
	topics, partitions, low, high := make([][16]byte, n), make([]int32, n), make([]int64, n), make([]int64, n)
	for i := range spans {
		topics[i], partitions[i], low[i], high[i] = spans[i].Topic, spans[i].Partition, spans[i].From, spans[i].To
	}
	return collect(ctx, c, "read packed rows", packedSpansSQL, scanPacked, topics, partitions, low, high, limited(limit))
}

// PackedPartitions implements [catalog.Manifest]. It hops from partition to partition in the index.
func (c *Catalog) PackedPartitions(ctx context.Context, id catalog.TopicID) ([]catalog.TopicPartition, error) {
	return collect(ctx, c, "list packed partitions of topic "+id.String(), `WITH RECURSIVE p (n) AS (
			(SELECT partition FROM catalog_packed_rows WHERE topic = $1 ORDER BY partition LIMIT 1)
			UNION ALL
			SELECT (SELECT r.partition FROM catalog_packed_rows r WHERE r.topic = $1 AND r.partition > p.n ORDER BY r.partition LIMIT 1)
			FROM p WHERE p.n IS NOT NULL)
		SELECT n FROM p WHERE n IS NOT NULL`, func(r pgx.Rows) (catalog.TopicPartition, error) {
		tp := catalog.TopicPartition{Topic: id}
		err := r.Scan(&tp.Partition)
		return tp, err
	}, [16]byte(id))
}
