package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog/lease"
)

func commitRequest(group, topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// loaded waits until the broker's shards are read.
func (tb *testBroker) loaded() {
	tb.t.Helper()
	c := tb.dial()
	require.Eventually(tb.t, func() bool {
		return ask(c, kmsg.NewPtrListGroupsRequest(), 4).(*kmsg.ListGroupsResponse).ErrorCode == 0
	}, 10*time.Second, time.Millisecond)
}

func TestOffsetsOfEveryVersion(t *testing.T) {
	tb := startGroups(t, quickGroups)
	id := tb.topic("t", 3)
	tb.loaded()
	c := tb.dial()
	for version := int16(2); version <= 10; version++ {
		req := commitRequest("g", "t", 1, int64(version))
		req.Topics[0].TopicID = id
		got := ask(c, req, version).(*kmsg.OffsetCommitResponse)
		require.Equal(t, "NONE", names(got.Topics[0].Partitions[0].ErrorCode), "version %d", version)

		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Group = "g"
		fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1, 2}}}
		ft := kmsg.NewOffsetFetchRequestGroup()
		ft.Group = "g"
		ft.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: id, Partitions: []int32{1, 2}}}
		never := kmsg.NewOffsetFetchRequestGroup()
		never.Group, never.Topics = "never", ft.Topics
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{ft, never}
		fetch.RequireStable = true
		resp := ask(c, fetch, version).(*kmsg.OffsetFetchResponse)
		if version < 8 {
			require.EqualValues(t, version, resp.Topics[0].Partitions[0].Offset)
			require.EqualValues(t, -1, resp.Topics[0].Partitions[1].Offset)
			continue
		}
		require.EqualValues(t, version, resp.Groups[0].Topics[0].Partitions[0].Offset)
		require.EqualValues(t, -1, resp.Groups[0].Topics[0].Partitions[1].Offset)
		require.Zero(t, resp.Groups[1].ErrorCode, "a group that never existed is no error")
		require.EqualValues(t, -1, resp.Groups[1].Topics[0].Partitions[0].Offset)
		require.Zero(t, resp.Groups[1].Topics[0].Partitions[0].ErrorCode)
	}
}

func TestBadGroupIDs(t *testing.T) {
	tb := startGroups(t, quickGroups)
	tb.topic("t", 1)
	tb.loaded()
	c := tb.dial()
	for _, id := range []string{"", strings.Repeat("g", 1025), "a\x00b"} {
		commit := ask(c, commitRequest(id, "t", 0, 1), 8).(*kmsg.OffsetCommitResponse)
		require.Equal(t, "INVALID_GROUP_ID", names(commit.Topics[0].Partitions[0].ErrorCode))
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group = id
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, join, 9).(*kmsg.JoinGroupResponse).ErrorCode))
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.Protocol, sync.ProtocolType = id, new("range"), new("consumer")
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, sync, 5).(*kmsg.SyncGroupResponse).ErrorCode))
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group = id
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, beat, 4).(*kmsg.HeartbeatResponse).ErrorCode))
		next := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		next.Group = id
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, next, 1).(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode))
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group = id
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, leave, 5).(*kmsg.LeaveGroupResponse).ErrorCode))
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Group = id
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, fetch, 7).(*kmsg.OffsetFetchResponse).ErrorCode))
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Groups = []string{id}
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, describe, 6).(*kmsg.DescribeGroupsResponse).Groups[0].ErrorCode))
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{id}
		require.Equal(t, "INVALID_GROUP_ID", names(ask(c, del, 2).(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode))
	}
}

func TestFindCoordinator(t *testing.T) {
	tb := startGroups(t)
	c := tb.dial()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
	for version := range int16(7) {
		resp := ask(c, req, version).(*kmsg.FindCoordinatorResponse)
		if version < 4 {
			require.Equal(t, "NONE", names(resp.ErrorCode))
			require.EqualValues(t, testNode, resp.NodeID)
			require.Equal(t, "127.0.0.1", resp.Host)
			continue
		}
		require.Len(t, resp.Coordinators, 2)
		require.Equal(t, "h", resp.Coordinators[1].Key)
		require.EqualValues(t, testNode, resp.Coordinators[1].NodeID)
	}
	req.CoordinatorType = 1
	require.Equal(t, "COORDINATOR_NOT_AVAILABLE", names(ask(c, req, 3).(*kmsg.FindCoordinatorResponse).ErrorCode))
	req.CoordinatorType = 2
	require.Equal(t, "INVALID_REQUEST", names(ask(c, req, 6).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode))
}

