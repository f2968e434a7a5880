package broker

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestAFleetIsDescribed(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 4, 2)
	tp := func(p int32) catalog.TopicPartition { return catalog.TopicPartition{Topic: id, Partition: p} }
	c.give(tp(1), 3, 5)
	c.give(tp(2), -1, 6) // free
	c.give(tp(3), 99, 7) // led by nobody that is alive

	for listener, want := range map[string][]string{
		inside:  {"3 broker-3.PLAINTEXT:9000 b", fmt.Sprintf("7 127.0.0.1:%s a", portOf(tb.addr)), "11 broker-11.PLAINTEXT:9000 c"},
		outside: {"3 broker-3.OUTSIDE:9001 b", "7 outside.example:19092 a", "11 broker-11.PLAINTEXT:9000 c"},
	} {
		conn := tb.dialOn(listener)
		m := ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
		var got []string
		for _, b := range m.Brokers {
			got = append(got, fmt.Sprintf("%d %s:%d %s", b.NodeID, b.Host, b.Port, *b.Rack))
		}
		require.Equal(t, want, got, listener)
		require.EqualValues(t, 3, m.ControllerID)

		d := ask(conn, func() kmsg.Request { r := kmsg.NewPtrDescribeClusterRequest(); r.EndpointType = 1; return r }(), 2).(*kmsg.DescribeClusterResponse)
		got = nil
		for _, b := range d.Brokers {
			require.False(t, b.IsFenced)
			got = append(got, fmt.Sprintf("%d %s:%d %s", b.NodeID, b.Host, b.Port, *b.Rack))
		}
		require.Equal(t, want, got, listener)
		require.EqualValues(t, 3, d.ControllerID)
	}

	conn := tb.dial()
	m := ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	parts := m.Topics[0].Partitions
	own := c.epochOf(t, tp(0))
	for i, want := range []struct {
		leader, epoch int32
		code          string
	}{{testNode, own, "NONE"}, {3, 5, "NONE"}, {-1, 6, "LEADER_NOT_AVAILABLE"}, {-1, 7, "LEADER_NOT_AVAILABLE"}} {
		require.Equal(t, want.code, names(parts[i].ErrorCode), i)
		require.Equal(t, want.leader, parts[i].Leader, i)
		require.Equal(t, want.epoch, parts[i].LeaderEpoch, i)
		require.Len(t, parts[i].Replicas, 2)
		require.Equal(t, parts[i].Replicas, parts[i].ISR)
		require.Empty(t, parts[i].OfflineReplicas)
		if want.leader >= 0 {
			require.Equal(t, want.leader, parts[i].Replicas[0])
		}
	}
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 100
	for i, p := range ask(conn, req, 0).(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions {
		require.Equal(t, parts[i].ErrorCode, p.ErrorCode)
		require.Equal(t, parts[i].Leader, p.LeaderID)
		require.Equal(t, parts[i].LeaderEpoch, p.LeaderEpoch)
		require.Equal(t, parts[i].Replicas, p.Replicas)
		require.Equal(t, parts[i].ISR, p.ISR)
		require.Empty(t, p.EligibleLeaderReplicas)
		require.Empty(t, p.LastKnownELR)
		require.NotNil(t, p.EligibleLeaderReplicas)
	}

	c.change(func(v *fakeView) { v.controller, v.nodes = -1, v.nodes[:1] })
	m = ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	require.EqualValues(t, testNode, m.ControllerID, "without a controller any broker does")
	require.Len(t, m.Brokers, 2, "a broker shows itself, whatever the view says")
	require.EqualValues(t, -1, m.Topics[0].Partitions[1].Leader, "clients fail on leaders without an address")

	lr := ask(conn, kmsg.NewPtrListConfigResourcesRequest(), 1).(*kmsg.ListConfigResourcesResponse)
	require.Len(t, lr.ConfigResources, 3, "the topic and two brokers")
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestOnlyTheLeaderAnswers(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 1, 1)
	tp := catalog.TopicPartition{Topic: id}
	conn := tb.dialOn(outside)
	put(conn, id, 0, "x")
	c.give(tp, 3, 8)
	batch := batchOf(t, batchSpec(), "y")

	p := ask(conn, produceRequest("", id, 0, batch), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, 3, p.Topics[0].Partitions[0].CurrentLeader.LeaderID)
	require.EqualValues(t, 8, p.Topics[0].Partitions[0].CurrentLeader.LeaderEpoch)
	require.Len(t, p.Brokers, 1)
	require.Equal(t, "broker-3.OUTSIDE", p.Brokers[0].Host)
	require.EqualValues(t, 9001, p.Brokers[0].Port)
	require.Equal(t, "b", *p.Brokers[0].Rack)
	p = ask(conn, produceRequest("t", id, 0, batch), 9).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.Topics[0].Partitions[0].ErrorCode))

	for asked, want := range map[int32]string{-1: "NOT_LEADER_OR_FOLLOWER", 7: "FENCED_LEADER_EPOCH", 8: "NOT_LEADER_OR_FOLLOWER", 9: "UNKNOWN_LEADER_EPOCH"} {
		lo := listOffsetsRequest("t", tsLatest)
		lo.Topics[0].Partitions[0].CurrentLeaderEpoch = asked
		lp := ask(conn, lo, 7).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		require.Equal(t, want, names(lp.ErrorCode), "ListOffsets at epoch %d", asked)
		require.EqualValues(t, -1, lp.Offset)

		oe := kmsg.NewPtrOffsetForLeaderEpochRequest()
		oe.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: asked, LeaderEpoch: 0}}}}
		op := ask(conn, oe, 4).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
		require.Equal(t, want, names(op.ErrorCode), "OffsetForLeaderEpoch at epoch %d", asked)
		require.EqualValues(t, -1, op.EndOffset)

		for _, version := range []int16{10, 12, 16} {
			req := fetchRequest("t", id, 0)
			req.Topics[0].Partitions[0].CurrentLeaderEpoch = asked
			f := ask(conn, req, version).(*kmsg.FetchResponse)
			fp := f.Topics[0].Partitions[0]
			if want == "NOT_LEADER_OR_FOLLOWER" && version >= followerFetch {
				require.Zero(t, fp.ErrorCode, "a follower serves the epoch it knows")
				require.NotEmpty(t, fp.RecordBatches)
				continue
			}
			require.Equal(t, want, names(fp.ErrorCode), "Fetch %d at epoch %d", version, asked)
			if want == "FENCED_LEADER_EPOCH" && version >= 12 {
				require.EqualValues(t, 3, fp.CurrentLeader.LeaderID)
				require.EqualValues(t, 8, fp.CurrentLeader.LeaderEpoch)
			}
			require.Len(t, f.Brokers, map[bool]int{true: 1}[want == "FENCED_LEADER_EPOCH" && version >= 16])
		}
	}

	dr := kmsg.NewPtrDeleteRecordsRequest()
	dr.TimeoutMillis = 5000
	dr.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 1}}}}
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(ask(conn, dr, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode))
	dp := ask(conn, describeProducersOf("t"), 0).(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0]
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(dp.ErrorCode))

	// Held by this broker, but not loaded yet: told in Metadata, but nobody is sent from here to here.
	c.change(func(v *fakeView) { v.leases[tp] = heldLease{testNode, 9} })
	p = ask(conn, produceRequest("", id, 0, batch), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, -1, p.Topics[0].Partitions[0].CurrentLeader.LeaderID)
	require.Empty(t, p.Brokers)
	m := ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	require.EqualValues(t, testNode, m.Topics[0].Partitions[0].Leader)
	require.EqualValues(t, 9, m.Topics[0].Partitions[0].LeaderEpoch)
}

