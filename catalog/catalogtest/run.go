package catalogtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// Clock is a clock that moves when told to. Safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at some time in UTC.
func NewClock() *Clock { return &Clock{now: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)} }

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back too.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Run checks an implementation. open returns a new, empty catalog that reads the given clock; it is closed by the
// suite.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) catalog.Catalog) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"ClusterID", testClusterID},
		{"AllocateIDs", testAllocateIDs},
		{"AllocateIDsConcurrently", testAllocateIDsConcurrently},
		{"Invalid", testInvalid},
		{"Limits", testLimits},
		{"Close", testClose},
		{"ContextEnded", testContextEnded},
		{"ArgumentsAreNotRetained", testNotRetained},
		{"CreateTopic", testCreateTopic},
		{"CreateTopicCollisions", testCreateTopicCollisions},
		{"TopicSetVersions", testTopicSetVersions},
		{"DeleteTopic", testDeleteTopic},
		{"AddPartitions", testAddPartitions},
		{"SetTopicConfigs", testSetTopicConfigs},
		{"RegisterBroker", testRegisterBroker},
		{"Heartbeat", testHeartbeat},
		{"FenceBroker", testFenceBroker},
		{"FenceExpired", testFenceExpired},
		{"FencedEpochsAreRefused", testFencedRefused},
		{"ListBrokers", testListBrokers},
		{"AcquireLeases", testAcquireLeases},
		{"ReleaseLeases", testReleaseLeases},
		{"LeaseSetVersions", testLeaseSetVersions},
		{"LeasesOfDeletedTopics", testLeasesOfDeletedTopics},
		{"Commit", testCommit},
		{"CommitSeveral", testCommitSeveral},
		{"CommitRepeated", testCommitRepeated},
		{"CommitClock", testCommitClock},
		{"ClockSetBack", testClockSetBack},
		{"ReadTail", testReadTail},
		{"MergeTail", testMergeTail},
		{"MergeTailConflicts", testMergeTailConflicts},
		{"Fold", testFold},
		{"FoldConflicts", testFoldConflicts},
		{"FoldRefusedLeavesNothing", testFoldAtomic},
		{"FoldLogEnd", testFoldLogEnd},
		{"FoldedTwice", testFoldedTwice},
		{"FoldOfDeletedTopics", testFoldDeletedTopic},
		{"FoldOfAnotherEpoch", testFoldOther},
		{"LogStart", testLogStart},
		{"LoadPartitions", testLoadPartitions},
		{"PackedRows", testPackedRows},
		{"PackedSpans", testPackedSpans},
		{"Edit", testEdit},
		{"EditConflicts", testEditConflicts},
		{"EditOverlap", testEditOverlap},
		{"EditOfDeletedTopics", testEditDeletedTopic},
		{"RowVersions", testRowVersions},
		{"ReferencesReachZero", testReferences},
		{"PurgeTopic", testPurge},
		{"MergeCandidates", testMergeCandidates},
		{"SparseObjects", testSparseObjects},
		{"FoldedObjects", testFoldedObjects},
		{"Retired", testRetired},
		{"KnownObjects", testKnownObjects},
		{"OverlappedInEveryOrder", testEveryOrder},
		{"FenceAgainstCommits", testFenceRace},
		{"CommitsFromManyGoroutines", testConcurrentCommits},
		{"LeasesFromManyBrokers", testConcurrentLeases},
		{"WriteGroups", testWriteGroups},
		{"GroupsAreNotRetained", testGroupsNotRetained},
		{"ReadGroups", testReadGroups},
		{"GroupNumbers", testGroupNumbers},
		{"GroupsFenced", testGroupsFenced},
		{"GroupsAtomic", testGroupsAtomic},
		{"GroupsInvalid", testGroupsInvalid},
		{"ManyGroups", testManyGroups},
		{"LargeGroups", testLargeGroups},
		{"GroupsInEveryOrder", testGroupsEveryOrder},
		{"FenceAgainstGroups", testGroupsFenceRace},
		{"GroupWritesOverlap", testGroupWritesOverlap},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &suite{TB: t, clock: NewClock()}
			s.c = open(t, s.clock.Now)
			t.Cleanup(func() { require.NoError(t, s.c.Close()) })
			tt.run(s)
		})
	}
}