func TestConfigsOfGroups(t *testing.T) {
	tb := startGroups(t)
	c := tb.dial()
	alter := func(name, config string, value *string) string {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		op := kmsg.IncrementalAlterConfigOpSet
		if value == nil {
			op = kmsg.IncrementalAlterConfigOpDelete
		}
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: name,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: config, Value: value, Op: op}},
		}}
		return names(ask(c, req, 1).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}
	describe := func(name string) map[string]string {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: name}}
		got := map[string]string{}
		for _, e := range ask(c, req, 4).(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
			got[e.Name] = *e.Value
			if e.Source == kmsg.ConfigSourceGroupConfig {
				got[e.Name] += " (group)"
			}
		}
		return got
	}
	const odd = "a:b group:x" // nothing in an id may be taken for something else
	require.Equal(t, map[string]string{"consumer.session.timeout.ms": "45000", "consumer.heartbeat.interval.ms": "5000"}, describe(odd))
	require.Equal(t, "NONE", alter(odd, "consumer.session.timeout.ms", new("50000")))
	require.Equal(t, map[string]string{"consumer.session.timeout.ms": "50000 (group)", "consumer.heartbeat.interval.ms": "5000"}, describe(odd))
	require.EqualValues(t, 50_000, tb.groupConfigs(tb.topics.load()).Of(odd).ConsumerSessionTimeout.Milliseconds(), "in force")
	require.EqualValues(t, 45_000, tb.groupConfigs(tb.topics.load()).Of("other").ConsumerSessionTimeout.Milliseconds())
	require.Equal(t, "INVALID_CONFIG", alter(odd, "consumer.session.timeout.ms", new("1")))
	require.Equal(t, "INVALID_CONFIG", alter(odd, "consumer.session.timeout.ms", new("x")))
	require.Equal(t, "INVALID_CONFIG", alter(odd, "retention.ms", new("1")))
	require.Equal(t, "INVALID_REQUEST", alter("", "consumer.session.timeout.ms", new("50000")))
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	resources := ask(c, list, 1).(*kmsg.ListConfigResourcesResponse).ConfigResources
	require.Len(t, resources, 1)
	require.Equal(t, odd, resources[0].Name)
	// They are no configs of the topic that keeps them.
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: lease.GroupsName}}
	for _, e := range ask(c, req, 4).(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
		require.NotContains(t, e.Name, "group:")
	}
	require.Equal(t, "NONE", alter(odd, "consumer.session.timeout.ms", nil))
	require.Equal(t, "45000", describe(odd)["consumer.session.timeout.ms"])
	require.Empty(t, ask(c, list, 1).(*kmsg.ListConfigResourcesResponse).ConfigResources)
}

func TestGroupVersionIsFinalised(t *testing.T) {
	tb := startGroups(t)
	c := tb.dial()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "raw", "1"
	four := ask(c, req, 4).(*kmsg.ApiVersionsResponse)
	require.Len(t, four.SupportedFeatures, 1)
	require.EqualValues(t, 1, four.SupportedFeatures[0].MaxVersion)
	require.Equal(t, "group.version", four.FinalizedFeatures[0].Name)
	require.EqualValues(t, 1, four.FinalizedFeatures[0].MaxVersionLevel)
	require.Empty(t, ask(c, req, 3).(*kmsg.ApiVersionsResponse).SupportedFeatures, "clients of then cannot read one that begins at 0")
}

func TestARequestThatWaitsHoldsUpNobodyElse(t *testing.T) {
	tb := startGroups(t, quickGroups)
	tb.loaded()
	join := func(c *raw, member string) *kmsg.JoinGroupRequest {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", member, "consumer", 30_000, 30_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		c.send(req, 3)
		return req
	}
	one, two, other := tb.dial(), tb.dial(), tb.dial()
	first := one.receive(join(one, ""), one.n).(*kmsg.JoinGroupResponse)
	require.Equal(t, "NONE", names(first.ErrorCode))
	waits := join(two, "") // until the first one joins again
	// Its connection's next request waits for it; other connections do not.
	behind := kmsg.NewPtrListGroupsRequest()
	two.send(behind, 4)
	list := ask(other, kmsg.NewPtrListGroupsRequest(), 4).(*kmsg.ListGroupsResponse)
	require.Len(t, list.Groups, 1)
	one.receive(join(one, first.MemberID), one.n)
	second := two.receive(waits, two.n-1).(*kmsg.JoinGroupResponse)
	require.Equal(t, "NONE", names(second.ErrorCode))
	require.Len(t, two.receive(behind, two.n).(*kmsg.ListGroupsResponse).Groups, 1)
}
