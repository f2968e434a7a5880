package catalogtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testFold(s *suite) {
	tps := s.topic(2)
	epoch := s.register()
	rows := s.commit(epoch, 1, 5)
	f := foldOf(rows[:3], 2)
	f.Objects[1].Refs, f.Objects[1].Live = 0, 0 // all it held is dead: retired at once
	f.Objects[2].Generation = 1
	f.Rows = []catalog.PackedRow{packed(tps[0], 0, 40), packed(tps[1], 0, 7)}
	f.Partitions = []catalog.PartitionState{state(tps[0], 0, 40), state(tps[1], 0, 7)}
	f.Partitions[1].Producers = nil
	s.ok(s.c.Fold(s.ctx(), epoch, f))

	equalEntries(s, rows[3:], s.tail(epoch))
	require.Equal(s, catalog.BrokerTail{Epoch: epoch, Folded: 3, Last: 5}, s.brokerTail(epoch))
	_, err := s.c.TailAt(s.ctx(), epoch, 3)
	s.is(err, catalog.ErrNotFound)
	for i, tp := range tps {
		require.Equal(s, f.Partitions[i], s.load(tp))
		got := s.rows(tp)
		require.Len(s, got, 1)
		require.Equal(s, f.Rows[i].Extents, got[0].Extents)
		require.Equal(s, f.Rows[i].Base, got[0].Base)
		require.Equal(s, f.Rows[i].End, got[0].End)
	}
	objs, err := s.c.ObjectsByID(s.ctx(), []catalog.ObjectID{rows[0].Object, rows[1].Object, rows[2].Object, 999})
	s.ok(err)
	require.Len(s, objs, 2)
	for i, want := range []catalog.Object{f.Objects[0], f.Objects[2]} {
		got := objs[i]
		if got.ID != want.ID {
			got = objs[1-i]
		}
		got.CreatedAt = want.CreatedAt
		require.Equal(s, want, got)
	}
	require.Equal(s, []string{rows[1].Key}, s.retiredKeys())

	// A lost answer: the repeat conflicts, BrokerTails says it was applied.
	s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict)
	require.EqualValues(s, 3, s.brokerTail(epoch).Folded)

	// Appending to a packed row replaces it by a new version. What an edit took off since the fold was planned stays off.
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{BytesDelta: map[catalog.TopicPartition]int64{tps[0]: -30}}))
	old := s.rows(tps[0])[0]
	f = foldOf(rows[3:], 1)
	f.Replaces = []catalog.RowRef{ref(old)}
	f.Rows = []catalog.PackedRow{packed(tps[0], 0, 60)}
	f.Partitions = []catalog.PartitionState{state(tps[0], 0, 60)}
	f.Partitions[0].Bytes = 200
	s.ok(s.c.Fold(s.ctx(), epoch, f))
	require.EqualValues(s, 400-30+200, s.load(tps[0]).Bytes)
	got := s.rows(tps[0])
	require.Len(s, got, 1)
	require.Greater(s, got[0].Version, old.Version)
	require.EqualValues(s, 60, got[0].End)
	require.Equal(s, catalog.BrokerTail{Epoch: epoch, Folded: 5, Last: 5}, s.brokerTail(epoch))
	require.Empty(s, s.tail(epoch))
	s.commit(epoch, 6, 1)
}

// foldFixture is a tail of four rows, the middle two merged, and a packed row.
func foldFixture(s *suite) (catalog.BrokerEpoch, catalog.TopicPartition, []catalog.TailEntry) {
	s.Helper()
	tp := s.topic(1)[0]
	epoch := s.register()
	s.seed(epoch, tp)
	rows := s.commit(epoch, 2, 4)
	merged := s.entry(epoch, 3)
	merged.Last = 4
	s.ok(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{Entry: merged, Replaces: []catalog.ObjectID{rows[1].Object, rows[2].Object}}))
	return epoch, tp, s.tail(epoch)
}

