package catalogtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testClusterID(s *suite) {
	id, err := s.c.ClusterID(s.ctx())
	s.ok(err)
	require.NotEmpty(s, id)
	again, err := s.c.ClusterID(s.ctx())
	s.ok(err)
	require.Equal(s, id, again)
	s.ok(s.c.Ping(s.ctx()))
}

func testAllocateIDs(s *suite) {
	for kind, want := range map[catalog.IDKind]int64{catalog.IDProducer: 0, catalog.IDObject: 1, catalog.IDBroker: 1001} {
		for _, n := range []int64{1, 1000, 1, 10_000} {
			first, err := s.c.AllocateIDs(s.ctx(), kind, n)
			s.ok(err)
			require.Equal(s, want, first, "%s ids", kind)
			want += n
		}
	}
}

func testAllocateIDsConcurrently(s *suite) {
	var mu sync.Mutex
	seen := make(map[int64]bool)
	var wg sync.WaitGroup
	errs := make(chan error, 1024)
	for range 8 {
		wg.Go(func() {
			for range 20 {
				first, err := s.c.AllocateIDs(s.ctx(), catalog.IDObject, 3)
				if err != nil {
					errs <- err
					return
				}
				mu.Lock()
				for i := range int64(3) {
					if seen[first+i] {
						errs <- fmt.Errorf("id %d was handed out twice", first+i)
					}
					seen[first+i] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(errs)
	s.ok(<-errs)
	require.Len(s, seen, 8*20*3)
}

func testClose(s *suite) {
	epoch := s.register()
	s.ok(s.c.Close())
	_, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{s.entry(epoch, 1)})
	s.is(err, catalog.ErrClosed)
	_, err = s.c.TopicSet(s.ctx(), 0)
	s.is(err, catalog.ErrClosed)
	_, err = s.c.ClusterID(s.ctx())
	s.is(err, catalog.ErrClosed)
	s.is(s.c.Ping(s.ctx()), catalog.ErrClosed)
}

func testContextEnded(s *suite) {
	epoch := s.register()
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	_, err := s.c.Commit(ctx, epoch, []catalog.TailEntry{s.entry(epoch, 1)})
	s.is(err, context.Canceled)
	_, err = s.c.ReadTail(ctx, epoch, 0, 1)
	s.is(err, context.Canceled)
	_, err = s.c.CreateTopic(ctx, catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "a", Partitions: 1})
	s.is(err, context.Canceled)
	require.Empty(s, s.tail(epoch))
	set, err := s.c.TopicSet(s.ctx(), 0)
	s.ok(err)
	require.Empty(s, set.Topics)
}

func testNotRetained(s *suite) {
	epoch := s.register()
	e := s.entry(epoch, 1)
	index := append([]byte(nil), e.Index...)
	_, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{e})
	s.ok(err)
	clear(e.Index)
	got := s.tail(epoch)
	require.Equal(s, index, got[0].Index)
	clear(got[0].Index)
	require.Equal(s, index, s.tail(epoch)[0].Index)

	reg := catalog.Registration{Incarnation: [16]byte{9}, Listeners: []catalog.Listener{{Name: "A", Host: "h", Port: 1}}}
	registered, err := s.c.RegisterBroker(s.ctx(), reg)
	s.ok(err)
	reg.Listeners[0].Name = "changed"
	registered.Listeners[0].Name = "changed too"
	registered, err = s.c.RegisterBroker(s.ctx(), reg)
	s.ok(err)
	require.Equal(s, "A", registered.Listeners[0].Name)
	registered.Listeners[0].Name = "changed again"
	brokers, err := s.c.ListBrokers(s.ctx())
	s.ok(err)
	require.Equal(s, "A", brokers[len(brokers)-1].Listeners[0].Name)

	configs := map[string]string{"a": "b"}
	topic, err := s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "a", Partitions: 1, Configs: configs})
	s.ok(err)
	configs["a"] = "changed"
	topic.Configs["a"] = "changed too"
	set, err := s.c.TopicSet(s.ctx(), 0)
	s.ok(err)
	require.Equal(s, "b", set.Topics[0].Configs["a"])
}

