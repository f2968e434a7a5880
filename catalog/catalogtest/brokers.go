package catalogtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testRegisterBroker(s *suite) {
	reg := catalog.Registration{
		ID: 7, Incarnation: [16]byte{5}, Rack: "r1", TTL: 9 * time.Second,
		Listeners: []catalog.Listener{{Name: "PLAINTEXT", Host: "h", Port: 9092}, {Name: "x", Host: "::1", Port: 1}},
	}
	b, err := s.c.RegisterBroker(s.ctx(), reg)
	s.ok(err)
	require.Positive(s, b.Epoch)
	require.Equal(s, reg, b.Registration)
	require.False(s, b.Fenced)
	require.Zero(s, b.LastSequence)
	require.True(s, s.clock.Now().Equal(b.RegisteredAt))

	again, err := s.c.RegisterBroker(s.ctx(), reg)
	s.ok(err)
	require.Equal(s, b.Epoch, again.Epoch, "a repeat after a lost answer")

	other := reg
	other.Incarnation = [16]byte{6}
	b2, err := s.c.RegisterBroker(s.ctx(), other)
	s.ok(err)
	require.Greater(s, b2.Epoch, b.Epoch)
	_, err = s.c.Heartbeat(s.ctx(), b.Epoch)
	s.ok(err, "a registration does not fence earlier epochs of its id")

	s.fence(b.Epoch)
	b3, err := s.c.RegisterBroker(s.ctx(), reg)
	s.ok(err)
	require.Greater(s, b3.Epoch, b2.Epoch, "the incarnation's epoch was fenced")
}

func testHeartbeat(s *suite) {
	epoch := s.register()
	s.clock.Advance(3 * time.Second)
	h, err := s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	require.True(s, s.clock.Now().Equal(h.Now))
	brokers, err := s.c.ListBrokers(s.ctx())
	s.ok(err)
	require.True(s, s.clock.Now().Equal(brokers[0].LastHeartbeat))
	before := h
	s.topic(1)
	h, err = s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	require.Greater(s, h.TopicsVersion, before.TopicsVersion)
	require.Greater(s, h.LeasesVersion, before.LeasesVersion)
	_, err = s.c.Heartbeat(s.ctx(), epoch+1)
	s.is(err, catalog.ErrFenced)
	s.fence(epoch)
	_, err = s.c.Heartbeat(s.ctx(), epoch)
	s.is(err, catalog.ErrFenced)
}

func testFenceBroker(s *suite) {
	epoch := s.register()
	tps := s.topic(2)
	_, err := s.c.AcquireLeases(s.ctx(), epoch, tps)
	s.ok(err)
	want := s.commit(epoch, 1, 3)
	set, err := s.c.LeaseSet(s.ctx(), 0)
	s.ok(err)

	s.fence(epoch)
	equalEntries(s, want, s.tail(epoch))
	require.Equal(s, catalog.BrokerTail{Epoch: epoch, Last: 3}, s.brokerTail(epoch))
	for _, l := range s.leases() {
		require.Zero(s, l.Holder)
		require.Zero(s, l.Epoch, "the epoch grows when the lease is taken, not when it is lost")
	}
	after, err := s.c.LeaseSet(s.ctx(), set.Version)
	s.ok(err)
	require.Greater(s, after.Version, set.Version)

	for _, why := range []catalog.FenceReason{catalog.FenceExpired, catalog.FenceProvenDead, catalog.FenceResigned} {
		s.ok(s.c.FenceBroker(s.ctx(), epoch, why), "fencing twice")
	}
	s.is(s.c.FenceBroker(s.ctx(), epoch+1, catalog.FenceProvenDead), catalog.ErrUnknownBroker)
	s.is(s.c.FenceBroker(s.ctx(), 0, catalog.FenceProvenDead), catalog.ErrUnknownBroker)

	idle := s.register()
	s.fence(idle)
	s.ok(s.c.FenceBroker(s.ctx(), idle, catalog.FenceResigned), "fencing twice, nothing was committed")
}

