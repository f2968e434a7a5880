package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
)

// OffsetFetch (key 9), versions 1–10.
//
// Behaviour: offsets that are durable, of one group, or from version 8 on of many; topics are named by id from version 10 on.
// A group that never existed has the offset -1 everywhere, and is no error. With RequireStable (version 7) a partition with
// a commit on its way is UNSTABLE_OFFSET_COMMIT.
//
// Deviation: an empty group id is INVALID_GROUP_ID; Kafka keeps offsets under it.

func (b *Broker) offsetFetch(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.OffsetFetchRequest)
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = r.version
	if r.version < 8 {
		g, err := b.fetchOffsets(ctx, r, asGroup(req), req.RequireStable)
		if err != nil {
			return nil, err
		}
		resp.ErrorCode = g.ErrorCode
		resp.Topics = offsetsOf(&g)
		if r.version < 2 && g.ErrorCode != codeNone {
			resp.Topics = refusedOffsets(req, g.ErrorCode)
		}
		return resp, nil
	}
	for i := range req.Groups {
		g, err := b.fetchOffsets(ctx, r, &req.Groups[i], req.RequireStable)
		if err != nil {
			return nil, err
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp, nil
}

// fetchOffsets answers for one group.
func (b *Broker) fetchOffsets(ctx context.Context, r *request, rg *kmsg.OffsetFetchRequestGroup, stable bool) (kmsg.OffsetFetchResponseGroup, error) {
	knowTopics(ctx, b, rg.Topics, func(im *image, t *kmsg.OffsetFetchRequestGroupTopic) bool {
		return r.version < 10 || im.byID[t.TopicID] != nil
	})
	var out kmsg.OffsetFetchResponseGroup
	code, err := b.readGroup(ctx, rg.Group, func(g *group.Group) { out = g.FetchOffsets(rg, r.version, stable) })
	if err != nil || code == codeNone {
		return out, err
	}
	out = kmsg.NewOffsetFetchResponseGroup()
	out.Group, out.ErrorCode = rg.Group, code
	return out, nil
}

// asGroup is a request of versions below 8 in the words of the later ones.
func asGroup(req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics == nil {
		return &g
	}
	g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
	for i := range req.Topics {
		g.Topics[i].Topic, g.Topics[i].Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
	}
	return &g
}

// offsetsOf is a group's answer in the words of versions below 8.
func offsetsOf(g *kmsg.OffsetFetchResponseGroup) []kmsg.OffsetFetchResponseTopic {
	out := make([]kmsg.OffsetFetchResponseTopic, len(g.Topics))
	for i := range g.Topics {
		out[i].Topic = g.Topics[i].Topic
		for j := range g.Topics[i].Partitions {
			from := &g.Topics[i].Partitions[j]
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = from.Partition, from.Offset, from.LeaderEpoch, from.Metadata, from.ErrorCode
			out[i].Partitions = append(out[i].Partitions, p)
		}
	}
	return out
}

// refusedOffsets has a group's error with each partition: version 1 has no other place for it.
func refusedOffsets(req *kmsg.OffsetFetchRequest, code int16) []kmsg.OffsetFetchResponseTopic {
	out := make([]kmsg.OffsetFetchResponseTopic, len(req.Topics))
	for i := range req.Topics {
		out[i].Topic = req.Topics[i].Topic
		for _, n := range req.Topics[i].Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.Metadata, p.ErrorCode = n, -1, new(""), code
			out[i].Partitions = append(out[i].Partitions, p)
		}
	}
	return out
}
