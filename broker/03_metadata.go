package broker

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata (key 3), versions 0–13.
//
// Behaviour: a null list (version 0: an empty one) means all topics; topics by id from version 10 on; missing topics
// are created when broker and client allow it, before the answer, which waits a moment for their leaders. Brokers are
// shown with the addresses of the listener the request came in by (of a broker without that listener: its first). A
// partition whose lease is free is LEADER_NOT_AVAILABLE. While there is no controller, the broker itself is named: every
// broker takes every request.
//
// Deviations: replicas are the brokers that rack-aware consumers may go to, see placer; all of them are in sync. There are
// as many as the topic's replication factor asks for, or as there are brokers.

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
	resp.ClusterID = &b.cfg.ClusterID
	resp.AuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)

	found := b.metadataTopics(ctx, req)
	f := b.fleet() // after the topics: it has the leaders of those that were made for this request
	for i := range f.nodes {
		n := kmsg.NewMetadataResponseBroker()
		e := f.nodes[i].endpoint(r.conn.listener)
		n.NodeID, n.Host, n.Port, n.Rack = f.nodes[i].ID, e.Host, e.Port, f.nodes[i].rack()
		resp.Brokers = append(resp.Brokers, n)
	}
	resp.ControllerID = f.controller
	ops := operations(req.IncludeTopicAuthorizedOperations, topicOperations)
	p := f.placer()
	resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(found))
	for i := range found {
		if t := found[i].t; t != nil {
			resp.Topics = append(resp.Topics, b.describeTopic(p, t, ops))
			continue
		}
		rt := &req.Topics[i]
		out := kmsg.NewMetadataResponseTopic()
		out.ErrorCode, out.Topic, out.TopicID = found[i].code, rt.Topic, rt.TopicID
		if out.Topic == nil && r.version < 12 {
			out.Topic = new("") // not nullable yet
		}
		out.Partitions = []kmsg.MetadataResponseTopicPartition{}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// foundTopic is a topic asked for, or why there is none.
type foundTopic struct {
	t    *topic
	code int16
}

// metadataTopics finds the topics asked for, in that order, or all of them, and makes missing ones. It waits a moment
// for the leaders of those that were just made, by whomever.
func (b *Broker) metadataTopics(ctx context.Context, req *kmsg.MetadataRequest) []foundTopic {
	im := b.topics.load()
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		all := make([]foundTopic, len(im.sorted))
		for i, t := range im.sorted {
			all[i].t = t
		}
		return all
	}
	create := b.cfg.AutoCreateTopics && (req.Version < 4 || req.AllowAutoTopicCreation)
	found := make([]foundTopic, len(req.Topics))
	f := b.fleet()
	var fresh []made
	for i := range req.Topics {
		t, code := b.metadataTopic(ctx, &req.Topics[i], create)
		if t != nil && b.shares && b.neverLed(f, t) {
			fresh = append(fresh, made{t: t})
		}
		found[i] = foundTopic{t, code}
	}
	b.awaitLeaders(ctx, fresh)
	return found
}

// metadataTopic finds one topic asked for, or creates it.
func (b *Broker) metadataTopic(ctx context.Context, rt *kmsg.MetadataRequestTopic, create bool) (*topic, int16) {
	im := b.topics.load()
	if rt.Topic == nil || rt.TopicID != [16]byte{} {
		if im.byID[rt.TopicID] == nil {
			b.lookAgain(ctx)
		}
		if t := b.topics.load().byID[rt.TopicID]; t != nil {
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
	if name == hiddenTopic {
		return nil, codeUnknownTopicOrPartition
	}
	if !create || internalTopic(name) {
		b.lookAgain(ctx)
		if t := b.topics.load().byName[name]; t != nil {
			return t, codeNone
		}
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
func (b *Broker) describeTopic(pl *placer, t *topic, ops int32) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = &t.Name, t.ID
	out.IsInternal = t.internal
	out.AuthorizedOperations = ops
	replicas := make([]int32, 0, int(t.Partitions)*pl.f.most(t))
	none := []int32{}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, t.Partitions)
	for i := range out.Partitions {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition = int32(i)
		p.Leader, p.LeaderEpoch = b.leaderOf(pl.f, t.partition(p.Partition))
		n := len(replicas)
		replicas = pl.replicas(replicas, t, p.Partition, p.Leader)
		set := replicas[n:len(replicas):len(replicas)]
		p.Replicas, p.ISR, p.OfflineReplicas = set, set, none
		if p.Leader < 0 {
			p.ErrorCode = codeLeaderNotAvailable
		}
		out.Partitions[i] = p
	}
	return out
}