func testFenceExpired(s *suite) {
	epoch := s.register()
	s.is(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	s.clock.Advance(9 * time.Second)
	_, err := s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	s.clock.Advance(9 * time.Second)
	s.is(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	s.commit(epoch, 1, 1)
	s.clock.Advance(time.Second)
	s.ok(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired))
	_, err = s.c.Heartbeat(s.ctx(), epoch)
	s.is(err, catalog.ErrFenced)
}

// testFencedRefused: every statement that names a broker epoch is refused after the fence, and changes nothing.
func testFencedRefused(s *suite) {
	tps := s.topic(1)
	epoch := s.register()
	_, err := s.c.AcquireLeases(s.ctx(), epoch, tps)
	s.ok(err)
	s.seed(epoch, tps[0])
	rows := s.commit(epoch, 2, 2)
	s.fence(epoch)
	for _, dead := range []catalog.BrokerEpoch{epoch, epoch + 1, 0} { // fenced, unknown
		_, err = s.c.Commit(s.ctx(), dead, []catalog.TailEntry{s.entry(dead, 4)})
		s.is(err, catalog.ErrFenced)
		_, err = s.c.AcquireLeases(s.ctx(), dead, tps)
		s.is(err, catalog.ErrFenced)
		_, err = s.c.AcquireLeases(s.ctx(), dead, nil)
		s.is(err, catalog.ErrFenced)
		s.is(s.c.ReleaseLeases(s.ctx(), dead, tps), catalog.ErrFenced)
		merged := s.entry(epoch, 2)
		merged.Last = 3
		s.is(s.c.MergeTail(s.ctx(), dead, catalog.TailMerge{
			Replaces: []catalog.ObjectID{rows[0].Object, rows[1].Object}, Entry: merged,
		}), catalog.ErrFenced)
		s.is(s.c.Fold(s.ctx(), dead, foldOf(rows, 1)), catalog.ErrFenced)
		s.is(s.c.Edit(s.ctx(), dead, catalog.Edit{Replaces: []catalog.RowRef{ref(s.rows(tps[0])[0])}}), catalog.ErrFenced)
		_, err = s.c.SetLogStart(s.ctx(), dead, tps[0], 50)
		s.is(err, catalog.ErrFenced)
	}
	equalEntries(s, rows, s.tail(epoch))
	require.Len(s, s.rows(tps[0]), 1)
	require.Zero(s, s.load(tps[0]).LogStart)
	require.Empty(s, s.retiredKeys())
}

func testListBrokers(s *suite) {
	a, b, c := s.register(), s.register(), s.register()
	list := func() (epochs []catalog.BrokerEpoch) {
		brokers, err := s.c.ListBrokers(s.ctx())
		s.ok(err)
		for _, x := range brokers {
			epochs = append(epochs, x.Epoch)
			require.Equal(s, s.brokerTail(x.Epoch).Last, x.LastSequence)
		}
		return epochs
	}
	require.Equal(s, []catalog.BrokerEpoch{a, b, c}, list())
	rows := s.commit(b, 1, 2)
	s.fence(b)
	require.Equal(s, []catalog.BrokerEpoch{a, b, c}, list(), "its tail is not folded")
	s.ok(s.c.Fold(s.ctx(), a, foldOf(rows, 1)))
	for _, bt := range list() {
		if bt == b {
			require.Equal(s, catalog.BrokerTail{Epoch: b, Folded: 2, Last: 2}, s.brokerTail(b))
		}
	}
	_, err := s.c.Commit(s.ctx(), b, []catalog.TailEntry{s.entry(b, 3)})
	s.is(err, catalog.ErrFenced)
	s.ok(s.c.FenceBroker(s.ctx(), b, catalog.FenceResigned), "fenced and folded")
}

func testAcquireLeases(s *suite) {
	tps := s.topic(4)
	a, b := s.register(), s.register()
	got, err := s.c.AcquireLeases(s.ctx(), a, tps[:2])
	s.ok(err)
	require.ElementsMatch(s, []catalog.Lease{{TopicPartition: tps[0], Holder: a}, {TopicPartition: tps[1], Holder: a}}, got)

	// Taken ones and unknown ones are left out, held ones stay as they are.
	asked := append([]catalog.TopicPartition{{Topic: catalog.TopicID{99}}, {Topic: tps[0].Topic, Partition: 4}, {Topic: tps[0].Topic, Partition: -1}}, tps...)
	got, err = s.c.AcquireLeases(s.ctx(), b, asked)
	s.ok(err)
	require.ElementsMatch(s, []catalog.Lease{{TopicPartition: tps[2], Holder: b}, {TopicPartition: tps[3], Holder: b}}, got)
	got, err = s.c.AcquireLeases(s.ctx(), a, tps[:1])
	s.ok(err)
	require.Equal(s, []catalog.Lease{{TopicPartition: tps[0], Holder: a}}, got, "unchanged")

	// As before adopting what was seen: nothing changes when all of it is held, and nothing is taken from anybody.
	before, err := s.c.LeaseSet(s.ctx(), 0)
	s.ok(err)
	for range 2 {
		got, err = s.c.AcquireLeases(s.ctx(), a, []catalog.TopicPartition{tps[1], tps[0], tps[1]})
		s.ok(err)
		require.ElementsMatch(s, []catalog.Lease{{TopicPartition: tps[0], Holder: a}, {TopicPartition: tps[1], Holder: a}}, got, "each once")
		got, err = s.c.AcquireLeases(s.ctx(), a, []catalog.TopicPartition{tps[2], tps[0]})
		s.ok(err)
		require.Equal(s, []catalog.Lease{{TopicPartition: tps[0], Holder: a}}, got)
	}
	after, err := s.c.LeaseSet(s.ctx(), 0)
	s.ok(err)
	require.Equal(s, before, after)
	free := s.topic(1)
	got, err = s.c.AcquireLeases(s.ctx(), a, append(free, tps...))
	s.ok(err)
	require.ElementsMatch(s, []catalog.Lease{{TopicPartition: free[0], Holder: a}, {TopicPartition: tps[0], Holder: a}, {TopicPartition: tps[1], Holder: a}}, got)
	require.Equal(s, b, s.leases()[tps[2]].Holder)

	s.fence(a)
	got, err = s.c.AcquireLeases(s.ctx(), b, nil)
	s.ok(err)
	held := make(map[catalog.TopicPartition]catalog.Lease)
	for _, l := range got {
		held[l.TopicPartition] = l
	}
	for _, tp := range tps[:2] {
		require.Equal(s, catalog.Lease{TopicPartition: tp, Holder: b, Epoch: 1}, held[tp])
	}
	got, err = s.c.AcquireLeases(s.ctx(), b, []catalog.TopicPartition{})
	s.ok(err)
	require.Empty(s, got, "none asked for")
	for _, asked := range [][]catalog.TopicPartition{nil, {}, tps[:1]} {
		_, err = s.c.AcquireLeases(s.ctx(), a, asked)
		s.is(err, catalog.ErrFenced)
	}
	for _, l := range s.leases() {
		require.Equal(s, b, l.Holder)
	}
}

func testReleaseLeases(s *suite) {
	tps := s.topic(3)
	a, b := s.register(), s.register()
	_, err := s.c.AcquireLeases(s.ctx(), a, tps)
	s.ok(err)
	s.ok(s.c.ReleaseLeases(s.ctx(), b, tps), "not held: ignored")
	require.Equal(s, a, s.leases()[tps[0]].Holder)
	s.ok(s.c.ReleaseLeases(s.ctx(), a, tps[:2]))
	s.ok(s.c.ReleaseLeases(s.ctx(), a, tps[:2]), "a repeat")
	s.ok(s.c.ReleaseLeases(s.ctx(), a, []catalog.TopicPartition{{Topic: catalog.TopicID{99}}}))
	require.Zero(s, s.leases()[tps[0]].Holder)
	require.Equal(s, a, s.leases()[tps[2]].Holder)
	got, err := s.c.AcquireLeases(s.ctx(), b, tps)
	s.ok(err)
	require.ElementsMatch(s, []catalog.Lease{{TopicPartition: tps[0], Holder: b, Epoch: 1}, {TopicPartition: tps[1], Holder: b, Epoch: 1}}, got)
}

func testLeaseSetVersions(s *suite) {
	version := int64(0)
	changed := func(what string) {
		s.Helper()
		set, err := s.c.LeaseSet(s.ctx(), version)
		s.ok(err)
		require.Greater(s, set.Version, version, what)
		version = set.Version
		same, err := s.c.LeaseSet(s.ctx(), version)
		s.ok(err)
		require.Equal(s, version, same.Version)
		require.Empty(s, same.Leases)
	}
	tps := s.topic(2)
	changed("created")
	epoch := s.register()
	_, err := s.c.AcquireLeases(s.ctx(), epoch, nil)
	s.ok(err)
	changed("acquired")
	_, err = s.c.AcquireLeases(s.ctx(), epoch, nil)
	s.ok(err)
	same, err := s.c.LeaseSet(s.ctx(), version)
	s.ok(err)
	require.Equal(s, version, same.Version, "nothing was acquired")
	s.ok(s.c.ReleaseLeases(s.ctx(), epoch, tps[:1]))
	changed("released")
	_, err = s.c.AddPartitions(s.ctx(), tps[0].Topic, 3)
	s.ok(err)
	changed("grown")
	s.fence(epoch)
	changed("fenced")
	s.ok(s.c.DeleteTopic(s.ctx(), tps[0].Topic))
	changed("deleted")
}

func testLeasesOfDeletedTopics(s *suite) {
	gone, stays := s.topic(2), s.topic(1)
	epoch := s.register()
	_, err := s.c.AcquireLeases(s.ctx(), epoch, gone)
	s.ok(err)
	s.ok(s.c.DeleteTopic(s.ctx(), gone[0].Topic))
	require.Len(s, s.leases(), 1)
	got, err := s.c.AcquireLeases(s.ctx(), epoch, append(gone, stays...))
	s.ok(err)
	require.Equal(s, []catalog.Lease{{TopicPartition: stays[0], Holder: epoch}}, got)
	s.ok(s.c.ReleaseLeases(s.ctx(), epoch, gone))
}
