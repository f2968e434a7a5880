package broker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

func fetchFrom(id catalog.TopicID, offset int64, rack string) *kmsg.FetchRequest {
	req := fetchRequest("t", id, 0)
	req.Topics[0].Partitions[0].FetchOffset, req.Rack = offset, rack
	return req
}

func TestFollowersServeCommittedRecords(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 1, 3)
	tp := catalog.TopicPartition{Topic: id}
	conn := tb.dial()
	for range 3 {
		put(conn, id, 0, "x")
	}
	_, err := c.log.DeleteRecords(t.Context(), tp, 1)
	require.NoError(t, err)
	c.give(tp, 3, 8)
	get := func(version int16, offset int64, wait int32) kmsg.FetchResponseTopicPartition {
		req := fetchFrom(id, offset, "a")
		req.MaxWaitMillis = wait
		return ask(conn, req, version).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	}
	for _, version := range []int16{11, 12, 13, 18} {
		p := get(version, 1, 0)
		require.Zero(t, p.ErrorCode)
		require.NotEmpty(t, p.RecordBatches)
		require.EqualValues(t, 3, p.HighWatermark)
		require.EqualValues(t, 1, p.LogStartOffset)
		require.EqualValues(t, -1, p.PreferredReadReplica)
	}
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(get(10, 1, 0).ErrorCode), "an old client is for the leader")
	p := get(16, 3, 0)
	require.Zero(t, p.ErrorCode, "the end of the log is not an error")
	require.Empty(t, p.RecordBatches)

	p = get(16, 0, 15_000)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.ErrorCode), "below the log start: the leader has to say so")
	require.EqualValues(t, 3, p.CurrentLeader.LeaderID)
	require.Equal(t, "OFFSET_NOT_AVAILABLE", names(get(16, 9, 20).ErrorCode), "never OFFSET_OUT_OF_RANGE")

	// The feed is behind the client, and catches up while its poll waits.
	c.behind(tp, 2)
	require.Equal(t, "OFFSET_NOT_AVAILABLE", names(get(16, 3, 20).ErrorCode))
	req := fetchFrom(id, 3, "")
	req.MaxWaitMillis = 15_000
	conn.send(req, 16)
	c.behind(tp, -1)
	batch := batchOf(t, batchSpec(), "late")
	h, err := recordbatch.ParseHeader(batch)
	require.NoError(t, err)
	buf := tb.pool.Get(len(batch))
	copy(buf.Bytes(), batch)
	pending, err := c.log.Append(t.Context(), tp, buf.Bytes(), h, buf) // as the leader would
	require.NoError(t, err)
	buf.Release()
	<-pending.Done()
	p = conn.receive(req, conn.n).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Zero(t, p.ErrorCode)
	require.NotEmpty(t, p.RecordBatches)
	require.EqualValues(t, 4, p.HighWatermark)
}

// A follower's answer that is full keeps the other partitions for the next poll of the session.
func TestFullAnswersOfFollowers(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 2, 1)
	conn := tb.dial()
	for n := range int32(2) {
		put(conn, id, n, "0123456789")
		c.give(catalog.TopicPartition{Topic: id, Partition: n}, 3, 8)
	}
	req := fetchRequest("", id, 0, 1)
	req.MaxBytes, req.SessionEpoch = 1, 0
	f := ask(conn, req, 17).(*kmsg.FetchResponse)
	require.NotEmpty(t, f.Topics[0].Partitions[0].RecordBatches)
	require.Empty(t, f.Topics[0].Partitions[1].RecordBatches)
	require.EqualValues(t, 1, f.Topics[0].Partitions[1].HighWatermark)
	next := incremental(f.SessionID, 1)
	next.MaxBytes = mib
	moveTo(next, id, 0, 1)
	f = ask(conn, next, 17).(*kmsg.FetchResponse)
	require.Len(t, f.Topics[0].Partitions, 1)
	require.EqualValues(t, 1, f.Topics[0].Partitions[0].Partition)
	require.NotEmpty(t, f.Topics[0].Partitions[0].RecordBatches)
}

func TestConsumersAreSentToTheirRack(t *testing.T) {
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 1, 3)
	put(tb.dial(), id, 0, "x")
	get := func(conn *raw, version int16, offset int64, rack string) kmsg.FetchResponseTopicPartition {
		req := fetchFrom(id, offset, rack)
		req.MinBytes, req.MaxWaitMillis = 1000, 20
		return ask(conn, req, version).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	}
	for _, version := range []int16{11, 12, 18} {
		p := get(tb.dial(), version, 0, "b")
		require.EqualValues(t, 3, p.PreferredReadReplica)
		require.Zero(t, p.ErrorCode)
		require.Empty(t, p.RecordBatches)
		require.EqualValues(t, 1, p.HighWatermark)
	}
	require.EqualValues(t, 11, get(tb.dial(), 16, 0, "c").PreferredReadReplica)
	for _, rack := range []string{"", "a", "nowhere"} {
		p := get(tb.dial(), 16, 0, rack)
		require.EqualValues(t, -1, p.PreferredReadReplica, rack)
		require.NotEmpty(t, p.RecordBatches, rack)
	}
	require.NotEmpty(t, get(tb.dial(), 10, 0, "b").RecordBatches, "version 10 knows no racks")

	conn := tb.dial()
	p := get(conn, 16, 5, "b")
	require.Equal(t, "OFFSET_OUT_OF_RANGE", names(p.ErrorCode), "what does not exist the leader says itself")
	require.EqualValues(t, -1, p.PreferredReadReplica)
	require.EqualValues(t, 3, get(conn, 16, 1, "b").PreferredReadReplica, "the end of the log exists")
	p = get(conn, 16, 0, "b")
	require.EqualValues(t, -1, p.PreferredReadReplica, "who is back at once was not served there")
	require.NotEmpty(t, p.RecordBatches)

	// In a session the partition is told although nothing of it moved, and at once.
	conn = tb.dial()
	first := fetchFrom(id, 1, "")
	first.SessionEpoch = 0
	f := ask(conn, first, 17).(*kmsg.FetchResponse)
	next := incremental(f.SessionID, 1)
	next.Rack, next.MaxWaitMillis = "b", 60_000
	moveTo(next, id, 0, 1)
	began := time.Now()
	f = ask(conn, next, 17).(*kmsg.FetchResponse)
	require.EqualValues(t, 3, f.Topics[0].Partitions[0].PreferredReadReplica)
	require.Less(t, time.Since(began), 30*time.Second)

	// A broker that is about to leave gets no more readers; without another one in its rack they stay.
	c.change(func(v *fakeView) { v.nodes[1].Draining = true })
	require.EqualValues(t, -1, get(tb.dial(), 16, 0, "b").PreferredReadReplica)
	// One replica is the leader.
	id = createTopic(tb, "single", 1, 1)
	req := fetchFrom(id, 0, "c")
	req.Topics[0].Topic = "single"
	require.EqualValues(t, -1, ask(tb.dial(), req, 12).(*kmsg.FetchResponse).Topics[0].Partitions[0].PreferredReadReplica)
}
