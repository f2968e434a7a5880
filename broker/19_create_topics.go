package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto"
)

// CreateTopics (key 19), versions 2–7.
//
// Behaviour: Kafka's checks in Kafka's order (duplicate, name, collision, existing, configs, replication factor or
// assignment, partitions). A topic is in the catalog before its answer, whichever broker is asked; its leases are free
// then and taken by all brokers, for which the answer waits a moment. Each topic succeeds or fails on its own.
//
// Deviations: any replication factor from 1 to 32767 is noted, since durability comes from the object store; a manual
// assignment counts for its number of partitions, whatever brokers it names. Bounds: PartitionsPerTopic per topic and
// per request, Partitions in the cluster, both INVALID_PARTITIONS (Kafka: POLICY_VIOLATION for the whole request). The
// names of internal topics cannot be taken: INVALID_TOPIC_EXCEPTION when there is none yet, and, as in Kafka,
// TOPIC_AUTHORIZATION_FAILED for __cluster_metadata.

func (b *Broker) createTopics(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.CreateTopicsRequest)
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.Version = r.version
	ctx, cancel := b.adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	seen := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		seen[req.Topics[i].Topic]++
	}
	budget := int64(b.cfg.Limits.PartitionsPerTopic)
	var created []made
	for i := range req.Topics {
		rt := &req.Topics[i]
		n := seen[rt.Topic]
		if n < 0 {
			continue // a duplicate that was answered
		}
		seen[rt.Topic] = -1
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.NumPartitions, out.ReplicationFactor = rt.Topic, -1, -1
		var f *failure
		if n > 1 {
			f = &failure{code: codeInvalidRequest, msg: "Duplicate topic name."}
		} else {
			var t *topic
			if t, f = b.createOne(ctx, r.version, req.ValidateOnly, rt, &budget, &out); t != nil {
				created = append(created, made{t: t})
			}
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(orName(f))
			out.Configs = nil
			if r.version >= 5 {
				out.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	b.awaitLeaders(ctx, created)
	return resp, nil
}

// orName is the message of a failure, never empty.
func orName(f *failure) string {
	if f.msg != "" {
		return f.msg
	}
	return kafkaproto.ErrorName(f.code)
}

// createOne checks and creates one topic; t is nil when it was only to be checked.
func (b *Broker) createOne(ctx context.Context, version int16, validateOnly bool, rt *kmsg.CreateTopicsRequestTopic, budget *int64, out *kmsg.CreateTopicsResponseTopic) (t *topic, f *failure) {
	if rt.Topic == hiddenTopic {
		return nil, &failure{code: codeTopicAuthorizationFailed}
	}
	if b.topics.load().byName[rt.Topic] != nil {
		b.lookAgain(ctx) // another broker may have deleted it a moment ago
	}
	im := b.topics.load()
	if why := checkTopicName(rt.Topic); why != "" {
		return nil, &failure{code: codeInvalidTopic, msg: "Topic name is invalid: " + why}
	}
	if im.byName[rt.Topic] != nil {
		return nil, &failure{code: codeTopicAlreadyExists, msg: fmt.Sprintf("Topic '%s' already exists.", rt.Topic)}
	}
	if internalTopic(rt.Topic) {
		return nil, &failure{code: codeInvalidTopic, msg: msgInternalTopic}
	}
	if other, ok := im.collision(rt.Topic); ok {
		return nil, &failure{code: codeInvalidTopic, msg: fmt.Sprintf("Topic '%s' collides with existing topic: %s", rt.Topic, other)}
	}
	configs := make(map[string]string, len(rt.Configs))
	for i := range rt.Configs {
		c := &rt.Configs[i]
		if c.Value == nil {
			return nil, &failure{code: codeInvalidConfig, msg: "Null value not supported for topic configs: " + c.Name}
		}
		v, err := checkConfig(c.Name, *c.Value)
		if err != nil {
			return nil, &failure{code: codeInvalidConfig, msg: err.Error()}
		}
		configs[c.Name] = v
	}
	if err := checkConfigs(configs); err != nil {
		return nil, &failure{code: codeInvalidConfig, msg: err.Error()}
	}
	partitions, replication, f := b.shape(rt)
	if f != nil {
		return nil, f
	}
	switch {
	case int64(partitions) > *budget:
		return nil, &failure{code: codeInvalidPartitions, msg: fmt.Sprintf("%d partitions are more than one topic or one request may have: %d", partitions, b.cfg.Limits.PartitionsPerTopic)}
	case im.partitions+int(partitions) > b.cfg.Limits.Partitions:
		return nil, &failure{code: codeInvalidPartitions, msg: fmt.Sprintf("the cluster would have more than %d partitions", b.cfg.Limits.Partitions)}
	}
	*budget -= int64(partitions)
	if !validateOnly {
		t, f = b.createTopic(ctx, rt.Topic, partitions, replication, configs)
		if f != nil {
			return nil, f
		}
		out.TopicID = t.ID
	}
	if version >= 5 {
		out.NumPartitions, out.ReplicationFactor = partitions, replication
		out.Configs = createdConfigs(configs)
	}
	return t, nil
}

// shape finds out how many partitions and replicas are asked for.
func (b *Broker) shape(rt *kmsg.CreateTopicsRequestTopic) (partitions int32, replication int16, f *failure) {
	refuse := func(code int16, format string, args ...any) (int32, int16, *failure) {
		return 0, 0, &failure{code: code, msg: fmt.Sprintf(format, args...)}
	}
	if len(rt.ReplicaAssignment) == 0 {
		partitions, replication = rt.NumPartitions, rt.ReplicationFactor
		switch {
		case replication < -1 || replication == 0:
			return refuse(codeInvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
		case partitions < -1 || partitions == 0:
			return refuse(codeInvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
		}
		if partitions == -1 {
			partitions = b.cfg.NumPartitions
		}
		if replication == -1 {
			replication = b.cfg.ReplicationFactor
		}
		return partitions, replication, nil
	}
	switch {
	case rt.ReplicationFactor != -1:
		return refuse(codeInvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	case rt.NumPartitions != -1:
		return refuse(codeInvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	seen := make([]bool, len(rt.ReplicaAssignment))
	for i := range rt.ReplicaAssignment {
		a := &rt.ReplicaAssignment[i]
		if f := checkReplicas(a.Replicas); f != nil {
			return 0, 0, f
		}
		switch {
		case int(a.Partition) >= len(seen) || a.Partition < 0:
			return refuse(codeInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		case seen[a.Partition]:
			return refuse(codeInvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		case len(a.Replicas) != len(rt.ReplicaAssignment[0].Replicas):
			return refuse(codeInvalidReplicaAssignment, "The manual partition assignment has different replication factors for different partitions.")
		}
		seen[a.Partition] = true
	}
	return int32(len(seen)), int16(min(len(rt.ReplicaAssignment[0].Replicas), 32767)), nil
}

// checkReplicas refuses lists that make no sense in any cluster.
func checkReplicas(replicas []int32) *failure {
	if len(replicas) == 0 {
		return &failure{code: codeInvalidReplicaAssignment, msg: "The manual partition assignment includes an empty replica list."}
	}
	sorted := slices.Sorted(slices.Values(replicas))
	if sorted[0] < 0 {
		return &failure{code: codeInvalidReplicaAssignment, msg: fmt.Sprintf("The manual partition assignment includes the invalid broker id %d.", sorted[0])}
	}
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return &failure{code: codeInvalidReplicaAssignment, msg: fmt.Sprintf("The manual partition assignment includes the broker %d more than once.", sorted[i])}
		}
	}
	return nil
}

// createdConfigs lists all configs of a new topic, as versions 5 and later answer.
func createdConfigs(configs map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	out := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(topicConfigs))
	for i := range topicConfigs {
		d := &topicConfigs[i]
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = d.name, new(configOf(configs, d.name)), int8(kmsg.ConfigSourceDefaultConfig)
		if _, ok := configs[d.name]; ok {
			c.Source = int8(kmsg.ConfigSourceDynamicTopicConfig)
		}
		out = append(out, c)
	}
	return out
}

// createTopic creates a topic whose name, configs and size have been checked, and has its leases taken.
func (b *Broker) createTopic(ctx context.Context, name string, partitions int32, replication int16, configs map[string]string) (*topic, *failure) {
	spec := catalog.TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: replication, Configs: configs}
	_, _ = rand.Read(spec.ID[:]) // never fails
	spec.ID[6], spec.ID[8] = spec.ID[6]&0x0f|0x40, spec.ID[8]&0x3f|0x80
	var t catalog.Topic
	err := b.settled(ctx, func() (err error) { t, err = b.cfg.Catalog.CreateTopic(ctx, spec); return err })
	if rerr := b.RefreshTopics(ctx); rerr != nil {
		b.limited.warn("topics could not be refreshed", "error", rerr)
	}
	if err != nil {
		f := &failure{code: codeOf(err), msg: err.Error()}
		if f.code == codeTopicAlreadyExists {
			f.msg = fmt.Sprintf("Topic '%s' already exists.", name)
		}
		if f.code == codeUnknownServerError || f.code == codeStorageError {
			b.cfg.Logger.Error("topic could not be created", "topic", name, "error", err)
		}
		return nil, f
	}
	b.acquire(ctx, t, 0)
	b.cfg.Logger.Info("topic created", "topic", name, "topic_id", t.ID, "partitions", partitions)
	return newTopic(t), nil
}

// settled runs a catalog call that may be repeated after a lost answer.
func (b *Broker) settled(ctx context.Context, call func() error) error {
	const tries = 3
	var err error
	for range tries {
		if err = call(); err == nil || !errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// unowned are partitions whose leases could not be taken when they were made. RefreshTopics tries again.
type unowned struct {
	mu struct {
		sync.Mutex
		tps []catalog.TopicPartition
	}
}

// acquire has the leases of a topic's partitions taken, from the given one on.
func (b *Broker) acquire(ctx context.Context, t catalog.Topic, from int32) {
	tps := make([]catalog.TopicPartition, 0, t.Partitions-from)
	for p := from; p < t.Partitions; p++ {
		tps = append(tps, catalog.TopicPartition{Topic: t.ID, Partition: p})
	}
	if err := b.cfg.Cluster.Acquire(ctx, tps); err != nil {
		b.limited.warn("leases of new partitions could not be taken; trying again", "topic", t.Name, "error", err)
		b.unowned.mu.Lock()
		b.unowned.mu.tps = append(b.unowned.mu.tps, tps...)
		b.unowned.mu.Unlock()
	}
}

// acquireUnowned tries again what acquire could not do.
func (b *Broker) acquireUnowned(ctx context.Context) {
	b.unowned.mu.Lock()
	tps := b.unowned.mu.tps
	b.unowned.mu.tps = nil
	b.unowned.mu.Unlock()
	if len(tps) == 0 {
		return
	}
	im := b.topics.load()
	tps = slices.DeleteFunc(tps, func(tp catalog.TopicPartition) bool { return im.byID[tp.Topic] == nil })
	if err := b.cfg.Cluster.Acquire(ctx, tps); err != nil {
		b.limited.warn("leases of new partitions could not be taken; trying again", "partitions", len(tps), "error", err)
		b.unowned.mu.Lock()
		b.unowned.mu.tps = append(b.unowned.mu.tps, tps...)
		b.unowned.mu.Unlock()
	}
}
