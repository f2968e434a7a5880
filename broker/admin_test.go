package broker

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

func createOf(name string, change func(*kmsg.CreateTopicsRequestTopic)) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
	change(&rt)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestCreateTopics(t *testing.T) {
	tb := start(t, func(c *Config) { c.NumPartitions = 4 })
	c := tb.dial()
	n := 0
	create := func(change func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsResponseTopic {
		n++
		return ask(c, createOf(fmt.Sprint("t", n), change), 7).(*kmsg.CreateTopicsResponse).Topics[0]
	}
	config := func(name string, value *string) func(*kmsg.CreateTopicsRequestTopic) {
		return func(rt *kmsg.CreateTopicsRequestTopic) {
			rt.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: name, Value: value}}
		}
	}
	assign := func(rt *kmsg.CreateTopicsRequestTopic, ps ...int32) {
		rt.NumPartitions, rt.ReplicationFactor = -1, -1
		for _, p := range ps {
			rt.ReplicaAssignment = append(rt.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: []int32{1, 2, 3}})
		}
	}

	ok := create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions, rt.ReplicationFactor = -1, -1 })
	require.Zero(t, ok.ErrorCode)
	require.EqualValues(t, 4, ok.NumPartitions)
	require.EqualValues(t, 1, ok.ReplicationFactor)
	require.NotEqual(t, [16]byte{}, ok.TopicID)
	require.Len(t, ok.Configs, len(topicConfigs))
	require.EqualValues(t, kmsg.ConfigSourceDefaultConfig, ok.Configs[0].Source)
	require.EqualValues(t, 300, create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 300 }).ReplicationFactor)
	ok = create(func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 1, 0) })
	require.Zero(t, ok.ErrorCode)
	require.EqualValues(t, 2, ok.NumPartitions)
	require.EqualValues(t, 3, ok.ReplicationFactor)
	ok = create(config("retention.ms", new(" 5 ")))
	require.Zero(t, ok.ErrorCode)

	for want, changes := range map[string][]func(*kmsg.CreateTopicsRequestTopic){
		"INVALID_REPLICATION_FACTOR": {
			func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 0 },
			func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = -2 },
		},
		"INVALID_PARTITIONS": {func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions = 0 }},
		"INVALID_REQUEST": {
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0); rt.NumPartitions = 1 },
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0); rt.ReplicationFactor = 1 },
		},
		"INVALID_REPLICA_ASSIGNMENT": {
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0, 2) },
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0, 0) },
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, -1) },
			func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0); rt.ReplicaAssignment[0].Replicas = nil },
			func(rt *kmsg.CreateTopicsRequestTopic) {
				assign(rt, 0)
				rt.ReplicaAssignment[0].Replicas = []int32{4, 4}
			},
		},
		"INVALID_CONFIG": {
			config("no.such", new("1")), config("retention.ms", nil), config("retention.ms", new("soon")),
			config("cleanup.policy", new("shred")), config("preallocate", new("yes")), config("max.message.bytes", new("-1")),
			config("max.message.bytes", new("3000000000")), config("compression.type", new("rar")), config("min.cleanable.dirty.ratio", new("1.5")),
			config("message.timestamp.type", new("createtime")), config("min.insync.replicas", new("0")), config("remote.storage.enable", new("true")),
			config("compression.gzip.level", new("0")), config("leader.replication.throttled.replicas", new("x")),
		},
	} {
		for i, change := range changes {
			got := create(change)
			require.Equal(t, want, names(got.ErrorCode), "%s %d", want, i)
			require.NotEmpty(t, *got.ErrorMessage)
			require.NotNil(t, got.Configs)
		}
	}

	req := createOf("valid", func(*kmsg.CreateTopicsRequestTopic) {})
	req.ValidateOnly = true
	got := ask(c, req, 7).(*kmsg.CreateTopicsResponse).Topics[0]
	require.Zero(t, got.ErrorCode)
	require.Zero(t, got.TopicID)
	require.Nil(t, tb.topics.load().byName["valid"])
	req.Topics = append(req.Topics, req.Topics[0])
	resp := ask(c, req, 7).(*kmsg.CreateTopicsResponse)
	require.Len(t, resp.Topics, 1)
	require.Equal(t, "INVALID_REQUEST", names(resp.Topics[0].ErrorCode))
}