func testCreateTopic(s *suite) {
	spec := catalog.TopicSpec{
		ID: catalog.TopicID{9}, Name: "orders", Partitions: 3, ReplicationFactor: 2,
		Configs: map[string]string{"retention.ms": "1", "odd": "\"é\\,\n"},
	}
	topic, err := s.c.CreateTopic(s.ctx(), spec)
	s.ok(err)
	require.Equal(s, spec.ID, topic.ID)
	require.Equal(s, spec.Name, topic.Name)
	require.Equal(s, spec.Partitions, topic.Partitions)
	require.Equal(s, spec.ReplicationFactor, topic.ReplicationFactor)
	require.Equal(s, spec.Configs, topic.Configs)
	require.True(s, s.clock.Now().Equal(topic.CreatedAt))

	again, err := s.c.CreateTopic(s.ctx(), spec)
	s.ok(err, "a repeat after a lost answer")
	require.Equal(s, topic.Version, again.Version)
	set, err := s.c.TopicSet(s.ctx(), 0)
	s.ok(err)
	require.Len(s, set.Topics, 1)

	leases := s.leases()
	require.Len(s, leases, 3)
	for p := range int32(3) {
		tp := catalog.TopicPartition{Topic: spec.ID, Partition: p}
		require.Equal(s, catalog.Lease{TopicPartition: tp, Holder: 0, Epoch: -1}, leases[tp])
		st := s.load(tp)
		require.Zero(s, st.LogStart)
		require.Zero(s, st.LogEnd)
		require.Empty(s, st.Producers)
		require.Empty(s, st.LeaderEpochs)
	}
	_, err = s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.TopicID{10}, Name: "none", Partitions: 0})
	require.Error(s, err)
}

func testCreateTopicCollisions(s *suite) {
	create := func(id byte, name string) error {
		_, err := s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.TopicID{id}, Name: name, Partitions: 1})
		return err
	}
	s.ok(create(1, "a.b"))
	s.is(create(2, "a.b"), catalog.ErrTopicExists)
	s.is(create(2, "a_b"), catalog.ErrTopicCollision)
	s.ok(create(2, "a-b"))
	s.ok(s.c.DeleteTopic(s.ctx(), catalog.TopicID{1}))
	s.ok(create(3, "a_b"), "the name is free")
	s.is(create(4, "a.b"), catalog.ErrTopicCollision)
	require.Error(s, create(1, "a.c"), "an id is never used twice")
}

func testTopicSetVersions(s *suite) {
	version := int64(0)
	changed := func(what string) catalog.TopicSet {
		s.Helper()
		same, err := s.c.TopicSet(s.ctx(), version)
		s.ok(err)
		require.Greater(s, same.Version, version, what)
		version = same.Version
		unchanged, err := s.c.TopicSet(s.ctx(), version)
		s.ok(err)
		require.Equal(s, version, unchanged.Version)
		require.Empty(s, unchanged.Topics)
		return same
	}
	tps := s.topic(1)
	set := changed("created")
	require.Len(s, set.Topics, 1)
	before := set.Topics[0].Version
	topic, err := s.c.AddPartitions(s.ctx(), tps[0].Topic, 2)
	s.ok(err)
	require.Greater(s, topic.Version, before)
	require.Equal(s, topic.Version, changed("grown").Topics[0].Version)
	topic, err = s.c.SetTopicConfigs(s.ctx(), topic.ID, topic.Version, map[string]string{"x": "y"})
	s.ok(err)
	set = changed("configs")
	require.Equal(s, topic.Version, set.Topics[0].Version)
	require.Equal(s, map[string]string{"x": "y"}, set.Topics[0].Configs)
	_, err = s.c.CreateTopic(s.ctx(), catalog.TopicSpec{ID: catalog.TopicID{77}, Name: "a-first-one", Partitions: 1})
	s.ok(err)
	set = changed("created")
	require.Equal(s, "a-first-one", set.Topics[0].Name, "ordered by name")
	require.Equal(s, topic.Name, set.Topics[1].Name)
	s.ok(s.c.DeleteTopic(s.ctx(), topic.ID))
	require.Len(s, changed("deleted").Topics, 1)

	h, err := s.c.Heartbeat(s.ctx(), s.register())
	s.ok(err)
	require.Equal(s, version, h.TopicsVersion)
}

