package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// handler answers one request. A nil response with a nil error means that no answer is due (acks=0). An error closes
// the connection.
type handler func(b *Broker, ctx context.Context, r *request) (kmsg.Response, error)

// api is one row of the table.
type api struct {
	name     string
	key      int16
	min, max int16
	serve    handler
	// pipelined: started by the reader, before earlier requests are answered.
	pipelined bool
	// changes: a pipelined request behind this one waits for it.
	changes bool
	// note is for docs/protocol.md: what is different from Apache Kafka.
	note string
}

// table is the one table of what this broker answers, by key. ApiVersions and docs/protocol.md are made from it.
func table() []*api {
	return []*api{
		{key: 0, name: "Produce", min: 3, max: 13, serve: (*Broker).produce, pipelined: true, note: "Versions 0–2 are advertised, as Kafka does for librdkafka's feature check, and refused like any unsupported version. acks=1 and acks=all both mean: stored and committed. A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED."},
		{key: 1, name: "Fetch", min: 4, max: 18, serve: (*Broker).fetch, note: "A replica id is ignored. Internal topics are empty. From version 11 on every broker serves committed records of every partition; one that does not lead it answers OFFSET_NOT_AVAILABLE or NOT_LEADER_OR_FOLLOWER where Kafka's follower may say OFFSET_OUT_OF_RANGE. CurrentLeader is told from version 12 on (Kafka: 16)."},
		{key: 2, name: "ListOffsets", min: 1, max: 11, serve: (*Broker).listOffsets, note: "Earliest local (-4) is the log start; latest tiered (-5) is unknown (-1)."},
		{key: 3, name: "Metadata", min: 0, max: 13, serve: (*Broker).metadata, changes: true, note: "Replicas are the brokers that rack-aware consumers may be sent to: the leader and others, as many as the replication factor asks for or as there are brokers, all in sync. Durability comes from the object store. Without a controller, the broker asked names itself: every broker takes every request."},
		{key: 8, name: "OffsetCommit", min: 2, max: 10, serve: (*Broker).offsetCommit, note: "Answered once the offsets are in the catalog. Group ids are 1 to 1024 bytes, in this and all requests about groups; others are INVALID_GROUP_ID. Negative offsets, metadata that is not text and more than 200,000 partitions of a group are INVALID_COMMIT_OFFSET_SIZE."},
		{key: 9, name: "OffsetFetch", min: 1, max: 10, serve: (*Broker).offsetFetch},
		{key: 10, name: "FindCoordinator", min: 0, max: 6, serve: (*Broker).findCoordinator, note: "Transactional ids are COORDINATOR_NOT_AVAILABLE: there are no transactions yet."},
		{key: 11, name: "JoinGroup", min: 0, max: 9, serve: (*Broker).joinGroup},
		{key: 12, name: "Heartbeat", min: 0, max: 4, serve: (*Broker).heartbeat},
		{key: 13, name: "LeaveGroup", min: 0, max: 5, serve: (*Broker).leaveGroup},
		{key: 14, name: "SyncGroup", min: 0, max: 5, serve: (*Broker).syncGroup},
		{key: 15, name: "DescribeGroups", min: 0, max: 6, serve: (*Broker).describeGroups},
		{key: 16, name: "ListGroups", min: 0, max: 5, serve: (*Broker).listGroups},
		{key: 18, name: "ApiVersions", min: 0, max: 4, serve: (*Broker).apiVersions, note: "Of the features, group.version 1 is finalised."},
		{key: 19, name: "CreateTopics", min: 2, max: 7, serve: (*Broker).createTopics, changes: true, note: "Any replication factor from 1 to 32767 is noted; a manual assignment counts for its number of partitions. The answer waits up to 1 s for the leaders. Names of internal topics are INVALID_TOPIC_EXCEPTION."},
		{key: 20, name: "DeleteTopics", min: 1, max: 6, serve: (*Broker).deleteTopics, changes: true, note: "Internal topics are INVALID_TOPIC_EXCEPTION."},
		{key: 21, name: "DeleteRecords", min: 0, max: 2, serve: (*Broker).deleteRecords, changes: true},
		{key: 22, name: "InitProducerId", min: 0, max: 5, serve: (*Broker).initProducerID, changes: true, note: "A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED."},
		{key: 23, name: "OffsetForLeaderEpoch", min: 2, max: 4, serve: (*Broker).offsetForLeaderEpoch},
		{key: 29, name: "DescribeAcls", min: 1, max: 3, serve: (*Broker).describeACLs, note: "SECURITY_DISABLED, as Kafka without an authorizer."},
		{key: 32, name: "DescribeConfigs", min: 1, max: 4, serve: (*Broker).describeConfigs, note: "Topics, groups, and what exists of the broker's configs."},
		{key: 33, name: "AlterConfigs", min: 0, max: 2, serve: (*Broker).alterConfigs, changes: true, note: "Topics and groups only, internal topics are INVALID_TOPIC_EXCEPTION; broker configs are flags of the process and are refused."},
		{key: 35, name: "DescribeLogDirs", min: 1, max: 5, serve: (*Broker).describeLogDirs, note: "One directory, named streamhouse: the object store. Its capacity is unknown (-1)."},
		{key: 37, name: "CreatePartitions", min: 0, max: 3, serve: (*Broker).createPartitions, changes: true, note: "Internal topics are INVALID_TOPIC_EXCEPTION."},
		{key: 42, name: "DeleteGroups", min: 0, max: 2, serve: (*Broker).deleteGroups},
		{key: 43, name: "ElectLeaders", min: 0, max: 2, serve: (*Broker).electLeaders, note: "ELECTION_NOT_NEEDED for every partition with a leader; the brokers elect others by themselves."},
		{key: 44, name: "IncrementalAlterConfigs", min: 0, max: 1, serve: (*Broker).incrementalAlterConfigs, changes: true, note: "As AlterConfigs: topics and groups only; broker configs are flags of the process and are refused."},
		{key: 45, name: "AlterPartitionReassignments", min: 0, max: 1, serve: (*Broker).alterPartitionAssignments, note: "Accepted when the target is true already: the replicas as shown, or the leader alone; otherwise INVALID_REPLICA_ASSIGNMENT. A cancellation is NO_REASSIGNMENT_IN_PROGRESS."},
		{key: 46, name: "ListPartitionReassignments", min: 0, max: 0, serve: (*Broker).listPartitionReassignments, note: "Always empty."},
		{key: 47, name: "OffsetDelete", min: 0, max: 0, serve: (*Broker).offsetDelete},
		{key: 60, name: "DescribeCluster", min: 0, max: 2, serve: (*Broker).describeCluster, note: "Fenced brokers are never shown."},
		{key: 61, name: "DescribeProducers", min: 0, max: 0, serve: (*Broker).describeProducers, note: "By the leader only."},
		{key: 68, name: "ConsumerGroupHeartbeat", min: 0, max: 1, serve: (*Broker).consumerGroupHeartbeat},
		{key: 69, name: "ConsumerGroupDescribe", min: 0, max: 1, serve: (*Broker).consumerGroupDescribe},
		{key: 74, name: "ListConfigResources", min: 0, max: 1, serve: (*Broker).listConfigResources, note: "Topics, brokers and groups that have configs; no client metrics subscriptions (the whole of version 0) or loggers."},
		{key: 75, name: "DescribeTopicPartitions", min: 0, max: 0, serve: (*Broker).describeTopicPartitions},
	}
}

// lowest is the lowest version ApiVersions tells.
func (a *api) lowest() int16 {
	if a.key == 0 {
		return 0 // librdkafka's feature check asks for Produce 0–2, as does Kafka's own answer
	}
	return a.min
}
