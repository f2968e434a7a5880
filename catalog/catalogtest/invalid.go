package catalogtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testInvalid: what is wrong whatever the catalog holds is refused with ErrInvalid, and changes nothing.
func testInvalid(s *suite) {
	epoch, tp, rows := foldFixture(s)
	state0, packed0, tail0 := s.load(tp), s.rows(tp), s.tail(epoch)
	bad := func(what string, err error) {
		s.Helper()
		s.is(err, catalog.ErrInvalid, what)
		require.False(s, catalog.Retriable(err))
	}
	invalidTopics(s, bad)
	commit := func(spoil func(e *[2]catalog.TailEntry)) error {
		e := [2]catalog.TailEntry{s.entry(epoch, 6), s.entry(epoch, 7)}
		spoil(&e)
		_, err := s.c.Commit(s.ctx(), epoch, e[:])
		return err
	}
	bad("commit of no key", commit(func(e *[2]catalog.TailEntry) { e[1].Key = "" }))
	bad("commit of a key that is no text", commit(func(e *[2]catalog.TailEntry) { e[0].Key = "a\xff" }))
	bad("commit of a negative size", commit(func(e *[2]catalog.TailEntry) { e[0].Size = -1 }))
	bad("commit of one key twice", commit(func(e *[2]catalog.TailEntry) { e[0].Key = e[1].Key }))
	bad("commit of one object twice", commit(func(e *[2]catalog.TailEntry) { e[0].Object = e[1].Object }))

	merge := func(spoil func(m *catalog.TailMerge)) error {
		m := catalog.TailMerge{Entry: s.entry(epoch, 2), Replaces: []catalog.ObjectID{rows[0].Object}}
		spoil(&m)
		return s.c.MergeTail(s.ctx(), epoch, m)
	}
	bad("merge of nothing", merge(func(m *catalog.TailMerge) { m.Replaces = nil }))
	bad("merge backwards", merge(func(m *catalog.TailMerge) { m.Entry.Last-- }))
	bad("merge from sequence 0", merge(func(m *catalog.TailMerge) { m.Entry.First = 0 }))
	bad("merge into no key", merge(func(m *catalog.TailMerge) { m.Entry.Key = "" }))
	invalidFolds(s, epoch, tp, rows, bad)

	row := packed0[0]
	one := catalog.Object{ID: 900, Key: "segment/900", Refs: 1, Live: 1}
	two := catalog.Object{ID: 901, Key: "segment/901", Refs: 1, Live: 1}
	for what, e := range map[string]catalog.Edit{
		"empty row":              {Rows: []catalog.PackedRow{packed(tp, 200, 200)}},
		"row backwards":          {Rows: []catalog.PackedRow{packed(tp, 210, 200)}},
		"row at -1":              {Rows: []catalog.PackedRow{packed(tp, -1, 0)}},
		"one row replaced twice": {Replaces: []catalog.RowRef{ref(row), ref(row)}},
		"one object twice":       {Objects: []catalog.Object{one, {ID: 900, Key: "other", Refs: 1}}},
		"one key twice":          {Objects: []catalog.Object{one, {ID: 902, Key: one.Key, Refs: 1}}},
		"one key, also retired":  {Objects: []catalog.Object{one, {ID: 902, Key: one.Key}}},
		"no key":                 {Objects: []catalog.Object{two, {ID: 902, Refs: 1}}},
		"negative references":    {Objects: []catalog.Object{two, {ID: 902, Key: "x", Refs: -1}}},
		"negative live bytes":    {Objects: []catalog.Object{two, {ID: 902, Key: "x", Refs: 1, Live: -1}}},
		"negative size":          {Objects: []catalog.Object{two, {ID: 902, Key: "x", Refs: 1, Size: -1}}},
		"negative generation":    {Objects: []catalog.Object{two, {ID: 902, Key: "x", Refs: 1, Generation: -1}}},
		"one delta twice":        {Deltas: []catalog.RefDelta{{Object: 1, Refs: 1}, {Object: 1, Refs: 1}}},
		"delta of a new object":  {Objects: []catalog.Object{one}, Deltas: []catalog.RefDelta{{Object: 900, Refs: 1}}},
	} {
		bad(what, s.c.Edit(s.ctx(), epoch, e))
	}
	_, err := s.c.SetLogStart(s.ctx(), epoch, tp, -1)
	bad("log start -1", err)
	_, err = s.c.Commit(s.ctx(), epoch+100, []catalog.TailEntry{{Epoch: epoch + 100, First: 1, Last: 1}})
	bad("nonsense is found before the fence", err)

	require.Equal(s, state0, s.load(tp))
	require.Equal(s, packed0, s.rows(tp))
	equalEntries(s, tail0, s.tail(epoch))
	require.EqualValues(s, 5, s.brokerTail(epoch).Last)
	objs, err := s.c.FoldedObjects(s.ctx(), 0, 100)
	s.ok(err)
	require.Len(s, objs, 1)
}

