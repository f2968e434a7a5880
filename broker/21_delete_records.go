package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (key 21), versions 0–2: the log start moves up, durably, before the answer. -1 means the high
// watermark. The leader alone does it; others answer NOT_LEADER_OR_FOLLOWER. Internal topics are
// INVALID_TOPIC_EXCEPTION, as in Kafka. No deviations.

func (b *Broker) deleteRecords(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Version = r.version
	ctx, cancel := b.adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	im := b.topics.load()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = rp.Partition, -1
			switch {
			case t == nil || !t.has(rp.Partition):
				p.ErrorCode = codeUnknownTopicOrPartition
			case t.internal:
				p.ErrorCode = codeInvalidTopic
			case rp.Offset < -1:
				p.ErrorCode = codeOffsetOutOfRange
			default:
				low, err := b.cfg.Log.DeleteRecords(ctx, t.partition(rp.Partition), rp.Offset)
				if p.ErrorCode = codeOf(err); err == nil {
					p.LowWatermark = low
				} else if !routine(p.ErrorCode) {
					b.limited.warn("delete records failed", "topic", t.Name, "partition", rp.Partition, "error", err)
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// adminTimeout bounds a request about topics by its own timeout, within reason.
func (b *Broker) adminTimeout(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	const most = 2 * time.Minute
	d := min(time.Duration(max(millis, 1))*time.Millisecond, most)
	return context.WithTimeout(ctx, d)
}