func TestMetadata(t *testing.T) {
	tb := start(t, func(c *Config) { c.AutoCreateTopics, c.NumPartitions, c.Rack = true, 2, "zone-a" })
	id := tb.topic("a", 3)
	tb.topic("b", 1)
	c := tb.dial()
	get := func(version int16, change func(*kmsg.MetadataRequest)) *kmsg.MetadataResponse {
		req := kmsg.NewPtrMetadataRequest()
		change(req)
		return ask(c, req, version).(*kmsg.MetadataResponse)
	}
	name := func(s string) []kmsg.MetadataRequestTopic { return []kmsg.MetadataRequestTopic{{Topic: &s}} }

	m := get(12, func(r *kmsg.MetadataRequest) { r.IncludeTopicAuthorizedOperations = true })
	require.Len(t, m.Topics, 2)
	require.Equal(t, "test-cluster", *m.ClusterID)
	require.EqualValues(t, testNode, m.ControllerID)
	require.Equal(t, "zone-a", *m.Brokers[0].Rack)
	require.Equal(t, id, catalog.TopicID(m.Topics[0].TopicID))
	require.Len(t, m.Topics[0].Partitions, 3)
	require.Equal(t, []int32{testNode}, m.Topics[0].Partitions[2].ISR)
	require.EqualValues(t, topicOperations, m.Topics[0].AuthorizedOperations)
	m = get(10, func(r *kmsg.MetadataRequest) { r.IncludeClusterAuthorizedOperations = true })
	require.EqualValues(t, clusterOperations, m.AuthorizedOperations)
	require.EqualValues(t, notAsked, m.Topics[0].AuthorizedOperations)

	require.Len(t, get(0, func(r *kmsg.MetadataRequest) { r.Topics = []kmsg.MetadataRequestTopic{} }).Topics, 2, "version 0: none means all")
	require.Empty(t, get(1, func(r *kmsg.MetadataRequest) { r.Topics = []kmsg.MetadataRequestTopic{} }).Topics)
	require.Empty(t, get(12, func(r *kmsg.MetadataRequest) { r.Topics = []kmsg.MetadataRequestTopic{} }).Topics)

	m = get(12, func(r *kmsg.MetadataRequest) {
		r.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: [16]byte{1}}}
	})
	require.Equal(t, "a", *m.Topics[0].Topic)
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(m.Topics[1].ErrorCode))

	m = get(9, func(r *kmsg.MetadataRequest) { r.Topics = name("new") })
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(m.Topics[0].ErrorCode))
	m = get(9, func(r *kmsg.MetadataRequest) { r.Topics, r.AllowAutoTopicCreation = name("new"), true })
	require.Zero(t, m.Topics[0].ErrorCode)
	require.Len(t, m.Topics[0].Partitions, 2)
	require.EqualValues(t, testNode, m.Topics[0].Partitions[0].Leader, "led before the answer")
	m = get(1, func(r *kmsg.MetadataRequest) { r.Topics = name("old.client") })
	require.Zero(t, m.Topics[0].ErrorCode)
	for _, bad := range []string{"a/b", "", "..", "old_client", strings.Repeat("x", 250)} {
		m = get(9, func(r *kmsg.MetadataRequest) { r.Topics, r.AllowAutoTopicCreation = name(bad), true })
		require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(m.Topics[0].ErrorCode), bad)
	}
}

func TestAutoCreationOff(t *testing.T) {
	tb := start(t)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics, req.AllowAutoTopicCreation = []kmsg.MetadataRequestTopic{{Topic: new("x")}}, true
	m := ask(tb.dial(), req, 12).(*kmsg.MetadataResponse)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(m.Topics[0].ErrorCode))
}

