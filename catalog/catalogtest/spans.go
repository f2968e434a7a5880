package catalogtest

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testPackedSpans(s *suite) {
	a, b := s.topic(12), s.topic(2)
	epoch := s.register()
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{
		packed(a[10], 30, 40), packed(a[10], 10, 20), packed(a[10], 20, 30), packed(a[10], 50, 60),
		packed(a[9], 0, 1000), packed(a[2], 5, 6), packed(b[1], 7, 9),
	}}))
	type at struct {
		catalog.TopicPartition
		base int64
	}
	span := func(tp catalog.TopicPartition, from, to int64) catalog.Span {
		return catalog.Span{TopicPartition: tp, From: from, To: to}
	}
	for _, tt := range []struct {
		spans []catalog.Span
		limit int
		want  []at
	}{
		{nil, 10, nil},
		{[]catalog.Span{span(a[10], 0, 100)}, 10, []at{{a[10], 10}, {a[10], 20}, {a[10], 30}, {a[10], 50}}},
		{[]catalog.Span{span(a[10], 19, 20)}, 10, []at{{a[10], 10}}},
		{[]catalog.Span{span(a[10], 19, 21)}, 10, []at{{a[10], 10}, {a[10], 20}}},
		{[]catalog.Span{span(a[10], 40, 50)}, 10, nil},
		{[]catalog.Span{span(a[10], 20, 20)}, 10, nil},
		{[]catalog.Span{span(a[10], 25, 15)}, 10, nil},
		{[]catalog.Span{span(a[10], -5, 11)}, 10, []at{{a[10], 10}}},
		{[]catalog.Span{span(a[10], 59, 1<<62)}, 10, []at{{a[10], 50}}},
		{
			[]catalog.Span{span(b[1], 0, 8), span(a[10], 39, 51), span(a[9], 500, 501), span(a[2], 6, 7), span(b[0], 0, 9)},
			10,
			[]at{{a[9], 0}, {a[10], 30}, {a[10], 50}, {b[1], 7}},
		},
		{[]catalog.Span{span(b[1], 0, 8), span(a[10], 39, 51), span(a[9], 500, 501)}, 3, []at{{a[9], 0}, {a[10], 30}, {a[10], 50}}},
		{[]catalog.Span{span(b[1], 0, 8), span(a[10], 39, 51), span(a[9], 500, 501)}, 2, []at{{a[9], 0}, {a[10], 30}}},
		{[]catalog.Span{span(catalog.TopicPartition{Topic: catalog.TopicID{99}}, 0, 8), span(a[2], 0, 8)}, 10, []at{{a[2], 5}}},
	} {
		slices.SortFunc(tt.want, func(x, y at) int { return x.Compare(y.TopicPartition) })
		rows, err := s.c.PackedSpans(s.ctx(), tt.spans, tt.limit)
		s.ok(err)
		var got []at
		for _, r := range rows {
			require.Equal(s, packed(r.TopicPartition, r.Base, r.End).Extents, r.Extents)
			require.Equal(s, s.version(r.TopicPartition, r.Base), r.Version)
			got = append(got, at{r.TopicPartition, r.Base})
		}
		require.Equal(s, tt.want, got, "%v", tt.spans)
	}
	s.ok(s.c.DeleteTopic(s.ctx(), a[0].Topic))
	rows, err := s.c.PackedSpans(s.ctx(), []catalog.Span{span(a[2], 0, 8)}, 10)
	s.ok(err)
	require.Len(s, rows, 1, "also of deleted topics")

	_, err = s.c.PackedSpans(s.ctx(), []catalog.Span{span(a[2], 0, 8), span(a[9], 0, 8), span(a[2], 9, 10)}, 10)
	s.is(err, catalog.ErrInvalid, "two spans of one partition")
	many := make([]catalog.Span, catalog.MaxSpans+1)
	for i := range many {
		many[i] = span(catalog.TopicPartition{Topic: b[1].Topic, Partition: int32(i)}, 0, 100)
	}
	_, err = s.c.PackedSpans(s.ctx(), many, 10)
	s.is(err, catalog.ErrInvalid, "too many spans")
	rows, err = s.c.PackedSpans(s.ctx(), many[:catalog.MaxSpans], 10)
	s.ok(err)
	require.Len(s, rows, 1)
}

func (s *suite) version(tp catalog.TopicPartition, base int64) int64 {
	s.Helper()
	rows, err := s.c.PackedRows(s.ctx(), tp, base, 1)
	s.ok(err)
	require.Len(s, rows, 1)
	return rows[0].Version
}

func testSparseObjects(s *suite) {
	const size = catalog.SparseBytes
	epoch := s.register()
	key := func(id string) string { return "segment/" + id }
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Objects: []catalog.Object{
		{ID: 1, Key: key("1"), Size: size, Refs: 2, Live: size/2 - 1, Generation: 9},
		{ID: 2, Key: key("2"), Size: size, Refs: 2, Live: size / 2},
		{ID: 3, Key: key("3"), Size: size - 1, Refs: 2, Live: 1},
		{ID: 4, Key: key("4"), Size: 10 * size, Refs: 2, Live: size},
		{ID: 5, Key: key("5"), Size: 10 * size, Refs: 2, Live: 10 * size},
		{ID: 6, Key: key("6"), Size: 10 * size, Refs: 2, Live: 0},
	}}))
	list := func(after catalog.ObjectID, limit int) []catalog.ObjectID {
		s.Helper()
		objs, err := s.c.SparseObjects(s.ctx(), after, limit)
		s.ok(err)
		return ids(objs)
	}
	require.Equal(s, []catalog.ObjectID{1, 4, 6}, list(0, 10))
	require.Equal(s, []catalog.ObjectID{1, 4}, list(0, 2))
	require.Equal(s, []catalog.ObjectID{4, 6}, list(1, 10))
	require.Empty(s, list(6, 10))
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Deltas: []catalog.RefDelta{
		{Object: 5, Refs: -1, Live: -6 * size}, {Object: 4, Refs: -2, Live: -size}, {Object: 2, Refs: -1, Live: -1},
	}}))
	require.Equal(s, []catalog.ObjectID{1, 2, 5, 6}, list(0, 10), "as extents go")
}
