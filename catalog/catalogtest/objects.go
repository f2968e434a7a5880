package catalogtest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// addObjects makes folded objects: id i has generation i%3 and size 10*i.
func addObjects(s *suite, epoch catalog.BrokerEpoch, n int) {
	s.Helper()
	var e catalog.Edit
	for i := 1; i <= n; i++ {
		e.Objects = append(e.Objects, catalog.Object{
			ID: catalog.ObjectID(i), Key: fmt.Sprintf("segment/%d", i), Size: int64(10 * i), Generation: int32(i % 3), Refs: 1, Live: 1,
		})
	}
	s.ok(s.c.Edit(s.ctx(), epoch, e))
}

func ids(objs []catalog.Object) []catalog.ObjectID {
	out := []catalog.ObjectID{}
	for _, o := range objs {
		out = append(out, o.ID)
	}
	return out
}

func testMergeCandidates(s *suite) {
	addObjects(s, s.register(), 9)
	for _, tt := range []struct {
		size  int64
		gen   int32
		limit int
		want  []catalog.ObjectID
	}{
		{1000, 10, 100, []catalog.ObjectID{3, 6, 9, 1, 4, 7, 2, 5, 8}},
		{1000, math.MaxInt32, 4, []catalog.ObjectID{3, 6, 9, 1}},
		{70, 2, 100, []catalog.ObjectID{3, 6, 1, 4}},
		{71, 2, 100, []catalog.ObjectID{3, 6, 1, 4, 7}},
		{1000, 1, 100, []catalog.ObjectID{3, 6, 9}},
		{1000, 0, 100, []catalog.ObjectID{}},
		{10, 10, 100, []catalog.ObjectID{}},
	} {
		got, err := s.c.MergeCandidates(s.ctx(), tt.size, tt.gen, tt.limit)
		s.ok(err)
		require.Equal(s, tt.want, ids(got), "smaller than %d, below generation %d, at most %d", tt.size, tt.gen, tt.limit)
	}
}

func testFoldedObjects(s *suite) {
	addObjects(s, s.register(), 5)
	for _, tt := range []struct {
		after catalog.ObjectID
		limit int
		want  []catalog.ObjectID
	}{{0, 100, []catalog.ObjectID{1, 2, 3, 4, 5}}, {0, 2, []catalog.ObjectID{1, 2}}, {2, 2, []catalog.ObjectID{3, 4}}, {5, 9, []catalog.ObjectID{}}} {
		got, err := s.c.FoldedObjects(s.ctx(), tt.after, tt.limit)
		s.ok(err)
		require.Equal(s, tt.want, ids(got))
	}
	got, err := s.c.ObjectsByID(s.ctx(), nil)
	s.ok(err)
	require.Empty(s, got)
}

func testRetired(s *suite) {
	epoch := s.register()
	retire := func(keys ...string) {
		s.Helper()
		var e catalog.Edit
		for _, k := range keys {
			s.objects++
			e.Objects = append(e.Objects, catalog.Object{ID: s.objects, Key: k, Size: 1})
		}
		s.ok(s.c.Edit(s.ctx(), epoch, e))
	}
	list := func(grace time.Duration, limit int) (batches []catalog.Retired, keys [][]string) {
		s.Helper()
		batches, err := s.c.ListRetired(s.ctx(), grace, limit)
		s.ok(err)
		for _, b := range batches {
			slices.Sort(b.Keys)
			keys = append(keys, b.Keys)
		}
		return batches, keys
	}
	retire("a", "b")
	first := s.clock.Now()
	s.clock.Advance(time.Minute)
	retire("c")
	s.clock.Advance(time.Minute)
	retire("d")

	batches, keys := list(0, 10)
	require.Equal(s, [][]string{{"a", "b"}, {"c"}, {"d"}}, keys, "oldest first")
	require.True(s, first.Equal(batches[0].At))
	_, keys = list(0, 2)
	require.Equal(s, [][]string{{"a", "b"}, {"c"}}, keys)
	_, keys = list(time.Minute, 10)
	require.Equal(s, [][]string{{"a", "b"}, {"c"}}, keys)
	_, keys = list(time.Minute+time.Second, 10)
	require.Equal(s, [][]string{{"a", "b"}}, keys)
	_, keys = list(2*time.Minute+time.Second, 10)
	require.Empty(s, keys)
	s.clock.Advance(time.Second)
	_, keys = list(2*time.Minute+time.Second, 10)
	require.Equal(s, [][]string{{"a", "b"}}, keys, "the grace runs by the catalog's clock")

	s.ok(s.c.ForgetRetired(s.ctx(), []int64{batches[0].ID, 12345, batches[2].ID}))
	_, keys = list(0, 10)
	require.Equal(s, [][]string{{"c"}}, keys)
	s.ok(s.c.ForgetRetired(s.ctx(), []int64{batches[0].ID}), "unknown ids are ignored")
	s.ok(s.c.ForgetRetired(s.ctx(), nil))
	retire("e")
	batches, _ = list(0, 10)
	require.Len(s, batches, 2)
	require.Greater(s, batches[1].ID, batches[0].ID)
	known, err := s.c.KnownObjects(s.ctx(), []string{"a", "c", "e"})
	s.ok(err)
	require.False(s, known["a"], "forgotten")
	require.True(s, known["c"])
}

func testKnownObjects(s *suite) {
	tp := s.topic(1)[0]
	epoch := s.register()
	folded := s.seed(epoch, tp)
	rows := s.commit(epoch, 2, 3)
	merged := s.entry(epoch, 2)
	merged.Last = 3
	s.ok(s.c.MergeTail(s.ctx(), epoch, catalog.TailMerge{Entry: merged, Replaces: []catalog.ObjectID{rows[0].Object, rows[1].Object}}))
	asked := []string{folded.Key, rows[0].Key, rows[1].Key, rows[2].Key, merged.Key, "nobody's", "", folded.Key}
	known, err := s.c.KnownObjects(s.ctx(), asked)
	s.ok(err)
	for _, key := range []string{folded.Key, rows[0].Key, rows[1].Key, rows[2].Key, merged.Key} {
		require.True(s, known[key], key)
	}
	require.False(s, known["nobody's"])
	require.False(s, known[""])
	known, err = s.c.KnownObjects(s.ctx(), nil)
	s.ok(err)
	require.Empty(s, known)
}
