package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (key 37), versions 0–3. The answer waits a moment until the new partitions have leaders.
//
// Deviations: a manual assignment counts for its number of partitions. Internal topics cannot grow:
// INVALID_TOPIC_EXCEPTION.

func (b *Broker) createPartitions(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.CreatePartitionsRequest)
	resp := kmsg.NewPtrCreatePartitionsResponse()
	resp.Version = r.version
	ctx, cancel := b.adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	seen := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		seen[req.Topics[i].Topic]++
	}
	var grown []made
	for i := range req.Topics {
		rt := &req.Topics[i]
		n := seen[rt.Topic]
		if n < 0 {
			continue
		}
		seen[rt.Topic] = -1
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = rt.Topic
		var f *failure
		if n > 1 {
			f = &failure{code: codeInvalidRequest, msg: "Duplicate topic name."}
		} else {
			f = b.grow(ctx, rt, req.ValidateOnly, &grown)
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(orName(f))
		}
		resp.Topics = append(resp.Topics, out)
	}
	b.awaitLeaders(ctx, grown)
	return resp, nil
}

// grow adds partitions to one topic, and notes them.
func (b *Broker) grow(ctx context.Context, rt *kmsg.CreatePartitionsRequestTopic, validateOnly bool, grown *[]made) *failure {
	refuse := func(code int16, format string, args ...any) *failure {
		return &failure{code: code, msg: fmt.Sprintf(format, args...)}
	}
	if b.topics.load().byName[rt.Topic] == nil {
		b.lookAgain(ctx)
	}
	im := b.topics.load()
	t := im.byName[rt.Topic]
	switch {
	case t == nil:
		return refuse(codeUnknownTopicOrPartition, msgUnknownTopic)
	case t.internal:
		return refuse(codeInvalidTopic, msgInternalTopic)
	}
	added := int(rt.Count) - int(t.Partitions)
	switch {
	case added == 0:
		return refuse(codeInvalidPartitions, "Topic already has %d partition(s).", t.Partitions)
	case added < 0:
		return refuse(codeInvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", t.Name, t.Partitions, rt.Count)
	case rt.Count > b.cfg.Limits.PartitionsPerTopic:
		return refuse(codeInvalidPartitions, "%d partitions are more than one topic may have: %d", rt.Count, b.cfg.Limits.PartitionsPerTopic)
	case im.partitions+added > b.cfg.Limits.Partitions:
		return refuse(codeInvalidPartitions, "the cluster would have more than %d partitions", b.cfg.Limits.Partitions)
	case rt.Assignment != nil && len(rt.Assignment) != added:
		return refuse(codeInvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", added, len(rt.Assignment))
	}
	for i := range rt.Assignment {
		if f := checkReplicas(rt.Assignment[i].Replicas); f != nil {
			return f
		}
	}
	if validateOnly {
		return nil
	}
	old := t.Partitions
	err := b.settled(ctx, func() error {
		nt, err := b.cfg.Catalog.AddPartitions(ctx, t.ID, rt.Count)
		if err == nil {
			if rerr := b.RefreshTopics(ctx); rerr != nil {
				b.limited.warn("topics could not be refreshed", "error", rerr)
			}
			b.acquire(ctx, nt, old)
			*grown = append(*grown, made{newTopic(nt), old})
		}
		return err
	})
	if err != nil {
		return &failure{code: codeOf(err), msg: err.Error()}
	}
	b.cfg.Logger.Info("partitions added", "topic", t.Name, "from", old, "to", rt.Count)
	return nil
}