// suite is one test's catalog with what most tests do.
type suite struct {
	testing.TB

	c       catalog.Catalog
	clock   *Clock
	objects catalog.ObjectID
	brokers byte
	topics  byte
}

func (s *suite) ctx() context.Context { return s.Context() }

func (s *suite) ok(err error, args ...any) {
	s.Helper()
	require.NoError(s, err, args...)
}

func (s *suite) is(err, want error, args ...any) {
	s.Helper()
	require.ErrorIs(s, err, want, args...)
}

// register makes a new broker epoch.
func (s *suite) register() catalog.BrokerEpoch {
	s.Helper()
	s.brokers++
	b, err := s.c.RegisterBroker(s.ctx(), catalog.Registration{
		ID: catalog.BrokerID(s.brokers), Incarnation: [16]byte{1, s.brokers}, TTL: 10 * time.Second,
	})
	s.ok(err)
	return b.Epoch
}

func (s *suite) fence(epoch catalog.BrokerEpoch) {
	s.Helper()
	s.ok(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceProvenDead))
}

// topic makes a topic and returns its partitions.
func (s *suite) topic(partitions int32) []catalog.TopicPartition {
	s.Helper()
	s.topics++
	topic, err := s.c.CreateTopic(s.ctx(), catalog.TopicSpec{
		ID: catalog.TopicID{s.topics, 1}, Name: fmt.Sprintf("topic-%d", s.topics), Partitions: partitions,
	})
	s.ok(err)
	tps := make([]catalog.TopicPartition, partitions)
	for i := range tps {
		tps[i] = catalog.TopicPartition{Topic: topic.ID, Partition: int32(i)}
	}
	return tps
}

// entry makes a tail entry of a new object.
func (s *suite) entry(epoch catalog.BrokerEpoch, seq catalog.Sequence) catalog.TailEntry {
	s.objects++
	return entryOf(epoch, seq, s.objects)
}

func entryOf(epoch catalog.BrokerEpoch, seq catalog.Sequence, id catalog.ObjectID) catalog.TailEntry {
	return catalog.TailEntry{
		Epoch: epoch, First: seq, Last: seq, Object: id, Key: fmt.Sprintf("log/%d-%d-%d", epoch, seq, id),
		Size: 1000 + int64(id), Checksum: 0xfedc0000 + uint32(id), Index: []byte(fmt.Sprintf("index of %d", id)),
	}
}

// commit commits n new objects, one at a time, from sequence first on.
func (s *suite) commit(epoch catalog.BrokerEpoch, first catalog.Sequence, n int) []catalog.TailEntry {
	s.Helper()
	var out []catalog.TailEntry
	for i := range n {
		e := s.entry(epoch, first+catalog.Sequence(i))
		at, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{e})
		s.ok(err)
		e.CommittedAt = at
		out = append(out, e)
	}
	return out
}

func (s *suite) tail(epoch catalog.BrokerEpoch) []catalog.TailEntry {
	s.Helper()
	rows, err := s.c.ReadTail(s.ctx(), epoch, 0, 1_000_000)
	s.ok(err)
	return rows
}

func (s *suite) brokerTail(epoch catalog.BrokerEpoch) catalog.BrokerTail {
	s.Helper()
	tails, err := s.c.BrokerTails(s.ctx())
	s.ok(err)
	for _, bt := range tails {
		if bt.Epoch == epoch {
			bt.Merges = 0 // optional outside a fleet: testFleetMerges looks at it
			return bt
		}
	}
	return catalog.BrokerTail{}
}