func testFoldConflicts(s *suite) {
	epoch, tp, rows := foldFixture(s)
	whole := func() catalog.Fold { return foldOf(rows, 1) }
	tests := map[string]func(*catalog.Fold){
		"position behind":      func(f *catalog.Fold) { f.After-- },
		"position ahead":       func(f *catalog.Fold) { f.After++ },
		"ends inside a row":    func(f *catalog.Fold) { f.Through = 3; f.Objects = f.Objects[:1] },
		"ends behind the tail": func(f *catalog.Fold) { f.Through++ },
		"object missing":       func(f *catalog.Fold) { f.Objects = f.Objects[1:] },
		"object too many": func(f *catalog.Fold) {
			f.Objects = append(f.Objects, catalog.Object{ID: 999, Key: "x", Refs: 1})
		},
		"planned before a merge": func(f *catalog.Fold) { f.Objects[1].ID += 100 },
		"replaced row changed": func(f *catalog.Fold) {
			r := ref(s.rows(tp)[0])
			r.Version += 1000
			f.Replaces = []catalog.RowRef{r}
		},
		"replaced row gone": func(f *catalog.Fold) { f.Replaces = []catalog.RowRef{{TopicPartition: tp, Base: 5, Version: 1}} },
		"overlap":           func(f *catalog.Fold) { f.Rows = []catalog.PackedRow{packed(tp, 99, 120)} },
		"overlap at base":   func(f *catalog.Fold) { f.Rows = []catalog.PackedRow{packed(tp, 0, 120)} },
		"no such partition": func(f *catalog.Fold) {
			f.Partitions = []catalog.PartitionState{state(catalog.TopicPartition{Topic: tp.Topic, Partition: 8}, 0, 1)}
		},
		"no such topic": func(f *catalog.Fold) {
			f.Rows = []catalog.PackedRow{packed(catalog.TopicPartition{Topic: catalog.TopicID{77}}, 0, 1)}
		},
		"no such tail": func(f *catalog.Fold) { f.Tail += 50 },
	}
	before := s.load(tp)
	for name, spoil := range tests {
		f := whole()
		f.Rows = []catalog.PackedRow{packed(tp, 100, 120)}
		f.Partitions = []catalog.PartitionState{state(tp, 0, 120)}
		spoil(&f)
		s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict, name)
		require.Equal(s, before, s.load(tp), name)
		require.Len(s, s.rows(tp), 1, name)
		require.EqualValues(s, 1, s.brokerTail(epoch).Folded, name)
		equalEntries(s, rows, s.tail(epoch))
	}
	s.ok(s.c.Fold(s.ctx(), epoch, whole()))
}

// testFoldAtomic: a fold refused for its last part has changed nothing, and others' writes at the same time stand.
func testFoldAtomic(s *suite) {
	epoch, tp, rows := foldFixture(s)
	other := s.topic(1)[0]
	f := foldOf(rows, 1)
	f.Rows = []catalog.PackedRow{packed(other, 0, 10), packed(tp, 50, 60)} // the second overlaps
	f.Partitions = []catalog.PartitionState{state(other, 0, 10), state(tp, 0, 120)}
	before, retired := s.load(other), s.retiredKeys()
	s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict)
	require.Equal(s, before, s.load(other))
	require.Empty(s, s.rows(other))
	require.Equal(s, retired, s.retiredKeys())
	objs, err := s.c.ObjectsByID(s.ctx(), []catalog.ObjectID{rows[0].Object})
	s.ok(err)
	require.Empty(s, objs)
}

func testFoldDeletedTopic(s *suite) {
	epoch, tp, rows := foldFixture(s)
	other := s.topic(1)[0]
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	f := foldOf(rows, 1)
	f.Rows = []catalog.PackedRow{packed(tp, 100, 120)}
	s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict, "a dead topic's row")
	f.Rows = nil
	f.Partitions = []catalog.PartitionState{state(tp, 0, 120)}
	s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict, "a dead topic's state")
	f.Partitions = []catalog.PartitionState{state(other, 0, 4)}
	f.Rows = []catalog.PackedRow{packed(other, 0, 4)}
	s.ok(s.c.Fold(s.ctx(), epoch, f), "planned again without it")
	require.Len(s, s.rows(tp), 1, "what was packed stays until purged")
}

