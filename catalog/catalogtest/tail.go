package catalogtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testCommit(s *suite) {
	a, b := s.register(), s.register()
	want := s.commit(a, 1, 3)
	other := s.commit(b, 1, 1)
	equalEntries(s, want, s.tail(a))
	equalEntries(s, other, s.tail(b))
	require.Equal(s, catalog.BrokerTail{Epoch: a, Last: 3}, s.brokerTail(a))
	for _, seq := range []catalog.Sequence{0, 1, 3, 5, 100, -1} { // due is 4
		_, err := s.c.Commit(s.ctx(), a, []catalog.TailEntry{s.entry(a, seq)})
		require.Error(s, err)
		if seq > 0 {
			s.is(err, catalog.ErrSequence)
		}
	}
	equalEntries(s, want, s.tail(a))

	big := s.entry(a, 4)
	big.Index = make([]byte, 1<<20)
	for i := range big.Index {
		big.Index[i] = byte(i * 7)
	}
	at, err := s.c.Commit(s.ctx(), a, []catalog.TailEntry{big})
	s.ok(err)
	big.CommittedAt = at
	got, err := s.c.TailAt(s.ctx(), a, 4)
	s.ok(err)
	equalEntries(s, []catalog.TailEntry{big}, []catalog.TailEntry{got})
}

func testCommitSeveral(s *suite) {
	epoch := s.register()
	var rows []catalog.TailEntry
	for seq := range catalog.Sequence(5) {
		rows = append(rows, s.entry(epoch, seq+1))
	}
	at, err := s.c.Commit(s.ctx(), epoch, rows)
	s.ok(err)
	for i := range rows {
		rows[i].CommittedAt = at
	}
	equalEntries(s, rows, s.tail(epoch))

	hole := []catalog.TailEntry{s.entry(epoch, 6), s.entry(epoch, 8)}
	_, err = s.c.Commit(s.ctx(), epoch, hole)
	require.Error(s, err)
	run := s.entry(epoch, 6)
	run.Last = 7
	_, err = s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{run})
	require.Error(s, err)
	equalEntries(s, rows, s.tail(epoch))
	require.EqualValues(s, 5, s.brokerTail(epoch).Last, "all or nothing")

	partly := []catalog.TailEntry{s.entry(epoch, 5), s.entry(epoch, 6)}
	_, err = s.c.Commit(s.ctx(), epoch, partly)
	s.is(err, catalog.ErrSequence, "its first was committed before")
	require.EqualValues(s, 5, s.brokerTail(epoch).Last)
}

// testCommitRepeated settles a lost answer as the contract says.
func testCommitRepeated(s *suite) {
	epoch := s.register()
	rows := []catalog.TailEntry{s.entry(epoch, 1), s.entry(epoch, 2)}
	at, err := s.c.Commit(s.ctx(), epoch, rows)
	s.ok(err)
	s.clock.Advance(time.Second)
	_, err = s.c.Commit(s.ctx(), epoch, rows)
	s.is(err, catalog.ErrSequence)
	got, err := s.c.TailAt(s.ctx(), epoch, 2)
	s.ok(err)
	require.Equal(s, rows[1].Object, got.Object)
	require.True(s, at.Equal(got.CommittedAt))
	_, err = s.c.TailAt(s.ctx(), epoch, 3)
	s.is(err, catalog.ErrNotFound)
	_, err = s.c.TailAt(s.ctx(), epoch, 0)
	s.is(err, catalog.ErrNotFound)
	_, err = s.c.TailAt(s.ctx(), epoch+1, 1)
	s.is(err, catalog.ErrNotFound)
}

func testCommitClock(s *suite) {
	epoch := s.register()
	first := s.commit(epoch, 1, 1)[0].CommittedAt
	require.True(s, s.clock.Now().Equal(first))
	s.clock.Advance(time.Minute)
	second := s.commit(epoch, 2, 1)[0].CommittedAt
	require.True(s, s.clock.Now().Equal(second))
	s.clock.Advance(-time.Hour)
	third := s.commit(epoch, 3, 1)[0].CommittedAt
	require.False(s, third.Before(second), "the catalog's clock never goes back")
	entry := s.entry(epoch, 4)
	entry.CommittedAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	at, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{entry})
	s.ok(err)
	require.False(s, at.Before(third), "callers' clocks decide nothing")
}