func TestDeleteTopicsAndRecreate(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	put(c, id, 0, "x")
	del := func(version int16, topics ...kmsg.DeleteTopicsRequestTopic) []kmsg.DeleteTopicsResponseTopic {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Topics, req.TimeoutMillis = topics, 5000
		for _, rt := range topics {
			if rt.Topic != nil {
				req.TopicNames = append(req.TopicNames, *rt.Topic)
			}
		}
		return ask(c, req, version).(*kmsg.DeleteTopicsResponse).Topics
	}
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(del(5, kmsg.DeleteTopicsRequestTopic{Topic: new("u")})[0].ErrorCode))
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(del(6, kmsg.DeleteTopicsRequestTopic{TopicID: [16]byte{1}})[0].ErrorCode))
	require.Equal(t, "INVALID_REQUEST", names(del(6, kmsg.DeleteTopicsRequestTopic{})[0].ErrorCode))
	require.Equal(t, "INVALID_REQUEST", names(del(6, kmsg.DeleteTopicsRequestTopic{Topic: new("t"), TopicID: id})[0].ErrorCode))
	require.Equal(t, "INVALID_REQUEST", names(del(4, kmsg.DeleteTopicsRequestTopic{Topic: new("t")}, kmsg.DeleteTopicsRequestTopic{Topic: new("t")})[0].ErrorCode))
	got := del(6, kmsg.DeleteTopicsRequestTopic{Topic: new("t")})[0]
	require.Zero(t, got.ErrorCode)
	require.Equal(t, id, catalog.TopicID(got.TopicID))

	again := tb.topic("t", 1)
	require.NotEqual(t, id, again)
	p := ask(c, produceRequest("", id, 0, batchOf(t, batchSpec(), "x")), 13).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(p.ErrorCode))
	require.Zero(t, put(c, again, 0, "y"), "a new log")
}

func TestCreatePartitions(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 2)
	c := tb.dial()
	grow := func(name string, count int32, change func(*kmsg.CreatePartitionsRequest)) string {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 5000
		req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: name, Count: count}}
		change(req)
		return names(ask(c, req, 3).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode)
	}
	plain := func(*kmsg.CreatePartitionsRequest) {}
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", grow("u", 3, plain))
	require.Equal(t, "INVALID_PARTITIONS", grow("t", 2, plain))
	require.Equal(t, "INVALID_PARTITIONS", grow("t", 1, plain))
	require.Equal(t, "INVALID_PARTITIONS", grow("t", -5, plain))
	require.Equal(t, "INVALID_PARTITIONS", grow("t", 1_000_000, plain))
	require.Equal(t, "INVALID_REPLICA_ASSIGNMENT", grow("t", 4, func(r *kmsg.CreatePartitionsRequest) {
		r.Topics[0].Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{1}}}
	}))
	require.Equal(t, "INVALID_REQUEST", grow("t", 4, func(r *kmsg.CreatePartitionsRequest) { r.Topics = append(r.Topics, r.Topics[0]) }))
	require.Equal(t, "NONE", grow("t", 4, func(r *kmsg.CreatePartitionsRequest) { r.ValidateOnly = true }))
	_, n := tb.Topics()
	require.Equal(t, 2, n)
	require.Equal(t, "NONE", grow("t", 4, plain))
	put(c, id, 3, "into a new one")
}