func TestCreatedTopicsHaveLeaders(t *testing.T) {
	tb, c := startFleet(t, func(cfg *Config) { cfg.AutoCreateTopics, cfg.NumPartitions = true, 2 })
	acquired := make(chan []catalog.TopicPartition, 10)
	c.acquire = func(tps []catalog.TopicPartition) { acquired <- tps }
	// The other brokers take their shares, one after the other, while the answer waits.
	share := func() {
		for i, tp := range <-acquired {
			c.give(tp, []int32{3, 11}[i%2], 0)
		}
	}
	done := make(chan struct{})
	each := func(f func()) {
		go func() { share(); done <- struct{}{} }()
		f()
		<-done
	}
	conn := tb.dial()
	leaders := func(m *kmsg.MetadataResponse) (out []int32) {
		for _, p := range m.Topics[0].Partitions {
			out = append(out, p.Leader)
		}
		return out
	}
	metadataOf := func(name string) *kmsg.MetadataRequest {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics, req.AllowAutoTopicCreation = []kmsg.MetadataRequestTopic{{Topic: &name}}, true
		return req
	}
	each(func() { createTopic(tb, "made", 2, 1) })
	require.Equal(t, []int32{3, 11}, leaders(ask(conn, metadataOf("made"), 12).(*kmsg.MetadataResponse)))
	each(func() {
		require.Equal(t, []int32{3, 11}, leaders(ask(conn, metadataOf("auto"), 12).(*kmsg.MetadataResponse)))
	})
	cp := kmsg.NewPtrCreatePartitionsRequest()
	cp.TimeoutMillis = 10_000
	cp.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "made", Count: 3}}
	each(func() { require.Zero(t, ask(conn, cp, 3).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode) })
	require.Equal(t, []int32{3, 11, 3}, leaders(ask(conn, metadataOf("made"), 12).(*kmsg.MetadataResponse)))

	c.mu.Lock()
	require.GreaterOrEqual(t, c.mu.told, 3, "the other brokers are told of changed topics")
	c.mu.Unlock()

	// Nobody takes the leases: the answer comes all the same, within the request's time.
	req := createOf("orphan", func(*kmsg.CreateTopicsRequestTopic) {})
	req.TimeoutMillis = 50
	resp := ask(conn, req, 7).(*kmsg.CreateTopicsResponse)
	require.Zero(t, resp.Topics[0].ErrorCode)
	<-acquired
	m := ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse) // of all topics: does not wait
	for _, mt := range m.Topics {
		if *mt.Topic == "orphan" {
			require.Equal(t, "LEADER_NOT_AVAILABLE", names(mt.Partitions[0].ErrorCode))
		}
	}
}