func testReadTail(s *suite) {
	epoch := s.register()
	rows := s.commit(epoch, 1, 10)
	for _, tt := range []struct {
		after catalog.Sequence
		limit int
		want  []catalog.TailEntry
	}{{0, 100, rows}, {0, 3, rows[:3]}, {3, 3, rows[3:6]}, {9, 3, rows[9:]}, {10, 3, nil}, {100, 1, nil}} {
		got, err := s.c.ReadTail(s.ctx(), epoch, tt.after, tt.limit)
		s.ok(err)
		equalEntries(s, tt.want, got)
	}
	got, err := s.c.ReadTail(s.ctx(), epoch+1, 0, 10)
	s.ok(err)
	require.Empty(s, got)
}

func testMergeTail(s *suite) {
	epoch := s.register()
	rows := s.commit(epoch, 1, 6)
	merged := s.entry(epoch, 2)
	merged.Last = 4
	m := catalog.TailMerge{Entry: merged, Replaces: []catalog.ObjectID{rows[1].Object, rows[2].Object, rows[3].Object}}
	s.ok(s.c.MergeTail(s.ctx(), epoch, m))
	merged.CommittedAt = rows[3].CommittedAt
	want := []catalog.TailEntry{rows[0], merged, rows[4], rows[5]}
	equalEntries(s, want, s.tail(epoch))
	require.Equal(s, catalog.BrokerTail{Epoch: epoch, Last: 6}, s.brokerTail(epoch))
	require.ElementsMatch(s, []string{rows[1].Key, rows[2].Key, rows[3].Key}, s.retiredKeys())
	for seq := catalog.Sequence(2); seq <= 4; seq++ {
		got, err := s.c.TailAt(s.ctx(), epoch, seq)
		s.ok(err)
		require.Equal(s, merged.Object, got.Object)
	}
	got, err := s.c.ReadTail(s.ctx(), epoch, 3, 1) // First <= after < Last
	s.ok(err)
	equalEntries(s, want[1:2], got)

	s.is(s.c.MergeTail(s.ctx(), epoch, m), catalog.ErrConflict, "a repeat; TailAt decides")
	require.Len(s, s.retiredKeys(), 3)
	s.commit(epoch, 7, 1)

	// A merged row may be merged again.
	all := s.entry(epoch, 1)
	all.Last = 6
	s.ok(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{
		Entry: all, Replaces: []catalog.ObjectID{rows[0].Object, merged.Object, rows[4].Object, rows[5].Object},
	}))
	require.Len(s, s.tail(epoch), 2)
}

func testMergeTailConflicts(s *suite) {
	epoch := s.register()
	rows := s.commit(epoch, 1, 5)
	ids := func(from, to int) (out []catalog.ObjectID) {
		for _, r := range rows[from-1 : to] {
			out = append(out, r.Object)
		}
		return out
	}
	try := func(first, last catalog.Sequence, replaces []catalog.ObjectID) {
		s.Helper()
		e := s.entry(epoch, first)
		e.Last = last
		s.is(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{Entry: e, Replaces: replaces}), catalog.ErrConflict)
	}
	try(2, 4, ids(2, 3))
	try(2, 3, ids(2, 4))
	try(2, 4, ids(1, 3))
	try(2, 4, []catalog.ObjectID{rows[2].Object, rows[1].Object, rows[3].Object})
	try(4, 6, append(ids(4, 5), 999))
	e := s.entry(epoch+1, 1)
	s.is(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{Entry: e, Replaces: ids(1, 1)}), catalog.ErrConflict)
	equalEntries(s, rows, s.tail(epoch))
	require.Empty(s, s.retiredKeys())

	merged := s.entry(epoch, 2)
	merged.Last = 3
	s.ok(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{Entry: merged, Replaces: ids(2, 3)}))
	try(1, 2, []catalog.ObjectID{rows[0].Object, merged.Object})
	try(3, 4, []catalog.ObjectID{merged.Object, rows[3].Object})
}