func TestConfigs(t *testing.T) {
	tb := start(t)
	tb.topic("t", 1, "retention.ms", "1000")
	c := tb.dial()
	alter := func(kind kmsg.ConfigResourceType, name string, ops ...kmsg.IncrementalAlterConfigsRequestResourceConfig) string {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: ops}}
		return names(ask(c, req, 1).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}
	set := func(name, value string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
		return kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: &value}
	}
	op := func(o kmsg.IncrementalAlterConfigOp, name, value string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
		return kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: o, Value: &value}
	}
	topicKind := kmsg.ConfigResourceTypeTopic
	configs := func() map[string]string { return tb.topics.load().byName["t"].Configs }

	require.Equal(t, "NONE", alter(topicKind, "t", set("max.message.bytes", "100"), op(kmsg.IncrementalAlterConfigOpAppend, "cleanup.policy", "compact")))
	require.Equal(t, map[string]string{"retention.ms": "1000", "max.message.bytes": "100", "cleanup.policy": "delete,compact"}, configs())
	require.Equal(t, "MESSAGE_TOO_LARGE", names(produceOne(c, "t", batchOf(t, batchSpec(), strings.Repeat("x", 200))).ErrorCode), "in force at once")
	require.Equal(t, "NONE", alter(topicKind, "t", op(kmsg.IncrementalAlterConfigOpSubtract, "cleanup.policy", "delete"), op(kmsg.IncrementalAlterConfigOpDelete, "retention.ms", "")))
	require.Equal(t, map[string]string{"max.message.bytes": "100", "cleanup.policy": "compact"}, configs())
	for _, x := range []struct {
		want string
		ops  []kmsg.IncrementalAlterConfigsRequestResourceConfig
	}{
		{"INVALID_CONFIG", []kmsg.IncrementalAlterConfigsRequestResourceConfig{set("nope", "1")}},
		{"INVALID_CONFIG", []kmsg.IncrementalAlterConfigsRequestResourceConfig{set("retention.ms", "x")}},
		{"INVALID_CONFIG", []kmsg.IncrementalAlterConfigsRequestResourceConfig{op(kmsg.IncrementalAlterConfigOpAppend, "retention.ms", "1")}},
		{"INVALID_CONFIG", []kmsg.IncrementalAlterConfigsRequestResourceConfig{set("min.compaction.lag.ms", "10"), set("max.compaction.lag.ms", "5")}},
		{"INVALID_REQUEST", []kmsg.IncrementalAlterConfigsRequestResourceConfig{set("retention.ms", "1"), set("retention.ms", "2")}},
		{"INVALID_REQUEST", []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms"}}},
		{"INVALID_REQUEST", []kmsg.IncrementalAlterConfigsRequestResourceConfig{op(9, "retention.ms", "1")}},
	} {
		require.Equal(t, x.want, alter(topicKind, "t", x.ops...), "%v", x.ops)
	}
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", alter(topicKind, "u", set("retention.ms", "1")))
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", alter(topicKind, "a/b", set("retention.ms", "1")))
	require.Equal(t, "INVALID_REQUEST", alter(kmsg.ConfigResourceTypeBroker, "7", set("num.io.threads", "1")))
	require.Equal(t, "INVALID_REQUEST", alter(kmsg.ConfigResourceTypeClientMetrics, "g", set("x", "1")))

	req := kmsg.NewPtrAlterConfigsRequest()
	req.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: topicKind, ResourceName: "t", Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "segment.ms", Value: new("5")}}}}
	req.ValidateOnly = true
	require.Zero(t, ask(c, req, 2).(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode)
	require.Len(t, configs(), 2)
	req.ValidateOnly = false
	require.Zero(t, ask(c, req, 2).(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode)
	require.Equal(t, map[string]string{"segment.ms": "5"}, configs(), "replaced as a whole")

	d := kmsg.NewPtrDescribeConfigsRequest()
	d.IncludeSynonyms, d.IncludeDocumentation = true, true
	d.Resources = []kmsg.DescribeConfigsRequestResource{
		{ResourceType: topicKind, ResourceName: "t"},
		{ResourceType: topicKind, ResourceName: "t", ConfigNames: []string{"segment.ms"}},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "7"},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "8"},
		{ResourceType: kmsg.ConfigResourceTypeBroker},
		{ResourceType: topicKind, ResourceName: "u"},
	}
	rs := ask(c, d, 4).(*kmsg.DescribeConfigsResponse).Resources
	require.Len(t, rs[0].Configs, len(topicConfigs))
	require.Len(t, rs[1].Configs, 1)
	sc := rs[1].Configs[0]
	require.Equal(t, "5", *sc.Value)
	require.Equal(t, kmsg.ConfigSourceDynamicTopicConfig, sc.Source)
	require.Equal(t, kmsg.ConfigTypeLong, sc.ConfigType)
	require.Len(t, sc.ConfigSynonyms, 2)
	require.NotEmpty(t, *sc.Documentation)
	require.NotEmpty(t, rs[2].Configs)
	require.True(t, rs[2].Configs[0].ReadOnly)
	require.Equal(t, "INVALID_REQUEST", names(rs[3].ErrorCode))
	require.Empty(t, rs[4].Configs)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(rs[5].ErrorCode))
}

