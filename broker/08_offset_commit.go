package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit (key 8), versions 2–10.
//
// Behaviour: answered once the offsets are in the catalog. Topics are named by id from version 10 on. Commits of many members
// go as one statement. If the catalog does not take them within offsets.commit.timeout.ms the answer is
// COORDINATOR_NOT_AVAILABLE; they may be written all the same.
//
// Deviation: an empty group id is INVALID_GROUP_ID; Kafka keeps offsets under it.

func (b *Broker) offsetCommit(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.OffsetCommitRequest)
	knowTopics(ctx, b, req.Topics, func(im *image, t *kmsg.OffsetCommitRequestTopic) bool {
		if r.version >= 10 {
			return im.byID[t.TopicID] != nil
		}
		return im.byName[t.Topic] != nil
	})
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err != nil {
		return nil, err
	}
	if code == codeNone {
		b.observeCommit(resp.(*kmsg.OffsetCommitResponse))
		return resp, nil
	}
	refused := kmsg.NewPtrOffsetCommitResponse()
	refused.Version = r.version
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		for j := range rt.Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = rt.Partitions[j].Partition, code
			t.Partitions = append(t.Partitions, p)
		}
		refused.Topics = append(refused.Topics, t)
	}
	b.observeCommit(refused)
	return refused, nil
}

// observeCommit tells the observer of an answer's partitions, by code.
func (b *Broker) observeCommit(resp *kmsg.OffsetCommitResponse) {
	if b.obs.OffsetCommitted == nil {
		return
	}
	last, n := codeNone, 0 // mostly all have the same
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			code := resp.Topics[i].Partitions[j].ErrorCode
			if code != last && n > 0 {
				b.obs.OffsetCommitted(last, n)
				n = 0
			}
			last = code
			n++
		}
	}
	if n > 0 {
		b.obs.OffsetCommitted(last, n)
	}
}
