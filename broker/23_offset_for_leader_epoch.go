package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (key 23), versions 2–4: the end of an epoch, for clients that check whether their log
// position was truncated (KIP-320). The leader alone answers, once the catalog affirmed that it still led when it had
// the answer. No deviations.

func (b *Broker) offsetForLeaderEpoch(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Version = r.version
	im := b.topics.load()
	var said []leaderSays
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = rp.Partition, -1, -1
			if t == nil || !t.has(rp.Partition) {
				p.ErrorCode = codeUnknownTopicOrPartition
				out.Partitions = append(out.Partitions, p)
				continue
			}
			tp := t.partition(rp.Partition)
			epoch, code := b.checkLeaderEpoch(tp, rp.CurrentLeaderEpoch)
			p.ErrorCode = code
			if code == codeNone {
				if end, err := b.cfg.Log.EndOfEpoch(ctx, tp, rp.LeaderEpoch); err != nil {
					p.ErrorCode = codeOf(err)
				} else {
					p.LeaderEpoch, p.EndOffset = end.Epoch, end.End
					said = append(said, leaderSays{tp: tp, epoch: epoch, topic: i, partition: j})
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	for _, s := range b.unaffirmed(ctx, said) {
		p := &resp.Topics[s.topic].Partitions[s.partition]
		p.ErrorCode, p.LeaderEpoch, p.EndOffset = s.code, -1, -1
	}
	return resp, nil
}
