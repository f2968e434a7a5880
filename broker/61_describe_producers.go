package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers (key 61), version 0: the idempotent producers a partition remembers.
//
// Deviation: only the leader answers; in Kafka any replica does.

func (b *Broker) describeProducers(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	resp.Version = r.version
	im := b.topics.load()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for _, n := range rt.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = n
			p.ActiveProducers = []kmsg.DescribeProducersResponseTopicPartitionActiveProducer{}
			if t == nil || !t.has(n) {
				p.ErrorCode, p.ErrorMessage = codeUnknownTopicOrPartition, new(msgUnknownTopic)
				out.Partitions = append(out.Partitions, p)
				continue
			}
			states, err := b.cfg.Log.Producers(ctx, t.partition(n))
			if err != nil {
				p.ErrorCode, p.ErrorMessage = codeOf(err), new(err.Error())
			}
			for _, s := range states {
				ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				ap.ProducerID, ap.ProducerEpoch = s.ProducerID, int32(s.Epoch)
				ap.LastSequence, ap.LastTimestamp = s.LastSequence, s.LastTimestamp.UnixMilli()
				ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = s.CoordinatorEpoch, s.TxnStartOffset
				p.ActiveProducers = append(p.ActiveProducers, ap)
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
