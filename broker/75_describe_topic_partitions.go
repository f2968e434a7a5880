package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions (key 75), version 0: topics by name, at most max.request.partition.size.limit partitions,
// with a cursor to go on from. Leaders and replicas are those of Metadata. The lists of eligible and last known leader
// replicas (KIP-966) are empty, since every replica is in sync, and never null: the Java client fails on null. No
// deviations.

func (b *Broker) describeTopicPartitions(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeTopicPartitionsRequest)
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	resp.Version = r.version
	resp.Topics = []kmsg.DescribeTopicPartitionsResponseTopic{}
	im := b.topics.load()
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	if slices.ContainsFunc(names, func(n string) bool { return im.byName[n] == nil }) {
		b.lookAgain(ctx)
		im = b.topics.load()
	}
	pl := b.fleet().placer()
	if len(req.Topics) == 0 {
		for _, t := range im.sorted {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if c := req.Cursor; c != nil && c.Partition < 0 {
		for _, n := range names {
			resp.Topics = append(resp.Topics, missingTopic(n, codeInvalidRequest))
		}
		return resp, nil
	}
	left := min(max(req.ResponsePartitionLimit, 1), b.cfg.Limits.DescribePartitions)
	for _, name := range names {
		from := int32(0)
		if c := req.Cursor; c != nil {
			if name < c.Topic {
				continue
			}
			if name == c.Topic {
				from = c.Partition
			}
		}
		if left <= 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: from}
			break
		}
		t := im.byName[name]
		if t == nil {
			code := codeUnknownTopicOrPartition
			if checkTopicName(name) != "" {
				code = codeInvalidTopic
			}
			resp.Topics = append(resp.Topics, missingTopic(name, code))
			continue
		}
		to := min(t.Partitions, max(from, 0)+left)
		resp.Topics = append(resp.Topics, b.describeRange(pl, t, from, to))
		left -= max(to-from, 0)
		if to < t.Partitions {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: to}
			break
		}
	}
	return resp, nil
}

func missingTopic(name string, code int16) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.ErrorCode, out.Topic, out.AuthorizedOperations = code, &name, notAsked
	out.Partitions = []kmsg.DescribeTopicPartitionsResponseTopicPartition{}
	return out
}

func (b *Broker) describeRange(pl *placer, t *topic, from, to int32) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.internal
	out.AuthorizedOperations = topicOperations
	out.Partitions = []kmsg.DescribeTopicPartitionsResponseTopicPartition{}
	none := []int32{}
	for n := from; n < to; n++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition = n
		p.LeaderID, p.LeaderEpoch = b.leaderOf(pl.f, t.partition(n))
		if p.LeaderID < 0 {
			p.ErrorCode = codeLeaderNotAvailable
		}
		set := pl.replicas(nil, t, n, p.LeaderID)
		p.Replicas, p.ISR, p.OfflineReplicas = set, set, none
		p.EligibleLeaderReplicas, p.LastKnownELR = none, none
		out.Partitions = append(out.Partitions, p)
	}
	return out
}