func testDeleteTopic(s *suite) {
	tps := s.topic(2)
	id := tps[0].Topic
	s.ok(s.c.DeleteTopic(s.ctx(), id))
	s.is(s.c.DeleteTopic(s.ctx(), id), catalog.ErrUnknownTopic)
	s.is(s.c.DeleteTopic(s.ctx(), catalog.TopicID{99}), catalog.ErrUnknownTopic)
	_, err := s.c.AddPartitions(s.ctx(), id, 3)
	s.is(err, catalog.ErrUnknownTopic)
	_, err = s.c.SetTopicConfigs(s.ctx(), id, 1, nil)
	s.is(err, catalog.ErrUnknownTopic)
	set, err := s.c.TopicSet(s.ctx(), 0)
	s.ok(err)
	require.Empty(s, set.Topics)
	ids, err := s.c.DeletedTopics(s.ctx())
	s.ok(err)
	require.Equal(s, []catalog.TopicID{id}, ids)
	states, err := s.c.LoadPartitions(s.ctx(), tps)
	s.ok(err)
	require.Empty(s, states)
	require.Empty(s, s.leases())
}

func testAddPartitions(s *suite) {
	tps := s.topic(2)
	epoch := s.register()
	_, err := s.c.AcquireLeases(s.ctx(), epoch, tps)
	s.ok(err)
	topic, err := s.c.AddPartitions(s.ctx(), tps[0].Topic, 5)
	s.ok(err)
	require.EqualValues(s, 5, topic.Partitions)
	again, err := s.c.AddPartitions(s.ctx(), tps[0].Topic, 5)
	s.ok(err, "a repeat")
	require.Equal(s, topic.Version, again.Version)
	_, err = s.c.AddPartitions(s.ctx(), tps[0].Topic, 4)
	s.is(err, catalog.ErrPartitionCount)
	_, err = s.c.AddPartitions(s.ctx(), catalog.TopicID{99}, 4)
	s.is(err, catalog.ErrUnknownTopic)
	leases := s.leases()
	require.Len(s, leases, 5)
	require.Equal(s, epoch, leases[tps[1]].Holder, "what was there stays")
	require.Equal(s, catalog.LeaseEpoch(-1), leases[catalog.TopicPartition{Topic: topic.ID, Partition: 4}].Epoch)
}

func testSetTopicConfigs(s *suite) {
	tps := s.topic(1)
	set, err := s.c.TopicSet(s.ctx(), 0)
	s.ok(err)
	old := set.Topics[0].Version
	topic, err := s.c.SetTopicConfigs(s.ctx(), tps[0].Topic, old, map[string]string{"a": "1", "b": "2"})
	s.ok(err)
	require.Equal(s, map[string]string{"a": "1", "b": "2"}, topic.Configs)
	_, err = s.c.SetTopicConfigs(s.ctx(), tps[0].Topic, old, map[string]string{"a": "3"})
	s.is(err, catalog.ErrVersionMismatch)
	topic, err = s.c.SetTopicConfigs(s.ctx(), tps[0].Topic, topic.Version, map[string]string{"c": "4"})
	s.ok(err)
	require.Equal(s, map[string]string{"c": "4"}, topic.Configs, "replaced, not merged")
	topic, err = s.c.SetTopicConfigs(s.ctx(), tps[0].Topic, topic.Version, nil)
	s.ok(err)
	require.Empty(s, topic.Configs)
	_, err = s.c.SetTopicConfigs(s.ctx(), catalog.TopicID{99}, 1, nil)
	s.is(err, catalog.ErrUnknownTopic)
}