func TestTopicsOfOtherBrokersAreFound(t *testing.T) {
	tb, c := startFleet(t)
	conn := tb.dial()
	spec := catalog.TopicSpec{ID: catalog.TopicID{5}, Name: "elsewhere", Partitions: 1, ReplicationFactor: 1}
	_, err := tb.cat.CreateTopic(t.Context(), spec)
	require.NoError(t, err)
	c.give(catalog.TopicPartition{Topic: spec.ID}, 3, 0)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: new("elsewhere")}}
	m := ask(conn, req, 12).(*kmsg.MetadataResponse)
	require.Zero(t, m.Topics[0].ErrorCode)
	require.EqualValues(t, 3, m.Topics[0].Partitions[0].Leader)
}

func TestInternalTopicsBelongToTheBrokers(t *testing.T) {
	tb, c := startFleet(t, func(cfg *Config) { cfg.AutoCreateTopics = true })
	ids := map[string]catalog.TopicID{"__consumer_offsets": {1}, "__transaction_state": {2}, "__cluster_metadata": {3}}
	conn := tb.dial()
	create := func(name string) string {
		return names(ask(conn, createOf(name, func(*kmsg.CreateTopicsRequestTopic) {}), 7).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
	}
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", create("__consumer_offsets"))
	for name, id := range ids {
		_, err := tb.cat.CreateTopic(t.Context(), catalog.TopicSpec{ID: id, Name: name, Partitions: 2, ReplicationFactor: 1})
		require.NoError(t, err)
		c.lead(t, []catalog.TopicPartition{{Topic: id}, {Topic: id, Partition: 1}})
	}
	require.NoError(t, tb.RefreshTopics(t.Context()))

	m := ask(conn, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	require.Len(t, m.Topics, 2, "the controller's topic is hidden")
	for _, mt := range m.Topics {
		require.True(t, mt.IsInternal, *mt.Topic)
		require.EqualValues(t, testNode, mt.Partitions[1].Leader)
	}
	dt := kmsg.NewPtrDescribeTopicPartitionsRequest()
	dt.ResponsePartitionLimit = 100
	require.Len(t, ask(conn, dt, 0).(*kmsg.DescribeTopicPartitionsResponse).Topics, 2)
	byName := kmsg.NewPtrMetadataRequest()
	byName.AllowAutoTopicCreation = true
	byName.Topics = []kmsg.MetadataRequestTopic{{Topic: new("__cluster_metadata")}, {Topic: new("__share_group_state")}, {TopicID: ids["__cluster_metadata"]}}
	m = ask(conn, byName, 12).(*kmsg.MetadataResponse)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(m.Topics[0].ErrorCode))
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(m.Topics[1].ErrorCode), "internal topics are not made by being asked for")
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(m.Topics[2].ErrorCode))

	require.Equal(t, "TOPIC_ALREADY_EXISTS", create("__consumer_offsets"))
	require.Equal(t, "TOPIC_AUTHORIZATION_FAILED", create("__cluster_metadata"))
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", create("__cluster.metadata"), "the hidden name is taken all the same")

	name := "__consumer_offsets"
	p := ask(conn, produceRequest("", ids[name], 0, batchOf(t, batchSpec(), "x")), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(p.Topics[0].Partitions[0].ErrorCode))
	p = ask(conn, produceRequest("", ids["__cluster_metadata"], 0, batchOf(t, batchSpec(), "x")), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(p.Topics[0].Partitions[0].ErrorCode))
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TimeoutMillis, del.Topics = 5000, []kmsg.DeleteTopicsRequestTopic{{Topic: &name}, {Topic: new("__cluster_metadata")}}
	dd := ask(conn, del, 6).(*kmsg.DeleteTopicsResponse)
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(dd.Topics[0].ErrorCode))
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(dd.Topics[1].ErrorCode))
	cp := kmsg.NewPtrCreatePartitionsRequest()
	cp.TimeoutMillis, cp.Topics = 5000, []kmsg.CreatePartitionsRequestTopic{{Topic: name, Count: 60}}
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(ask(conn, cp, 3).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode))
	ac := kmsg.NewPtrAlterConfigsRequest()
	ac.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: new("1")}}}}
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(ask(conn, ac, 2).(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode))
	dr := kmsg.NewPtrDeleteRecordsRequest()
	dr.TimeoutMillis = 5000
	dr.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: name, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 0}}}}
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(ask(conn, dr, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode))
	fr := fetchRequest(name, ids[name], 0)
	fp := ask(conn, fr, 13).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Zero(t, fp.ErrorCode)
	require.Zero(t, fp.HighWatermark)
	fr.Topics[0].Partitions[0].FetchOffset = 1
	fp = ask(conn, fr, 13).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Equal(t, "OFFSET_OUT_OF_RANGE", names(fp.ErrorCode))
	lp := ask(conn, listOffsetsRequest(name, tsLatest), 7).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	require.Zero(t, lp.ErrorCode)
	require.Zero(t, lp.Offset)
	set, err := tb.cat.TopicSet(t.Context(), -1)
	require.NoError(t, err)
	require.Len(t, set.Topics, 3, "nothing was deleted or made")
}