func testFoldOther(s *suite) {
	tp := s.topic(1)[0]
	dead := s.register()
	rows := s.commit(dead, 1, 2)
	s.fence(dead)
	epoch := s.register()
	f := foldOf(rows, 1)
	f.Rows = []catalog.PackedRow{packed(tp, 0, 2)}
	f.Partitions = []catalog.PartitionState{state(tp, 0, 2)}
	s.ok(s.c.Fold(s.ctx(), epoch, f))
	require.Empty(s, s.tail(dead))
	if bt := s.brokerTail(dead); bt != (catalog.BrokerTail{}) { // may be left out now
		require.Equal(s, catalog.BrokerTail{Epoch: dead, Folded: 2, Last: 2}, bt)
	}
	s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict)
}

func testLogStart(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	set := func(offset, want int64) {
		s.Helper()
		got, err := s.c.SetLogStart(s.ctx(), epoch, tp, offset)
		s.ok(err)
		require.Equal(s, want, got)
		require.Equal(s, want, s.load(tp).LogStart)
	}
	set(5, 5) // above the folded log end: what lies between is in the tail
	require.Zero(s, s.load(tp).LogEnd)
	set(3, 5)
	set(5, 5)
	rows := s.commit(epoch, 1, 2)
	f := foldOf(rows[:1], 1)
	f.Partitions = []catalog.PartitionState{state(tp, 2, 4)}
	s.ok(s.c.Fold(s.ctx(), epoch, f))
	require.EqualValues(s, 5, s.load(tp).LogStart, "a fold never lowers it")
	require.EqualValues(s, 4, s.load(tp).LogEnd)
	f = foldOf(rows[1:], 1)
	f.Partitions = []catalog.PartitionState{state(tp, 7, 9)}
	s.ok(s.c.Fold(s.ctx(), epoch, f))
	require.EqualValues(s, 7, s.load(tp).LogStart)

	_, err := s.c.SetLogStart(s.ctx(), epoch, catalog.TopicPartition{Topic: tp.Topic, Partition: 1}, 1)
	s.is(err, catalog.ErrUnknownTopic)
	_, err = s.c.SetLogStart(s.ctx(), epoch, catalog.TopicPartition{Topic: catalog.TopicID{99}}, 1)
	s.is(err, catalog.ErrUnknownTopic)
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	_, err = s.c.SetLogStart(s.ctx(), epoch, tp, 10)
	s.is(err, catalog.ErrUnknownTopic)
}

func testLoadPartitions(s *suite) {
	a, b, c := s.topic(3), s.topic(2), s.topic(1)
	s.ok(s.c.DeleteTopic(s.ctx(), c[0].Topic))
	want := []catalog.TopicPartition{a[0], a[2], b[1]}
	asked := append([]catalog.TopicPartition{c[0], {Topic: catalog.TopicID{99}}, {Topic: a[0].Topic, Partition: 3}, {Topic: a[0].Topic, Partition: -1}}, want...)
	_, err := s.c.SetLogStart(s.ctx(), s.register(), a[2], 7)
	s.ok(err)
	load := func(from func(context.Context, []catalog.TopicPartition) ([]catalog.PartitionState, error), asked []catalog.TopicPartition) []catalog.PartitionState {
		states, err := from(s.ctx(), asked)
		s.ok(err)
		slices.SortFunc(states, func(a, b catalog.PartitionState) int { return a.Compare(b.TopicPartition) })
		return states
	}
	states := load(s.c.LoadPartitions, asked)
	var got []catalog.TopicPartition
	for _, st := range states {
		got = append(got, st.TopicPartition)
	}
	require.ElementsMatch(s, want, got)
	require.Equal(s, states, load(s.c.SettledPartitions, asked))
	require.Empty(s, load(s.c.LoadPartitions, nil))
	require.Empty(s, load(s.c.SettledPartitions, nil))
}

