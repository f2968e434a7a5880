package catalogtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// coordinator is a broker that holds the lease of one shard, and the number of its last write.
type coordinator struct {
	s      *suite
	shard  int32
	holder catalog.BrokerEpoch
	lease  catalog.LeaseEpoch
	number int64
}

// shards makes the topic whose partitions are the shards.
func (s *suite) shards(n int32) {
	s.Helper()
	_, err := s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.GroupsTopic, Name: "__consumer_offsets", Partitions: n})
	s.ok(err)
}

func shardLease(shard int32) []catalog.TopicPartition {
	return []catalog.TopicPartition{{Topic: catalog.GroupsTopic, Partition: shard}}
}

// held is the lease of the shard as the coordinator got it.
func (co *coordinator) held() []catalog.HeldLease {
	return []catalog.HeldLease{{TopicPartition: shardLease(co.shard)[0], Epoch: co.lease}}
}

// coordinate gives a broker the free lease of a shard.
func (s *suite) coordinate(holder catalog.BrokerEpoch, shard int32) *coordinator {
	s.Helper()
	leases, err := s.c.AcquireLeases(s.ctx(), holder, shardLease(shard))
	s.ok(err)
	require.Len(s, leases, 1)
	return &coordinator{s: s, shard: shard, holder: holder, lease: leases[0].Epoch}
}

// next is the write that is due.
func (co *coordinator) next(changes ...catalog.GroupChange) catalog.GroupWrite {
	return catalog.GroupWrite{Shard: co.shard, Holder: co.holder, Lease: co.lease, Number: co.number + 1, Changes: changes}
}

func (co *coordinator) try(changes ...catalog.GroupChange) error {
	_, err := co.s.c.WriteGroups(co.s.ctx(), co.next(changes...))
	if err == nil {
		co.number++
	}
	return err
}

func (co *coordinator) write(changes ...catalog.GroupChange) {
	co.s.Helper()
	co.s.ok(co.try(changes...))
}

// put makes a group's row.
func (co *coordinator) put(ids ...string) {
	co.s.Helper()
	var changes []catalog.GroupChange
	for _, id := range ids {
		changes = append(changes, catalog.GroupChange{ID: id, Group: groupRow(co.shard, id)})
	}
	co.write(changes...)
}

func groupRow(shard int32, id string) *catalog.Group {
	return &catalog.Group{
		ID: id, Shard: shard, Kind: catalog.GroupClassic, ProtocolType: "consumer", Protocol: "range", Phase: "Stable", Epoch: 7, Leader: "m1",
		State: []byte(`{"b": [1,  2], "a": "é", "a": 1e400}`), ChangedAt: time.Date(2031, 1, 2, 3, 4, 5, 678_901_000, time.UTC),
	}
}

func groupMember(id string) catalog.GroupMember {
	return catalog.GroupMember{
		ID: id, InstanceID: "instance of " + id, ClientID: "c", ClientHost: "/10.0.0.1", State: []byte(fmt.Sprintf(`{ "of": %q }`, id)),
	}
}

func groupOffset(topic string, partition int32, offset int64) catalog.GroupOffset {
	return catalog.GroupOffset{
		Topic: topic, Partition: partition, TopicID: catalog.TopicID{9, 8, 7}, Offset: offset, LeaderEpoch: 3, Metadata: "mêta",
		CommittedAt: time.Date(2031, 1, 2, 3, 4, 5, 1000, time.UTC),
	}
}

func (s *suite) group(id string) catalog.GroupRecord {
	s.Helper()
	g, err := s.c.ReadGroup(s.ctx(), id)
	s.ok(err)
	return g
}

func (s *suite) noGroup(id string, args ...any) {
	s.Helper()
	_, err := s.c.ReadGroup(s.ctx(), id)
	s.is(err, catalog.ErrNotFound, args...)
}

func (s *suite) groupsOf(shard int32) []catalog.GroupRecord {
	s.Helper()
	groups, err := s.c.ReadGroups(s.ctx(), shard, "", 1_000_000)
	s.ok(err)
	return groups
}

// equalGroups compares groups field by field; nil and empty are alike.
func (s *suite) equalGroups(want, got catalog.GroupRecord, args ...any) {
	s.Helper()
	require.Equal(s, text(want), text(got), args...)
	require.Equal(s, want.State, got.State, args...)
}

func groupIDs(groups []catalog.GroupRecord) []string {
	ids := []string{}
	for i := range groups {
		ids = append(ids, groups[i].ID)
	}
	return ids
}