func TestListOffsets(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	now := time.Now().UnixMilli()
	for i, ts := range []int64{now, now + 2000, now + 1000} {
		spec := batchSpec()
		spec.FirstTimestamp = ts
		require.EqualValues(t, i, produceOne(c, "t", batchOf(t, spec, "x")).BaseOffset)
	}
	get := func(version int16, ts int64) kmsg.ListOffsetsResponseTopicPartition {
		return ask(c, listOffsetsRequest("t", ts), version).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	}
	for _, x := range []struct {
		ts, offset, found int64
	}{{tsLatest, 3, -1}, {tsEarliest, 0, -1}, {tsMax, 1, now + 2000}, {tsEarliestLocal, 0, -1}, {tsLatestTiered, -1, -1}, {now, 0, now}, {now + 500, 1, now + 2000}, {now + 5000, -1, -1}} {
		p := get(11, x.ts)
		require.Zero(t, p.ErrorCode)
		require.Equal(t, x.offset, p.Offset, "timestamp %d", x.ts)
		require.Equal(t, x.found, p.Timestamp, "timestamp %d", x.ts)
	}
	require.Equal(t, "UNSUPPORTED_VERSION", names(get(6, tsMax).ErrorCode))
	require.Equal(t, "UNSUPPORTED_VERSION", names(get(11, -42).ErrorCode))
	p := ask(c, listOffsetsRequest("u", tsLatest), 5).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(p.ErrorCode))

	// DeleteRecords moves the start.
	del := kmsg.NewPtrDeleteRecordsRequest()
	del.TimeoutMillis = 5000
	del.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 2}, {Partition: 4}}}}
	dp := ask(c, del, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions
	require.Zero(t, dp[0].ErrorCode)
	require.EqualValues(t, 2, dp[0].LowWatermark)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(dp[1].ErrorCode))
	require.EqualValues(t, 2, get(7, tsEarliest).Offset)
	del.Topics[0].Partitions = []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 9}, {Offset: -1}}
	dp = ask(c, del, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions
	require.Equal(t, "OFFSET_OUT_OF_RANGE", names(dp[0].ErrorCode))
	require.EqualValues(t, 3, dp[1].LowWatermark)
	f := ask(c, fetchRequest("", id, 0), 16).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Equal(t, "OFFSET_OUT_OF_RANGE", names(f.ErrorCode))

	e := kmsg.NewPtrOffsetForLeaderEpochRequest()
	epoch, err := tb.e.Leader(catalog.TopicPartition{Topic: id})
	require.NoError(t, err)
	e.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{
		{CurrentLeaderEpoch: -1, LeaderEpoch: epoch}, {Partition: 3}, {CurrentLeaderEpoch: epoch + 1},
	}}}
	ep := ask(c, e, 4).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions
	require.EqualValues(t, 3, ep[0].EndOffset)
	require.Equal(t, epoch, ep[0].LeaderEpoch)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(ep[1].ErrorCode))
	require.Equal(t, "UNKNOWN_LEADER_EPOCH", names(ep[2].ErrorCode))
}

func TestInitProducerID(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	get := func(change func(*kmsg.InitProducerIDRequest)) *kmsg.InitProducerIDResponse {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionTimeoutMillis = 1000
		change(req)
		return ask(c, req, 5).(*kmsg.InitProducerIDResponse)
	}
	a, b := get(func(*kmsg.InitProducerIDRequest) {}), get(func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = 1, 5 })
	require.Zero(t, a.ErrorCode)
	require.Zero(t, b.ErrorCode)
	require.NotEqual(t, a.ProducerID, b.ProducerID)
	require.Zero(t, b.ProducerEpoch)
	require.Equal(t, "INVALID_REQUEST", names(get(func(r *kmsg.InitProducerIDRequest) { r.ProducerID = 1 }).ErrorCode))
	require.Equal(t, "INVALID_REQUEST", names(get(func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = new("") }).ErrorCode))
	require.Equal(t, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", names(get(func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = new("tx") }).ErrorCode))
}