func invalidTopics(s *suite, bad func(string, error)) {
	s.Helper()
	_, err := s.c.AllocateIDs(s.ctx(), "unheard of", 1)
	bad("kind of ids", err)
	for _, n := range []int64{0, -1, 1<<32 + 1} {
		_, err = s.c.AllocateIDs(s.ctx(), catalog.IDObject, n)
		bad("number of ids", err)
	}
	_, err = s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.TopicID{50}, Partitions: 1})
	bad("topic without a name", err)
	_, err = s.c.CreateTopic(s.ctx(), catalog.TopicSpec{Name: "x", Partitions: 1})
	bad("topic without an id", err)
	_, err = s.c.RegisterBroker(s.ctx(), catalog.Registration{Incarnation: [16]byte{77}, TTL: -time.Second})
	bad("session of no time", err)
}

func invalidFolds(s *suite, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, rows []catalog.TailEntry, bad func(string, error)) {
	s.Helper()
	for what, spoil := range map[string]func(f *catalog.Fold){
		"fold of nothing":               func(f *catalog.Fold) { f.Through = f.After },
		"fold backwards":                func(f *catalog.Fold) { f.After, f.Through = f.Through, f.After },
		"fold from -1":                  func(f *catalog.Fold) { f.After = -1 },
		"last stable above the log end": func(f *catalog.Fold) { f.Partitions[0].LastStable = 121 },
		"negative last stable":          func(f *catalog.Fold) { f.Partitions[0].LastStable = -1 },
		"negative log start":            func(f *catalog.Fold) { f.Partitions[0].LogStart = -1 },
		"negative log end":              func(f *catalog.Fold) { f.Partitions[0].LogEnd, f.Partitions[0].LastStable = -1, -1 },
		"leader epoch before 0":         func(f *catalog.Fold) { f.Partitions[0].LeaderEpochs = []catalog.EpochStart{{Epoch: 1, Start: -1}} },
		"one partition twice":           func(f *catalog.Fold) { f.Partitions = append(f.Partitions, f.Partitions[0]) },
		"empty row":                     func(f *catalog.Fold) { f.Rows[0].Base = 120 },
		"two rows of a partition":       func(f *catalog.Fold) { f.Rows = []catalog.PackedRow{packed(tp, 110, 120), packed(tp, 100, 120)} },
		"one key twice":                 func(f *catalog.Fold) { f.Objects[0].Key = f.Objects[1].Key },
		"negative references":           func(f *catalog.Fold) { f.Objects[0].Refs = -1 },
		"one row replaced twice":        func(f *catalog.Fold) { f.Replaces = []catalog.RowRef{{TopicPartition: tp}, {TopicPartition: tp}} },
	} {
		f := foldOf(rows, 1)
		f.Rows = []catalog.PackedRow{packed(tp, 100, 120)}
		f.Partitions = []catalog.PartitionState{state(tp, 0, 120)}
		spoil(&f)
		bad(what, s.c.Fold(s.ctx(), epoch, f))
	}
}

// testFoldLogEnd: the high watermark never goes back, and packed rows end where the log does.
func testFoldLogEnd(s *suite) {
	epoch, tp, rows := foldFixture(s) // folded to 100
	other := s.topic(1)[0]
	for what, spoil := range map[string]func(f *catalog.Fold){
		"log end goes back":        func(f *catalog.Fold) { f.Rows, f.Partitions[0] = nil, state(tp, 0, 99) },
		"log end goes to 0":        func(f *catalog.Fold) { f.Rows, f.Partitions[0] = nil, state(tp, 0, 0) },
		"row beyond the log end":   func(f *catalog.Fold) { f.Rows[0].End++ },
		"row short of the log end": func(f *catalog.Fold) { f.Rows[0].End-- },
		"row without a state":      func(f *catalog.Fold) { f.Rows = append(f.Rows, packed(other, 0, 5)) },
		"replaced by a shorter row": func(f *catalog.Fold) {
			f.Replaces = []catalog.RowRef{ref(s.rows(tp)[0])}
			f.Rows[0], f.Partitions[0] = packed(tp, 0, 50), state(tp, 0, 50)
		},
	} {
		f := foldOf(rows, 1)
		f.Rows = []catalog.PackedRow{packed(tp, 100, 120)}
		f.Partitions = []catalog.PartitionState{state(tp, 0, 120)}
		spoil(&f)
		before := s.load(tp)
		s.is(s.c.Fold(s.ctx(), epoch, f), catalog.ErrConflict, what)
		require.Equal(s, before, s.load(tp), what)
		require.Len(s, s.rows(tp), 1, what)
	}
	f := foldOf(rows, 1)
	f.Partitions = []catalog.PartitionState{state(tp, 0, 100)}
	s.ok(s.c.Fold(s.ctx(), epoch, f), "it may stay")
}