// testWriteGroups: what is put is there, byte for byte, and what is not named stays.
func testWriteGroups(s *suite) {
	s.shards(2)
	co := s.coordinate(s.register(), 1)
	want := catalog.GroupRecord{
		Group:   *groupRow(1, "g"),
		Members: []catalog.GroupMember{groupMember("B"), groupMember("a"), groupMember("é")},
		Offsets: []catalog.GroupOffset{groupOffset("T", 1, 5), groupOffset("t", 2, 6), groupOffset("t", 10, 1<<63-1)},
	}
	want.Offsets[1].ExpiresAt = time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC)
	want.Offsets[2].TopicID, want.Offsets[2].LeaderEpoch, want.Offsets[2].Metadata = catalog.TopicID{}, -1, ""
	at, err := s.c.WriteGroups(s.ctx(), co.next(catalog.GroupChange{
		ID: "g", Group: groupRow(1, "g"), Members: []catalog.GroupMember{want.Members[2], want.Members[0], want.Members[1]},
		Offsets: []catalog.GroupOffset{want.Offsets[2], want.Offsets[0], want.Offsets[1]},
	}))
	s.ok(err)
	co.number++
	require.True(s, s.clock.Now().Equal(at))
	s.equalGroups(want, s.group("g"))
	require.Equal(s, want.Members[0].State, s.group("g").Members[0].State)
	require.Equal(s, time.UTC, s.group("g").ChangedAt.Location())

	step := func(what string, ch catalog.GroupChange) {
		s.Helper()
		ch.ID = "g"
		co.write(ch)
		s.equalGroups(want, s.group("g"), what)
	}
	step("nothing", catalog.GroupChange{})
	want.Group = catalog.Group{
		ID: "g", Shard: 1, Kind: catalog.GroupConsumer, Phase: "Empty", State: []byte("[]"), ChangedAt: time.Date(2031, 2, 1, 0, 0, 0, 0, time.UTC),
	}
	row := want.Group
	row.ChangedAt = row.ChangedAt.Add(999 * time.Nanosecond).In(time.FixedZone("elsewhere", 3600)) // kept to the microsecond
	step("the row", catalog.GroupChange{Group: &row})
	changed := catalog.GroupMember{ID: "a", State: []byte("null")}
	want.Members = []catalog.GroupMember{want.Members[0], changed, groupMember("z")}
	step("members", catalog.GroupChange{MembersGone: []string{"é", "unknown"}, Members: []catalog.GroupMember{changed, groupMember("z")}})
	moved := groupOffset("t", 2, 0) // back, and no expiry any more
	want.Offsets = []catalog.GroupOffset{want.Offsets[0], moved}
	step("offsets", catalog.GroupChange{
		OffsetsGone: []catalog.GroupPartition{{Topic: "t", Partition: 10}, {Topic: "t", Partition: 1}, {Topic: "none"}}, Offsets: []catalog.GroupOffset{moved},
	})
	want.Members = []catalog.GroupMember{groupMember("n"), groupMember("z")}
	step("all members but", catalog.GroupChange{AllMembersGone: true, MembersGone: []string{"a"}, Members: slices.Clone(want.Members)})
	want.Members = nil
	step("all members", catalog.GroupChange{AllMembersGone: true})

	co.write(catalog.GroupChange{ID: "g", Delete: true}, catalog.GroupChange{ID: "nobody's", Delete: true})
	s.noGroup("g")
	co.put("g")
	s.equalGroups(catalog.GroupRecord{Group: *groupRow(1, "g")}, s.group("g"), "nothing of the old one is left")
	co.write(catalog.GroupChange{ID: "unknown", AllMembersGone: true, MembersGone: []string{"m"}, OffsetsGone: []catalog.GroupPartition{{Topic: "t"}}})
	s.noGroup("unknown")
}

// testGroupsNotRetained: what is passed in and out is the caller's.
func testGroupsNotRetained(s *suite) {
	s.shards(1)
	co := s.coordinate(s.register(), 0)
	ch := catalog.GroupChange{
		ID: "g", Group: groupRow(0, "g"), Members: []catalog.GroupMember{groupMember("m")}, Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)},
	}
	co.write(ch)
	want := text(s.group("g"))
	spoil := func(row *catalog.Group, members []catalog.GroupMember, offsets []catalog.GroupOffset) {
		clear(row.State)
		row.Phase = "spoilt"
		clear(members[0].State)
		members[0], offsets[0] = catalog.GroupMember{}, catalog.GroupOffset{}
	}
	spoil(ch.Group, ch.Members, ch.Offsets)
	got := s.group("g")
	require.Equal(s, want, text(got))
	spoil(&got.Group, got.Members, got.Offsets)
	listed := s.groupsOf(0)
	require.Equal(s, want, text(listed[0]))
	spoil(&listed[0].Group, listed[0].Members, listed[0].Offsets)
	require.Equal(s, want, text(s.group("g")))
}