func TestElectionsAndReassignmentsInAFleet(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 2, 3)
	c.give(catalog.TopicPartition{Topic: id, Partition: 1}, -1, 4)
	conn := tb.dial()
	el := kmsg.NewPtrElectLeadersRequest()
	el.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
	ep := ask(conn, el, 2).(*kmsg.ElectLeadersResponse).Topics[0].Partitions
	require.Equal(t, "ELECTION_NOT_NEEDED", names(ep[0].ErrorCode))
	require.Equal(t, "PREFERRED_LEADER_NOT_AVAILABLE", names(ep[1].ErrorCode))
	el.ElectionType = 1
	require.Equal(t, "ELIGIBLE_LEADERS_NOT_AVAILABLE", names(ask(conn, el, 2).(*kmsg.ElectLeadersResponse).Topics[0].Partitions[1].ErrorCode))

	for want, replicas := range map[string][][]int32{
		"NONE":                       {{testNode}, {testNode, 3, 11}, {3, 11, testNode}},
		"INVALID_REPLICA_ASSIGNMENT": {{3}, {testNode, 3}, {testNode, 99}, {testNode, 3, 3}},
	} {
		for _, r := range replicas {
			ra := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			ra.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: r}}}}
			got := ask(conn, ra, 1).(*kmsg.AlterPartitionAssignmentsResponse).Topics[0].Partitions[0]
			require.Equal(t, want, names(got.ErrorCode), r)
		}
	}
}