func testPackedRows(s *suite) {
	tps := s.topic(12)
	tp := tps[10]
	epoch := s.register()
	parts, err := s.c.PackedPartitions(s.ctx(), tp.Topic)
	s.ok(err)
	require.Empty(s, parts)
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{
		packed(tp, 30, 40), packed(tp, 10, 20), packed(tp, 20, 30), packed(tp, 50, 60), packed(tps[9], 0, 1000), packed(tps[2], 5, 6),
	}}))
	for _, tt := range []struct {
		from  int64
		limit int
		want  []int64
	}{
		{0, 10, []int64{10, 20, 30, 50}},
		{10, 10, []int64{10, 20, 30, 50}},
		{19, 1, []int64{10}},
		{20, 2, []int64{20, 30}},
		{40, 10, []int64{50}},
		{45, 10, []int64{50}},
		{59, 10, []int64{50}},
		{60, 10, nil},
		{-5, 1, []int64{10}},
	} {
		rows, err := s.c.PackedRows(s.ctx(), tp, tt.from, tt.limit)
		s.ok(err)
		var got []int64
		for _, r := range rows {
			require.Equal(s, tp, r.TopicPartition)
			require.Equal(s, packed(tp, r.Base, r.End).Extents, r.Extents)
			got = append(got, r.Base)
		}
		require.Equal(s, tt.want, got, "from %d", tt.from)
	}
	parts, err = s.c.PackedPartitions(s.ctx(), tp.Topic)
	s.ok(err)
	require.ElementsMatch(s, []catalog.TopicPartition{tps[2], tps[9], tp}, parts)
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	require.Len(s, s.rows(tp), 4, "also of deleted topics")
	parts, err = s.c.PackedPartitions(s.ctx(), tp.Topic)
	s.ok(err)
	require.Len(s, parts, 3)
	require.Empty(s, s.rows(catalog.TopicPartition{Topic: catalog.TopicID{99}}))
}

func testEdit(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	old := s.seed(epoch, tp)
	row := s.rows(tp)[0]
	fresh := catalog.Object{ID: 500, Key: "segment/500", Size: 77, Checksum: 5, Generation: 2, Refs: 2, Live: 20}
	e := catalog.Edit{
		Objects: []catalog.Object{fresh}, Replaces: []catalog.RowRef{ref(row)},
		Rows:       []catalog.PackedRow{packed(tp, 0, 40), packed(tp, 40, 100)},
		Deltas:     []catalog.RefDelta{{Object: old.ID, Refs: -1, Live: -10}},
		BytesDelta: map[catalog.TopicPartition]int64{tp: -300},
	}
	before := s.load(tp)
	s.ok(s.c.Edit(s.ctx(), epoch, e))
	got := s.rows(tp)
	require.Len(s, got, 2)
	for _, r := range got {
		require.NotEqual(s, row.Version, r.Version)
	}
	require.Equal(s, before.Bytes-300, s.load(tp).Bytes)
	objs, err := s.c.ObjectsByID(s.ctx(), []catalog.ObjectID{old.ID, fresh.ID})
	s.ok(err)
	require.Len(s, objs, 1)
	objs[0].CreatedAt = fresh.CreatedAt
	require.Equal(s, fresh, objs[0])
	require.Equal(s, []string{old.Key}, s.retiredKeys())

	// A lost answer: the repeat conflicts, the new object says it was applied.
	s.is(s.c.Edit(s.ctx(), epoch, e), catalog.ErrConflict)
	require.Len(s, s.retiredKeys(), 1)
	require.Equal(s, before.Bytes-300, s.load(tp).Bytes)
}

func testEditConflicts(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	old := s.seed(epoch, tp)
	row := s.rows(tp)[0]
	tests := map[string]catalog.Edit{
		"row of another version": {Replaces: []catalog.RowRef{{TopicPartition: tp, Base: 0, Version: row.Version + 1}}},
		"row gone":               {Replaces: []catalog.RowRef{{TopicPartition: tp, Base: 7, Version: row.Version}}},
		"object gone":            {Deltas: []catalog.RefDelta{{Object: 999, Refs: -1}}},
		"too many references":    {Deltas: []catalog.RefDelta{{Object: old.ID, Refs: -2}}},
		"object exists":          {Objects: []catalog.Object{{ID: old.ID, Key: "another", Refs: 1}}},
		"no such topic":          {Rows: []catalog.PackedRow{packed(catalog.TopicPartition{Topic: catalog.TopicID{99}}, 0, 1)}},
		"no such partition":      {Rows: []catalog.PackedRow{packed(catalog.TopicPartition{Topic: tp.Topic, Partition: 1}, 0, 1)}},
		"purges a live topic":    {Purge: []catalog.TopicID{tp.Topic}},
	}
	for name, e := range tests {
		e.BytesDelta = map[catalog.TopicPartition]int64{tp: 5}
		s.is(s.c.Edit(s.ctx(), epoch, e), catalog.ErrConflict, name)
		require.Equal(s, []catalog.PackedRow{row}, s.rows(tp), name)
		require.Equal(s, state(tp, 0, 100).Bytes, s.load(tp).Bytes, name)
		require.Empty(s, s.retiredKeys(), name)
	}
	// The version named is the current one, not one of long ago.
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(row)}, Rows: []catalog.PackedRow{packed(tp, 0, 100)}}))
	s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(row)}}), catalog.ErrConflict)
}

