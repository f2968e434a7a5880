package broker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// movingPartition is a partition that was led, and is on its way.
func movingPartition(t *testing.T) (*raw, *fakeCluster, catalog.TopicPartition) {
	t.Helper()
	tb, c := startFleet(t)
	id := createTopic(tb, "t", 1, 1)
	tp := catalog.TopicPartition{Topic: id}
	c.move(tp, true)
	return tb.dialOn(outside), c, tp
}

func TestProduceWaitsForWhoGetsThePartition(t *testing.T) {
	conn, c, tp := movingPartition(t)
	req := produceRequest("", tp.Topic, 0, batchOf(t, batchSpec(), "y"))
	conn.send(req, 13)
	<-c.asked // refused now, the client would learn of no leader
	c.move(tp, false)
	c.give(tp, 3, 8)
	p := conn.receive(req, conn.n).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, 3, p.Topics[0].Partitions[0].CurrentLeader.LeaderID)
	require.EqualValues(t, 8, p.Topics[0].Partitions[0].CurrentLeader.LeaderEpoch)
	require.Len(t, p.Brokers, 1)
}

func TestProduceWaitsForAPartitionThatComes(t *testing.T) {
	conn, c, tp := movingPartition(t)
	// In the order they are sent, or the second one would be out of its producer's order.
	first := produceRequest("", tp.Topic, 0, batchOf(t, batchSpec(), "1"))
	second := produceRequest("", tp.Topic, 0, batchOf(t, batchSpec(), "2"))
	conn.send(first, 13)
	one := conn.n
	<-c.asked
	conn.send(second, 13)
	c.move(tp, false)
	c.give(tp, testNode, c.epochOf(t, tp))
	for i, want := range []int64{0, 1} {
		p := conn.receive(first, one+int32(i)).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		require.Equal(t, "NONE", names(p.ErrorCode))
		require.Equal(t, want, p.BaseOffset)
	}
}

func TestProduceDoesNotWaitForAMoveThatHangs(t *testing.T) {
	conn, _, tp := movingPartition(t)
	p := ask(conn, produceRequest("", tp.Topic, 0, batchOf(t, batchSpec(), "y")), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(p.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, -1, p.Topics[0].Partitions[0].CurrentLeader.LeaderID)
}