// foldOf plans the fold of rows, whose objects get refs references each.
func foldOf(rows []catalog.TailEntry, refs int64) catalog.Fold {
	f := catalog.Fold{Tail: rows[0].Epoch, After: rows[0].First - 1, Through: rows[len(rows)-1].Last}
	for _, r := range rows {
		f.Objects = append(f.Objects, catalog.Object{
			ID: r.Object, Key: r.Key, Size: r.Size, Checksum: r.Checksum, Refs: refs, Live: refs * 10, CreatedAt: r.CommittedAt,
		})
	}
	return f
}

func packed(tp catalog.TopicPartition, base, end int64) catalog.PackedRow {
	return catalog.PackedRow{TopicPartition: tp, Base: base, End: end, Extents: []byte(fmt.Sprintf("extents %d-%d", base, end))}
}

func state(tp catalog.TopicPartition, start, end int64) catalog.PartitionState {
	return catalog.PartitionState{
		TopicPartition: tp, LogStart: start, LogEnd: end, LastStable: end, Bytes: (end - start) * 10,
		LeaderEpochs: []catalog.EpochStart{{Epoch: 0, Start: 0}, {Epoch: 3, Start: end / 2}}, Producers: []byte("producers"),
	}
}

// seed commits one object and folds it into one packed row of tp with offsets [0, 100).
func (s *suite) seed(epoch catalog.BrokerEpoch, tp catalog.TopicPartition) catalog.Object {
	s.Helper()
	bt := s.brokerTail(epoch)
	rows := s.commit(epoch, bt.Last+1, 1)
	f := foldOf(rows, 1)
	f.Rows = []catalog.PackedRow{packed(tp, 0, 100)}
	f.Partitions = []catalog.PartitionState{state(tp, 0, 100)}
	s.ok(s.c.Fold(s.ctx(), epoch, f))
	return f.Objects[0]
}

func (s *suite) load(tp catalog.TopicPartition) catalog.PartitionState {
	s.Helper()
	states, err := s.c.LoadPartitions(s.ctx(), []catalog.TopicPartition{tp})
	s.ok(err)
	require.Len(s, states, 1)
	return states[0]
}

func (s *suite) rows(tp catalog.TopicPartition) []catalog.PackedRow {
	s.Helper()
	rows, err := s.c.PackedRows(s.ctx(), tp, 0, 1_000_000)
	s.ok(err)
	return rows
}

func ref(r catalog.PackedRow) catalog.RowRef {
	return catalog.RowRef{TopicPartition: r.TopicPartition, Base: r.Base, Version: r.Version}
}

func (s *suite) retiredKeys() []string {
	s.Helper()
	batches, err := s.c.ListRetired(s.ctx(), 0, 1_000_000)
	s.ok(err)
	var keys []string
	for _, b := range batches {
		keys = append(keys, b.Keys...)
	}
	slices.Sort(keys)
	return keys
}

func (s *suite) leases() map[catalog.TopicPartition]catalog.Lease {
	s.Helper()
	set, err := s.c.LeaseSet(s.ctx(), 0)
	s.ok(err)
	out := make(map[catalog.TopicPartition]catalog.Lease, len(set.Leases))
	for _, l := range set.Leases {
		out[l.TopicPartition] = l
	}
	require.Len(s, out, len(set.Leases), "a partition has two leases")
	return out
}

func equalEntries(tb testing.TB, want, got []catalog.TailEntry) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for i := range want {
		require.True(tb, want[i].CommittedAt.Equal(got[i].CommittedAt), "committed at %s, want %s", got[i].CommittedAt, want[i].CommittedAt)
		w, g := want[i], got[i]
		w.CommittedAt, g.CommittedAt = time.Time{}, time.Time{}
		w.Merge, g.Merge = 0, 0 // optional outside a fleet
		require.Equal(tb, w, g)
	}
}