func testEditOverlap(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 10, 20), packed(tp, 30, 40)}}))
	for _, span := range [][2]int64{{0, 11}, {19, 25}, {10, 20}, {12, 15}, {5, 50}, {25, 31}, {39, 45}, {20, 31}} {
		err := s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, span[0], span[1])}})
		s.is(err, catalog.ErrConflict, fmt.Sprint(span))
	}
	s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 50, 60), packed(tp, 55, 65)}}), catalog.ErrConflict)
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 0, 10), packed(tp, 20, 30), packed(tp, 40, 41)}}))
	require.Len(s, s.rows(tp), 5)
}

func testReferences(s *suite) {
	tps := s.topic(1)
	epoch := s.register()
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Objects: []catalog.Object{
		{ID: 1, Key: "a", Size: 10, Refs: 3, Live: 30}, {ID: 2, Key: "b", Size: 10, Refs: 1, Live: 10}, {ID: 3, Key: "c", Size: 10},
	}}))
	require.Equal(s, []string{"c"}, s.retiredKeys(), "nothing refers to it")
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Deltas: []catalog.RefDelta{{Object: 1, Refs: -2, Live: -20}, {Object: 2, Refs: 4, Live: 40}}}))
	objs, err := s.c.ObjectsByID(s.ctx(), []catalog.ObjectID{1, 2, 3})
	s.ok(err)
	require.Len(s, objs, 2)
	for _, o := range objs {
		want := map[catalog.ObjectID][2]int64{1: {1, 10}, 2: {5, 50}}[o.ID]
		require.Equal(s, want, [2]int64{o.Refs, o.Live})
	}
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Deltas: []catalog.RefDelta{{Object: 1, Refs: -1, Live: -10}, {Object: 2, Refs: -5, Live: -50}}}))
	require.Equal(s, []string{"a", "b", "c"}, s.retiredKeys())
	s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Deltas: []catalog.RefDelta{{Object: 1, Refs: 1}}}), catalog.ErrConflict, "it is gone")
	require.Empty(s, s.rows(tps[0]))
}

func testPurge(s *suite) {
	tp := s.topic(2)[0]
	epoch := s.register()
	obj := s.seed(epoch, tp)
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	purge := catalog.Edit{Purge: []catalog.TopicID{tp.Topic}}
	s.is(s.c.Edit(s.ctx(), epoch, purge), catalog.ErrConflict, "it has packed rows")
	require.Len(s, s.rows(tp), 1)
	ids, err := s.c.DeletedTopics(s.ctx())
	s.ok(err)
	require.Equal(s, []catalog.TopicID{tp.Topic}, ids)

	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{
		Replaces: []catalog.RowRef{ref(s.rows(tp)[0])}, Deltas: []catalog.RefDelta{{Object: obj.ID, Refs: -obj.Refs, Live: -obj.Live}},
	}))
	require.Equal(s, []string{obj.Key}, s.retiredKeys())
	s.ok(s.c.Edit(s.ctx(), epoch, purge))
	ids, err = s.c.DeletedTopics(s.ctx())
	s.ok(err)
	require.Empty(s, ids)
	s.ok(s.c.Edit(s.ctx(), epoch, purge), "a repeat")
	s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 0, 1)}}), catalog.ErrConflict)

	// Rows removed and topic purged in one edit.
	tp = s.topic(1)[0]
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 0, 9)}}))
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(s.rows(tp)[0])}, Purge: []catalog.TopicID{tp.Topic}}))
	require.Empty(s, s.rows(tp))
}