// testReadGroups: pages by id in byte order, of one shard or all.
func testReadGroups(s *suite) {
	s.shards(3)
	broker := s.register()
	zero, two := s.coordinate(broker, 0), s.coordinate(broker, 2)
	zero.put("a", "é", "Z", "a b", "_", "10")
	two.put("b", "B", "2")
	zero.write(catalog.GroupChange{ID: "a", Members: []catalog.GroupMember{groupMember("m")}, Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}})
	for _, tt := range []struct {
		shard int32
		after string
		limit int
		want  []string
	}{
		{0, "", 100, []string{"10", "Z", "_", "a", "a b", "é"}},
		{0, "", 2, []string{"10", "Z"}},
		{0, "Z", 2, []string{"_", "a"}},
		{0, "a ", 100, []string{"a b", "é"}},
		{0, "é", 100, []string{}},
		{1, "", 100, []string{}},
		{2, "", 100, []string{"2", "B", "b"}},
		{99, "", 100, []string{}},
		{-1, "", 100, []string{"10", "2", "B", "Z", "_", "a", "a b", "b", "é"}},
		{-7, "2", 3, []string{"B", "Z", "_"}},
		{0, "", 0, []string{}},
		{0, "", -1, []string{}},
		{-1, "", 1<<63 - 1, []string{"10", "2", "B", "Z", "_", "a", "a b", "b", "é"}},
	} {
		got, err := s.c.ReadGroups(s.ctx(), tt.shard, tt.after, tt.limit)
		s.ok(err)
		require.Equal(s, tt.want, groupIDs(got), "shard %d after %q, at most %d", tt.shard, tt.after, tt.limit)
		for _, g := range got {
			s.equalGroups(s.group(g.ID), g)
		}
	}
	require.Len(s, s.group("a").Members, 1)
	for _, id := range []string{"", "A", "nobody's", "\xff", "a\x00", strings.Repeat("x", 100_000)} {
		s.noGroup(id)
	}
	for _, after := range []string{"\xff", "a\x00", strings.Repeat("x", catalog.MaxGroupID+1)} {
		_, err := s.c.ReadGroups(s.ctx(), 0, after, 1)
		s.is(err, catalog.ErrInvalid)
	}
}

// testGroupNumbers: writes under one lease are applied once each, in order, however often they come and how late.
func testGroupNumbers(s *suite) {
	s.shards(2)
	broker := s.register()
	co, other := s.coordinate(broker, 0), s.coordinate(broker, 1)
	numbered := func(n int64, changes ...catalog.GroupChange) error {
		w := co.next(changes...)
		w.Number = n
		at, err := s.c.WriteGroups(s.ctx(), w)
		if err == nil {
			require.True(s, s.clock.Now().Equal(at))
		}
		return err
	}
	committed := func(offset int64) catalog.GroupChange {
		return catalog.GroupChange{ID: "g", Group: groupRow(0, "g"), Offsets: []catalog.GroupOffset{groupOffset("t", 0, offset)}}
	}
	holds := func(offset int64) {
		s.Helper()
		require.Equal(s, offset, s.group("g").Offsets[0].Offset)
	}
	for _, n := range []int64{2, 3, 1 << 62} {
		s.is(numbered(n, committed(n)), catalog.ErrSequence, "the first is 1")
	}
	s.noGroup("g")
	s.ok(numbered(1, committed(10)))
	s.clock.Advance(time.Second)
	s.ok(numbered(1, committed(10)), "a repeat")
	s.ok(numbered(1, committed(99), catalog.GroupChange{ID: "new", Group: groupRow(0, "new")}), "a repeat is not looked at")
	s.noGroup("new")
	holds(10)
	s.ok(numbered(2, committed(20)))
	s.is(numbered(1, committed(10)), catalog.ErrSequence, "a delayed one")
	s.is(numbered(4, committed(40)), catalog.ErrSequence, "a gap")
	holds(20)
	s.ok(numbered(3), "nothing but a number")
	s.is(numbered(2, committed(20)), catalog.ErrSequence)
	s.is(numbered(4, catalog.GroupChange{ID: "no row", Members: []catalog.GroupMember{groupMember("m")}}), catalog.ErrInvalid)
	s.ok(numbered(3, committed(30)), "a refused write takes no number")
	holds(20)
	s.ok(numbered(4, committed(40)))
	other.put("of shard 1") // which has numbers of its own
	holds(40)

	s.ok(s.c.ReleaseLeases(s.ctx(), broker, shardLease(0)))
	old := *co
	*co = *s.coordinate(broker, 0)
	require.Greater(s, co.lease, old.lease)
	for _, n := range []int64{4, 5, 2} {
		s.is(numbered(n, committed(50)), catalog.ErrSequence, "a new lease begins at 1")
	}
	s.ok(numbered(1, committed(60)))
	s.ok(numbered(1, committed(61)))
	s.ok(numbered(2, committed(70)))
	co.lease = old.lease
	for _, n := range []int64{1, 4, 5} {
		s.is(numbered(n, committed(80)), catalog.ErrFenced, "of the old lease, also the last that was applied")
	}
	holds(70)
}

