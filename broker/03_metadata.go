package broker

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata (key 3), versions 0–13.
//
// Behaviour: a null list (version 0: an empty one) means all topics; topics by id from version 10 on; missing topics
// are created when broker and client allow it, before the answer, so that the first answer already has leaders.
//
// Deviations: one replica per partition, its leader. A partition without a leader that this broker knows is
// LEADER_NOT_AVAILABLE.

// Operations a client may do without an authorizer, as bits by Kafka's AclOperation number.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	// notAsked stands for operations that were not asked for.
	notAsked = math.MinInt32
)

func operations(asked bool, ops int32) int32 {
	if !asked {
		return notAsked
	}
	return ops
}

func (b *Broker) metadata(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.MetadataRequest)
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = r.version
	e := b.endpoint(r.conn.listener)
	n := kmsg.NewMetadataResponseBroker()
	n.NodeID, n.Host, n.Port, n.Rack = b.cfg.NodeID, e.Host, e.Port, b.rack()
	resp.Brokers = append(resp.Brokers, n)
	resp.ClusterID, resp.ControllerID = &b.cfg.ClusterID, b.cfg.NodeID
	resp.AuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	ops := operations(req.IncludeTopicAuthorizedOperations, topicOperations)

	im := b.topics.load()
	if req.Topics == nil || r.version == 0 && len(req.Topics) == 0 {
		resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(im.sorted))
		for _, t := range im.sorted {
			resp.Topics = append(resp.Topics, b.describeTopic(t, ops))
		}
		return resp, nil
	}
	create := b.cfg.AutoCreateTopics && (r.version < 4 || req.AllowAutoTopicCreation)
	resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(req.Topics))
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, code := b.metadataTopic(ctx, rt, create)
		if t != nil {
			resp.Topics = append(resp.Topics, b.describeTopic(t, ops))
			continue
		}
		out := kmsg.NewMetadataResponseTopic()
		out.ErrorCode, out.Topic, out.TopicID = code, rt.Topic, rt.TopicID
		if out.Topic == nil && r.version < 12 {
			out.Topic = new("") // not nullable yet
		}
		out.Partitions = []kmsg.MetadataResponseTopicPartition{}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// metadataTopic finds one topic asked for, or creates it.
func (b *Broker) metadataTopic(ctx context.Context, rt *kmsg.MetadataRequestTopic, create bool) (*topic, int16) {
	im := b.topics.load()
	if rt.Topic == nil || rt.TopicID != [16]byte{} {
		if t := im.byID[rt.TopicID]; t != nil {
			return t, codeNone
		}
		return nil, codeUnknownTopicID
	}
	name := *rt.Topic
	if t := im.byName[name]; t != nil {
		return t, codeNone
	}
	if checkTopicName(name) != "" {
		return nil, codeInvalidTopic
	}
	if !create {
		return nil, codeUnknownTopicOrPartition
	}
	if _, ok := im.collision(name); ok {
		return nil, codeInvalidTopic
	}
	t, f := b.createTopic(ctx, name, b.cfg.NumPartitions, b.cfg.ReplicationFactor, nil)
	if f == nil {
		return t, codeNone
	}
	if f.code == codeTopicAlreadyExists { // somebody else was first
		if t := b.topics.load().byName[name]; t != nil {
			return t, codeNone
		}
		return nil, codeLeaderNotAvailable
	}
	if f.code == codeRequestTimedOut { // retried by clients, unlike the catalog's own reasons
		return nil, codeLeaderNotAvailable
	}
	return nil, f.code
}

// describeTopic is a topic as Metadata shows it.
func (b *Broker) describeTopic(t *topic, ops int32) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = &t.Name, t.ID
	out.IsInternal = internalTopic(t.Name)
	out.AuthorizedOperations = ops
	self := []int32{b.cfg.NodeID}
	none := []int32{}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, t.Partitions)
	for i := range out.Partitions {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition = int32(i)
		p.Leader, p.LeaderEpoch = b.leaderOf(t.partition(p.Partition))
		p.Replicas, p.ISR, p.OfflineReplicas = self, self, none
		if p.Leader < 0 {
			p.ErrorCode = codeLeaderNotAvailable
		}
		out.Partitions[i] = p
	}
	return out
}