// testEditDeletedTopic: of a deleted topic rows only go.
func testEditDeletedTopic(s *suite) {
	tp := s.topic(2)[0]
	next := catalog.TopicPartition{Topic: tp.Topic, Partition: 1}
	epoch := s.register()
	s.seed(epoch, tp)
	row := s.rows(tp)[0]
	s.ok(s.c.DeleteTopic(s.ctx(), tp.Topic))
	for what, e := range map[string]catalog.Edit{
		"added":          {Rows: []catalog.PackedRow{packed(tp, 100, 110)}},
		"added to empty": {Rows: []catalog.PackedRow{packed(next, 0, 1)}},
		"replaced":       {Replaces: []catalog.RowRef{ref(row)}, Rows: []catalog.PackedRow{packed(tp, 0, 100)}},
	} {
		s.is(s.c.Edit(s.ctx(), epoch, e), catalog.ErrConflict, what)
		require.Equal(s, []catalog.PackedRow{row}, s.rows(tp), what)
	}
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(row)}}))
	require.Empty(s, s.rows(tp))
}

// testRowVersions: a row made again where one was before has another version, so that an edit planned from the first
// is refused.
func testRowVersions(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	seen := make(map[int64]bool)
	var old []catalog.RowRef
	for range 4 {
		s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 0, 10)}}))
		row := s.rows(tp)[0]
		require.False(s, seen[row.Version], "version %d came back", row.Version)
		seen[row.Version] = true
		for _, stale := range old {
			s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{stale}}), catalog.ErrConflict)
		}
		old = append(old, ref(row))
		s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(row)}}))
	}
}

// testFoldedTwice: no two folded objects have one id or key.
func testFoldedTwice(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	old := s.seed(epoch, tp)
	for what, o := range map[string]catalog.Object{
		"id":           {ID: old.ID, Key: "another", Refs: 1},
		"key":          {ID: 900, Key: old.Key, Refs: 1},
		"id, retired":  {ID: old.ID, Key: "another"},
		"key, retired": {ID: 900, Key: old.Key},
	} {
		s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{Objects: []catalog.Object{o}}), catalog.ErrConflict, what)
		s.is(s.c.Edit(s.ctx(), epoch, catalog.Edit{
			Objects: []catalog.Object{{ID: 901, Key: "fresh", Refs: 1}, o},
		}), catalog.ErrConflict, what)
	}
	again := catalog.Edit{
		Objects: []catalog.Object{{ID: 900, Key: old.Key, Refs: 1}}, Deltas: []catalog.RefDelta{{Object: old.ID, Refs: -old.Refs, Live: -old.Live}},
	}
	s.is(s.c.Edit(s.ctx(), epoch, again), catalog.ErrConflict, "not even in place of the other")
	require.Empty(s, s.retiredKeys())
	objs, err := s.c.FoldedObjects(s.ctx(), 0, 10)
	s.ok(err)
	require.Len(s, objs, 1)
}

// testLimits: a limit of 0 or less asks for nothing.
func testLimits(s *suite) {
	epoch, tp, rows := foldFixture(s)
	require.NotEmpty(s, rows)
	for _, limit := range []int{0, -1, -1 << 31, -1 << 62} {
		tail, err := s.c.ReadTail(s.ctx(), epoch, 0, limit)
		s.ok(err)
		require.Empty(s, tail)
		packedRows, err := s.c.PackedRows(s.ctx(), tp, 0, limit)
		s.ok(err)
		require.Empty(s, packedRows)
		packedRows, err = s.c.PackedSpans(s.ctx(), []catalog.Span{{TopicPartition: tp, To: 1 << 40}}, limit)
		s.ok(err)
		require.Empty(s, packedRows)
		objs, err := s.c.MergeCandidates(s.ctx(), 1<<40, 100, limit)
		s.ok(err)
		require.Empty(s, objs)
		objs, err = s.c.FoldedObjects(s.ctx(), 0, limit)
		s.ok(err)
		require.Empty(s, objs)
		objs, err = s.c.SparseObjects(s.ctx(), 0, limit)
		s.ok(err)
		require.Empty(s, objs)
		retired, err := s.c.ListRetired(s.ctx(), 0, limit)
		s.ok(err)
		require.Empty(s, retired)
	}
	for _, limit := range []int{1 << 33, 1<<63 - 1} {
		tail, err := s.c.ReadTail(s.ctx(), epoch, 0, limit)
		s.ok(err)
		require.Len(s, tail, 3)
		packedRows, err := s.c.PackedRows(s.ctx(), tp, 0, limit)
		s.ok(err)
		require.Len(s, packedRows, 1)
		objs, err := s.c.MergeCandidates(s.ctx(), 1<<40, 100, limit)
		s.ok(err)
		require.Len(s, objs, 1)
	}
}