// testGroupsFenced: only who holds the shard's lease writes.
func testGroupsFenced(s *suite) {
	s.shards(3)
	a, b := s.register(), s.register()
	tps := s.topic(1)
	_, err := s.c.AcquireLeases(s.ctx(), a, tps)
	s.ok(err)
	co := s.coordinate(a, 0)
	co.put("g")
	before := text(s.groupsOf(-1))
	refused := func(what string, spoil func(w *catalog.GroupWrite)) {
		s.Helper()
		for number := co.number; number <= co.number+1; number++ {
			w := co.next(catalog.GroupChange{ID: "g", Delete: true}, catalog.GroupChange{ID: "new", Group: groupRow(0, "new")})
			w.Number = number
			spoil(&w)
			_, err := s.c.WriteGroups(s.ctx(), w)
			s.is(err, catalog.ErrFenced, what)
			require.Equal(s, before, text(s.groupsOf(-1)), what)
		}
	}
	to := func(shard int32) func(w *catalog.GroupWrite) {
		return func(w *catalog.GroupWrite) {
			w.Shard = shard
			w.Changes = w.Changes[:1]
		}
	}
	refused("another broker", func(w *catalog.GroupWrite) { w.Holder = b })
	refused("an unknown broker", func(w *catalog.GroupWrite) { w.Holder = 999 })
	refused("a later lease epoch", func(w *catalog.GroupWrite) { w.Lease++ })
	refused("a free shard", to(1))
	refused("a shard that does not exist", to(3))
	s.ok(s.c.ReleaseLeases(s.ctx(), a, shardLease(0)))
	refused("released", func(*catalog.GroupWrite) {})
	taken := s.coordinate(b, 0)
	refused("taken by another", func(*catalog.GroupWrite) {})
	s.fence(b)
	*co = *taken
	co.number = 1
	refused("fenced", func(*catalog.GroupWrite) {})
	c := s.register()
	*co = *s.coordinate(c, 0)
	co.put("g")
	before = text(s.groupsOf(-1))
	s.ok(s.c.DeleteTopic(s.ctx(), catalog.GroupsTopic))
	refused("the topic was deleted", func(*catalog.GroupWrite) {})
}

// testGroupsAtomic: one change that cannot be is the end of all.
func testGroupsAtomic(s *suite) {
	s.shards(2)
	broker := s.register()
	co, other := s.coordinate(broker, 0), s.coordinate(broker, 1)
	co.put("a", "b")
	co.write(catalog.GroupChange{ID: "a", Members: []catalog.GroupMember{groupMember("m")}, Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}})
	other.put("theirs")
	other.write(catalog.GroupChange{ID: "theirs", Members: []catalog.GroupMember{groupMember("m")}, Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}})
	before := text(s.groupsOf(-1))
	for what, bad := range map[string]catalog.GroupChange{
		"member without a row":         {ID: "nobody's", Members: []catalog.GroupMember{groupMember("m")}},
		"offset without a row":         {ID: "nobody's", Offsets: []catalog.GroupOffset{groupOffset("t", 0, 2)}},
		"row of another shard's group": {ID: "theirs", Group: groupRow(0, "theirs")},
		"its member":                   {ID: "theirs", Members: []catalog.GroupMember{groupMember("m")}},
		"its offset":                   {ID: "theirs", Offsets: []catalog.GroupOffset{groupOffset("t", 0, 2)}},
	} {
		for _, first := range []bool{true, false} {
			changes := []catalog.GroupChange{
				{ID: "a", AllMembersGone: true, OffsetsGone: []catalog.GroupPartition{{Topic: "t"}}, Offsets: []catalog.GroupOffset{groupOffset("t", 1, 1)}},
				{ID: "b", Delete: true},
				{ID: "new", Group: groupRow(0, "new"), Members: []catalog.GroupMember{groupMember("m")}},
			}
			if first {
				changes = append([]catalog.GroupChange{bad}, changes...)
			} else {
				changes = append(changes, bad)
			}
			s.is(co.try(changes...), catalog.ErrInvalid, what)
			require.Equal(s, before, text(s.groupsOf(-1)), what)
		}
	}
	co.write(catalog.GroupChange{ID: "theirs", Delete: true})
	co.write(catalog.GroupChange{ID: "theirs", AllMembersGone: true, MembersGone: []string{"m"}, OffsetsGone: []catalog.GroupPartition{{Topic: "t"}}})
	require.Equal(s, before, text(s.groupsOf(-1)), "what is another shard's is left alone")
}

