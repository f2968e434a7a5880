package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// slowShard is a catalog in which one shard of groups is not read before open.
type slowShard struct {
	catalog.Catalog
	shard int32
	open  chan struct{}
}

func (c slowShard) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	if shard == c.shard {
		select {
		case <-c.open:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", catalog.ErrUnavailable, ctx.Err())
		}
	}
	return c.Catalog.ReadGroups(ctx, shard, after, limit)
}

// startLoading runs a broker with one shard of groups being read until open is called: that of group "loading". Group "here" is
// in another one.
func startLoading(t *testing.T) (tb *testBroker, open func()) {
	t.Helper()
	shard := coordinator.ShardOf("loading", lease.GroupsPartitions)
	require.NotEqual(t, shard, coordinator.ShardOf("here", lease.GroupsPartitions))
	opened := make(chan struct{})
	tb = startGroups(t, quickGroups, func(c *Config) { c.Catalog = slowShard{c.Catalog, shard, opened} })
	tb.topic("t", 1)
	return tb, func() { close(opened) }
}

// What a coordinator says that reads its groups is what Apache Kafka's clients get over: a Java consumer fails on
// COORDINATOR_LOAD_IN_PROGRESS where it does not expect it.
func TestCodesWhileAShardIsRead(t *testing.T) {
	tb, open := startLoading(t)
	c := tb.dial()

	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis = "loading", "consumer", 10_000
	join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range"})
	require.Equal(t, "COORDINATOR_LOAD_IN_PROGRESS", names(ask(c, join, 9).(*kmsg.JoinGroupResponse).ErrorCode))

	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation, sync.ProtocolType, sync.Protocol = "loading", "m", 1, new("consumer"), new("range")
	require.Equal(t, "REBALANCE_IN_PROGRESS", names(ask(c, sync, 5).(*kmsg.SyncGroupResponse).ErrorCode), "it joins again")

	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "loading", "m", 1
	require.Equal(t, "NONE", names(ask(c, beat, 4).(*kmsg.HeartbeatResponse).ErrorCode))

	commit := ask(c, commitRequest("loading", "t", 0, 1), 9).(*kmsg.OffsetCommitResponse)
	require.Equal(t, "COORDINATOR_LOAD_IN_PROGRESS", names(commit.Topics[0].Partitions[0].ErrorCode))

	consumer := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	consumer.Group, consumer.MemberID, consumer.MemberEpoch = "loading", "m", 1
	require.Equal(t, "COORDINATOR_LOAD_IN_PROGRESS", names(ask(c, consumer, 1).(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode))
	open()
}

// A scrape shows the groups that can be told of while another shard is read.
func TestLagWhileAShardIsRead(t *testing.T) {
	tb, open := startLoading(t)
	c := tb.dial()
	require.Eventually(t, func() bool {
		resp := ask(c, commitRequest("here", "t", 0, 0), 9).(*kmsg.OffsetCommitResponse)
		return resp.Topics[0].Partitions[0].ErrorCode == 0
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, "COORDINATOR_LOAD_IN_PROGRESS", names(ask(c, kmsg.NewPtrListGroupsRequest(), 4).(*kmsg.ListGroupsResponse).ErrorCode))
	lags, err := tb.CoordinatedLags(t.Context())
	require.ErrorIs(t, err, coordinator.ErrLoading, "it says that some are missing")
	require.Len(t, lags, 1)
	require.Equal(t, "here", lags[0].Group)
	open()
	tb.loaded()
}