func TestReplicas(t *testing.T) {
	nodes := []Node{
		fakeNode(1, "a", inside), fakeNode(2, "a", inside), fakeNode(3, "b", inside), fakeNode(4, "b", inside),
		fakeNode(5, "c", inside), fakeNode(6, "c", inside),
	}
	// Each broker computes with itself as self, from nodes in another order.
	fleetOf := func(self int32, nodes []Node) *fleet {
		b := &Broker{self: nodes[slices.IndexFunc(nodes, func(n Node) bool { return n.ID == self })]}
		b.cfg.NodeID = self
		return b.newFleet(&fakeView{version: 1, nodes: nodes, controller: 1}, 1)
	}
	other := slices.Clone(nodes)
	slices.Reverse(other)
	one, two := fleetOf(1, nodes).placer(), fleetOf(4, other).placer()
	topicOf := func(rf int16) *topic {
		return newTopic(catalog.Topic{ID: catalog.TopicID{1, 2, 3}, Name: "t", Partitions: 600, ReplicationFactor: rf})
	}
	shown := map[int32]int{}
	for p := range int32(600) {
		leader := p%6 + 1
		set := one.replicas(nil, topicOf(3), p, leader)
		require.Equal(t, set, two.replicas(nil, topicOf(3), p, leader), "every broker shows the same")
		require.Equal(t, leader, set[0])
		racks := map[string]bool{}
		for _, id := range set {
			racks[one.f.node(id).Rack] = true
			shown[id]++
		}
		require.Len(t, racks, 3, "spread over racks")
		require.ElementsMatch(t, []int32{1, 2, 3, 4, 5, 6}, one.replicas(nil, topicOf(100), p, leader), "no more than there are")
		require.Equal(t, []int32{leader}, one.replicas(nil, topicOf(1), p, leader))
		require.Equal(t, []int32{leader}, one.replicas(nil, topicOf(0), p, leader))
		require.Len(t, one.replicas(nil, topicOf(3), p, -1), 3, "also without a leader")
		require.EqualValues(t, -1, one.inRack(topicOf(1), p, leader, "b"), "one replica: nowhere else to read")
		near := one.inRack(topicOf(3), p, 1, "b")
		require.Contains(t, []int32{3, 4}, near)
	}
	for id, n := range shown {
		require.InDelta(t, 300, n, 60, "broker %d", id)
	}

	// A broker that joins changes a set by no more than itself; one that drains is left out.
	more := fleetOf(1, append(slices.Clone(nodes), fakeNode(7, "b", inside))).placer()
	drained := slices.Clone(nodes)
	drained[2].Draining = true
	less := fleetOf(1, drained).placer()
	for p := range int32(600) {
		before := one.replicas(nil, topicOf(3), p, 1)
		for _, id := range more.replicas(nil, topicOf(3), p, 1) {
			require.True(t, id == 7 || slices.Contains(before, id))
		}
		require.NotContains(t, less.replicas(nil, topicOf(3), p, 1), int32(3))
		require.Equal(t, int32(3), less.replicas(nil, topicOf(3), p, 3)[0], "it still leads")
	}
	for i := range drained {
		drained[i].Draining = true
	}
	require.Equal(t, []int32{1}, fleetOf(1, drained).placer().replicas(nil, topicOf(3), 0, -1))
}

func TestRedirectsAreBounded(t *testing.T) {
	var r redirects
	now := time.Now()
	tp := func(i int) catalog.TopicPartition { return catalog.TopicPartition{Partition: int32(i)} }
	for i := range maxRedirects {
		require.True(t, r.allow(tp(i), now))
		require.False(t, r.allow(tp(i), now.Add(redirectEvery-1)))
	}
	require.False(t, r.allow(tp(maxRedirects), now))
	require.True(t, r.allow(tp(0), now.Add(redirectEvery)))
	require.True(t, r.allow(tp(maxRedirects), now.Add(redirectEvery)), "what is over makes room")
	require.Len(t, r.at, 2)
}