// testManyGroups: 10,000 groups of one shard beside another's, page by page.
func testManyGroups(s *suite) {
	const groups, each = 10_000, 1000
	s.shards(2)
	broker := s.register()
	co, other := s.coordinate(broker, 0), s.coordinate(broker, 1)
	other.put("group-00500x")
	var want []string
	for from := 0; from < groups; from += each {
		changes := make([]catalog.GroupChange, each)
		for i := range changes {
			id := fmt.Sprintf("group-%05d", from+i)
			want = append(want, id)
			changes[i] = catalog.GroupChange{ID: id, Group: groupRow(0, id), Offsets: []catalog.GroupOffset{groupOffset("t", int32(i), int64(from+i))}}
			if i%100 == 0 {
				changes[i].Members = []catalog.GroupMember{groupMember("m-" + id)}
			}
		}
		co.write(changes...)
	}
	after, n := "", 0
	for pages := 0; ; pages++ {
		page, err := s.c.ReadGroups(s.ctx(), 0, after, each)
		s.ok(err)
		if len(page) == 0 {
			require.Equal(s, groups/each, pages)
			break
		}
		for i := range page {
			g := &page[i]
			require.Equal(s, want[n], g.ID)
			require.Len(s, g.Offsets, 1)
			require.EqualValues(s, n, g.Offsets[0].Offset)
			require.Len(s, g.Members, max(0, 1-n%100))
			n++
		}
		after = page[len(page)-1].ID
	}
	require.Equal(s, groups, n)
	gone := make([]catalog.GroupChange, groups-1)
	for i := range gone {
		gone[i] = catalog.GroupChange{ID: want[i], Delete: true}
	}
	co.write(gone...)
	require.Equal(s, []string{"group-00500x", want[groups-1]}, groupIDs(s.groupsOf(-1)))
}

// testLargeGroups: one group of 1,000 members with 5,000 offsets.
func testLargeGroups(s *suite) {
	s.shards(1)
	co := s.coordinate(s.register(), 0)
	want := catalog.GroupRecord{Group: *groupRow(0, "g")}
	for i := range 1000 {
		m := groupMember(fmt.Sprintf("member-%04d", i))
		m.State = []byte(`{"assignment": "` + strings.Repeat("x", i) + `"}`)
		want.Members = append(want.Members, m)
	}
	for i := range 5000 {
		want.Offsets = append(want.Offsets, groupOffset(fmt.Sprintf("topic-%d", i/500), int32(i%500), int64(i)))
	}
	co.write(catalog.GroupChange{ID: "g", Group: groupRow(0, "g"), Members: want.Members, Offsets: want.Offsets})
	s.equalGroups(want, s.group("g"))

	ch := catalog.GroupChange{ID: "g", AllMembersGone: true}
	want.Members = slices.Delete(want.Members, 1, 3)
	for i := range want.Members { // the next generation: half of them new, all with another assignment
		m := &want.Members[i]
		if i%2 == 0 {
			m.ID += "-new"
		}
		m.State = []byte(fmt.Sprint(i))
	}
	ch.Members = want.Members
	for i := range want.Offsets {
		if i%4 == 0 {
			want.Offsets[i].Offset += 1_000_000
			ch.Offsets = append(ch.Offsets, want.Offsets[i])
		}
	}
	for _, o := range want.Offsets[3001:3003] {
		ch.OffsetsGone = append(ch.OffsetsGone, o.At())
	}
	want.Offsets = slices.Delete(want.Offsets, 3001, 3003)
	co.write(ch)
	s.equalGroups(want, s.group("g"))
	co.write(catalog.GroupChange{ID: "g", Delete: true})
	require.Empty(s, s.groupsOf(-1))
}
