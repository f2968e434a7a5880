package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (key 23), versions 2–4: the end of an epoch, for clients that check whether their log
// position was truncated (KIP-320). The leader alone answers, under a lease it still trusts when it has the answer. No
// deviations.

func (b *Broker) offsetForLeaderEpoch(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Version = r.version
	im := b.topics.load()
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
				end, err := b.cfg.Log.EndOfEpoch(ctx, tp, rp.LeaderEpoch)
				after, lerr := b.cfg.Log.Leader(tp)
				switch {
				case err != nil:
					p.ErrorCode = codeOf(err)
				case lerr != nil || after != epoch:
					p.ErrorCode = codeNotLeaderOrFollower
				default:
					p.LeaderEpoch, p.EndOffset = end.Epoch, end.End
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
