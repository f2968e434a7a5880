package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// DeleteTopics (key 20), versions 1–6, by name or (6) by id. The topic is gone, and its name free, before the answer.
//
// Deviation: internal topics cannot be deleted: INVALID_TOPIC_EXCEPTION.

func (b *Broker) deleteTopics(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DeleteTopicsRequest)
	resp := kmsg.NewPtrDeleteTopicsResponse()
	resp.Version = r.version
	ctx, cancel := b.adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	if r.version < 6 {
		req.Topics = make([]kmsg.DeleteTopicsRequestTopic, 0, len(req.TopicNames))
		for i := range req.TopicNames {
			req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
		}
	}
	named := map[string]int{}
	numbered := map[[16]byte]int{}
	for i := range req.Topics {
		if rt := &req.Topics[i]; rt.Topic != nil {
			named[*rt.Topic]++
		} else {
			numbered[rt.TopicID]++
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		if rt.Topic != nil && named[*rt.Topic] < 0 || rt.Topic == nil && numbered[rt.TopicID] < 0 {
			continue // a duplicate that was answered
		}
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		var f *failure
		switch zero := rt.TopicID == [16]byte{}; {
		case rt.Topic != nil && !zero:
			f = &failure{code: codeInvalidRequest, msg: "You may not specify both topic name and topic id."}
		case rt.Topic == nil && zero:
			f = &failure{code: codeInvalidRequest, msg: "Neither topic name nor id were specified."}
		case rt.Topic != nil && named[*rt.Topic] > 1:
			f = &failure{code: codeInvalidRequest, msg: "Duplicate topic name."}
		case rt.Topic == nil && numbered[rt.TopicID] > 1:
			f = &failure{code: codeInvalidRequest, msg: "Duplicate topic id."}
		default:
			f = b.deleteOne(ctx, rt, &out)
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(orName(f))
		}
		if rt.Topic != nil {
			named[*rt.Topic] = -1
		} else {
			numbered[rt.TopicID] = -1
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func (b *Broker) deleteOne(ctx context.Context, rt *kmsg.DeleteTopicsRequestTopic, out *kmsg.DeleteTopicsResponseTopic) *failure {
	find := func() *topic {
		im := b.topics.load()
		if rt.Topic != nil {
			return im.byName[*rt.Topic]
		}
		return im.byID[rt.TopicID]
	}
	t := find()
	if t == nil {
		b.lookAgain(ctx)
		t = find()
	}
	switch {
	case t != nil:
	case rt.Topic != nil:
		return &failure{code: codeUnknownTopicOrPartition, msg: msgUnknownTopic}
	default:
		return &failure{code: codeUnknownTopicID, msg: msgUnknownTopicID}
	}
	out.Topic, out.TopicID = &t.Name, t.ID
	if t.internal {
		return &failure{code: codeInvalidTopic, msg: msgInternalTopic}
	}
	first := true
	err := b.settled(ctx, func() error {
		err := b.cfg.Catalog.DeleteTopic(ctx, t.ID)
		if errors.Is(err, catalog.ErrUnknownTopic) && !first {
			return nil // the try whose answer was lost did it
		}
		first = false
		return err
	})
	if rerr := b.RefreshTopics(ctx); rerr != nil { // drops the topic from the log, too
		b.limited.warn("topics could not be refreshed", "error", rerr)
	}
	if err != nil {
		return &failure{code: codeOf(err), msg: err.Error()}
	}
	b.cfg.Log.DropTopic(t.ID)
	b.cfg.Logger.Info("topic deleted", "topic", t.Name, "topic_id", t.ID)
	return nil
}
