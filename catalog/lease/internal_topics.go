package lease

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
)

// The internal topics. Their partitions stand for roles, not for logs: whoever holds the lease has the role.
const (
	// GroupsName is the topic of the group coordinators' shards. Kafka: offsets.topic.num.partitions.
	GroupsName       = "__consumer_offsets"
	GroupsPartitions = 50
	// TransactionsName is the topic of the transaction coordinators' shards. Kafka: transaction.state.log.num.partitions.
	TransactionsName       = "__transaction_state"
	TransactionsPartitions = 50
	// ControllerName is the topic of the controller. Clients do not see it.
	ControllerName       = "__cluster_metadata"
	ControllerPartitions = 1
)

// Ids of the internal topics: the same in all clusters, so that each broker can make them and a repeat is harmless. That
// of the controller's topic is Kafka's.
var (
	ControllerID   = catalog.TopicID{15: 1}
	GroupsID       = catalog.GroupsTopic
	TransactionsID = catalog.TopicID{0x73, 0x68, 6: 0x40, 8: 0x80, 15: 3}
)

// ControllerLease is the lease whose holder is the controller.
func ControllerLease() catalog.TopicPartition { return catalog.TopicPartition{Topic: ControllerID} }

// Internal tells whether a topic id is one of an internal topic.
func Internal(id catalog.TopicID) bool {
	return id == ControllerID || id == GroupsID || id == TransactionsID
}

// EnsureInternal makes the internal topics that do not exist yet. Any number of brokers may do so at once, and again.
// catalog.ErrTopicExists when another topic has one of the names.
func EnsureInternal(ctx context.Context, topics catalog.Topics) error {
	return ensure(ctx, topics, []catalog.TopicSpec{
		{ID: ControllerID, Name: ControllerName, Partitions: ControllerPartitions, ReplicationFactor: 1},
		groupsSpec(),
		{ID: TransactionsID, Name: TransactionsName, Partitions: TransactionsPartitions, ReplicationFactor: 1},
	})
}

// EnsureGroups makes only the internal topic of groups: all that a broker needs that is alone.
func EnsureGroups(ctx context.Context, topics catalog.Topics) error {
	return ensure(ctx, topics, []catalog.TopicSpec{groupsSpec()})
}

func groupsSpec() catalog.TopicSpec {
	return catalog.TopicSpec{ID: GroupsID, Name: GroupsName, Partitions: GroupsPartitions, ReplicationFactor: 1}
}

func ensure(ctx context.Context, topics catalog.Topics, specs []catalog.TopicSpec) error {
	for _, spec := range specs {
		if _, err := topics.CreateTopic(ctx, spec); err != nil {
			return fmt.Errorf("make the internal topic %s: %w", spec.Name, err)
		}
	}
	return nil
}