func TestDescribeTopicPartitions(t *testing.T) {
	tb := start(t)
	tb.topic("a", 3)
	tb.topic("b", 5)
	c := tb.dial()
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 2
	var got []string
	for range 10 {
		resp := ask(c, req, 0).(*kmsg.DescribeTopicPartitionsResponse)
		for _, rt := range resp.Topics {
			for _, p := range rt.Partitions {
				got = append(got, fmt.Sprint(*rt.Topic, p.Partition))
				require.NotNil(t, p.EligibleLeaderReplicas)
				require.NotNil(t, p.LastKnownELR)
			}
		}
		if resp.NextCursor == nil {
			break
		}
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
	}
	require.Equal(t, []string{"a0", "a1", "a2", "b0", "b1", "b2", "b3", "b4"}, got)
	req.Cursor, req.Topics = nil, []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "nope"}, {Topic: "a/b"}}
	resp := ask(c, req, 0).(*kmsg.DescribeTopicPartitionsResponse)
	require.Equal(t, "INVALID_TOPIC_EXCEPTION", names(resp.Topics[0].ErrorCode))
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(resp.Topics[1].ErrorCode))
}

func TestSmallAPIs(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 2)
	c := tb.dial()
	put(c, id, 0, "x")

	ld := ask(c, kmsg.NewPtrDescribeLogDirsRequest(), 5).(*kmsg.DescribeLogDirsResponse)
	require.Len(t, ld.Dirs, 1)
	require.Positive(t, ld.Dirs[0].Topics[0].Partitions[0].Size)

	require.Equal(t, "SECURITY_DISABLED", names(ask(c, kmsg.NewPtrDescribeACLsRequest(), 3).(*kmsg.DescribeACLsResponse).ErrorCode))

	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.CoordinatorKey, fc.CoordinatorKeys = "g", []string{"g", "h"}
	require.Equal(t, "COORDINATOR_NOT_AVAILABLE", names(ask(c, fc, 3).(*kmsg.FindCoordinatorResponse).ErrorCode))
	require.Len(t, ask(c, fc, 6).(*kmsg.FindCoordinatorResponse).Coordinators, 2)
	fc.CoordinatorType = 9
	require.Equal(t, "INVALID_REQUEST", names(ask(c, fc, 3).(*kmsg.FindCoordinatorResponse).ErrorCode))

	el := kmsg.NewPtrElectLeadersRequest()
	el.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 7}}}
	ep := ask(c, el, 2).(*kmsg.ElectLeadersResponse).Topics[0].Partitions
	require.Equal(t, "ELECTION_NOT_NEEDED", names(ep[0].ErrorCode))
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(ep[1].ErrorCode))
	el.Topics = nil
	require.Empty(t, ask(c, el, 2).(*kmsg.ElectLeadersResponse).Topics)

	ra := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	ra.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
		{Partition: 0, Replicas: []int32{testNode}}, {Partition: 1, Replicas: []int32{1, 2}}, {Partition: 0}, {Partition: 5, Replicas: []int32{1}},
	}}}
	var codes []string
	for _, p := range ask(c, ra, 1).(*kmsg.AlterPartitionAssignmentsResponse).Topics[0].Partitions {
		codes = append(codes, names(p.ErrorCode))
	}
	require.Equal(t, []string{"NONE", "INVALID_REPLICA_ASSIGNMENT", "NO_REASSIGNMENT_IN_PROGRESS", "UNKNOWN_TOPIC_OR_PARTITION"}, codes)
	require.Empty(t, ask(c, kmsg.NewPtrListPartitionReassignmentsRequest(), 0).(*kmsg.ListPartitionReassignmentsResponse).Topics)

	dc := kmsg.NewPtrDescribeClusterRequest()
	dc.IncludeClusterAuthorizedOperations, dc.EndpointType = true, 1
	cl := ask(c, dc, 2).(*kmsg.DescribeClusterResponse)
	require.Equal(t, "test-cluster", cl.ClusterID)
	require.EqualValues(t, clusterOperations, cl.ClusterAuthorizedOperations)
	dc.EndpointType = 2
	require.Equal(t, "MISMATCHED_ENDPOINT_TYPE", names(ask(c, dc, 1).(*kmsg.DescribeClusterResponse).ErrorCode))

	lr := kmsg.NewPtrListConfigResourcesRequest()
	require.Empty(t, ask(c, lr, 0).(*kmsg.ListConfigResourcesResponse).ConfigResources)
	require.Len(t, ask(c, lr, 1).(*kmsg.ListConfigResourcesResponse).ConfigResources, 2)
	lr.ResourceTypes = []int8{99}
	require.Equal(t, "UNSUPPORTED_VERSION", names(ask(c, lr, 1).(*kmsg.ListConfigResourcesResponse).ErrorCode))
}

// TestEveryVersionOfEveryAPI sends the zero request of every version in the table: each is decoded, handled and
// answered in that version.
func TestEveryVersionOfEveryAPI(t *testing.T) {
	tb := start(t)
	tb.topic("t", 1)
	c := tb.dial()
	for _, a := range table() {
		for v := a.min; v <= a.max; v++ {
			req := kmsg.RequestForKey(a.key)
			require.LessOrEqual(t, v, req.MaxVersion(), a.name)
			if p, ok := req.(*kmsg.ProduceRequest); ok {
				p.Acks = -1 // or none is due
			}
			ask(c, req, v)
		}
	}
}

func TestWithKadm(t *testing.T) {
	tb := start(t)
	adm := kadm.NewClient(tb.client())
	ctx := t.Context()
	created, err := adm.CreateTopics(ctx, 3, 3, map[string]*string{"retention.ms": new("5000")}, "a", "b")
	require.NoError(t, err)
	require.NoError(t, created.Error())
	topics, err := adm.ListTopics(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, topics.Names())
	rc, err := adm.DescribeTopicConfigs(ctx, "a")
	require.NoError(t, err)
	require.Len(t, rc[0].Configs, len(topicConfigs))
	ends, err := adm.ListEndOffsets(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	deleted, err := adm.DeleteTopics(ctx, "a", "b")
	require.NoError(t, err)
	require.NoError(t, deleted.Error())
	meta, err := adm.BrokerMetadata(ctx)
	require.NoError(t, err)
	require.EqualValues(t, testNode, meta.Controller)
}

// lostConfigs loses the answers to the first changes of configs, which are applied.
type lostConfigs struct {
	catalog.Catalog
	lose, made atomic.Int32
}

func (l *lostConfigs) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	topic, err := l.Catalog.SetTopicConfigs(ctx, id, version, configs)
	if l.made.Add(1) <= l.lose.Load() && err == nil {
		return catalog.Topic{}, catalog.ErrUnavailable
	}
	return topic, err
}

// What shows of a change whose answer was lost may not last (ADR 22): it is made again, once the catalog answers.
func TestConfigsWhoseAnswerWasLost(t *testing.T) {
	cat := &lostConfigs{}
	tb := start(t, func(cfg *Config) { cat.Catalog, cfg.Catalog = cfg.Catalog, cat })
	tb.topic("t", 1)
	c := tb.dial()
	alter := func(value string) string {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t",
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}},
		}}
		return names(ask(c, req, 1).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}
	cat.lose.Store(2)
	require.Equal(t, "NONE", alter("1000"))
	require.EqualValues(t, 3, cat.made.Load(), "two without an answer, one with")
	require.Equal(t, "NONE", alter("1000"))
	require.EqualValues(t, 3, cat.made.Load(), "nothing to change")
	cat.lose.Store(100)
	require.Equal(t, "REQUEST_TIMED_OUT", alter("2000"))
}
