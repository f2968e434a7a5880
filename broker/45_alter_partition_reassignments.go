package broker

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45), versions 0–1.
//
// Deviation: there are no replicas to move; the brokers balance leaders by themselves, and operators move them with
// `streamhouse move`. A target that is true already succeeds: the replicas as Metadata shows them, in any order, or the
// leader alone. Anything else is INVALID_REPLICA_ASSIGNMENT; a cancellation is NO_REASSIGNMENT_IN_PROGRESS.

func (b *Broker) alterPartitionAssignments(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.Version = r.version
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	im, pl := b.topics.load(), b.fleet().placer()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = rp.Partition
			if f := b.reassign(pl, t, rp); f != nil {
				p.ErrorCode, p.ErrorMessage = f.code, new(f.msg)
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func (b *Broker) reassign(pl *placer, t *topic, rp *kmsg.AlterPartitionAssignmentsRequestTopicPartition) *failure {
	if t == nil || !t.has(rp.Partition) {
		return &failure{code: codeUnknownTopicOrPartition, msg: msgUnknownTopic}
	}
	if rp.Replicas == nil {
		return &failure{code: codeNoReassignmentInProgress, msg: "No partition reassignment is in progress."}
	}
	if f := checkReplicas(rp.Replicas); f != nil {
		return f
	}
	for _, id := range rp.Replicas {
		if pl.f.node(id) == nil {
			return &failure{code: codeInvalidReplicaAssignment, msg: fmt.Sprintf("The manual partition assignment includes broker %d, but no such broker is registered.", id)}
		}
	}
	leader, _ := b.leaderOf(pl.f, t.partition(rp.Partition))
	if len(rp.Replicas) == 1 && (rp.Replicas[0] == leader || len(pl.f.nodes) == 1) {
		return nil
	}
	now := pl.replicas(nil, t, rp.Partition, leader)
	if !slices.Equal(slices.Sorted(slices.Values(rp.Replicas)), slices.Sorted(slices.Values(now))) {
		return &failure{code: codeInvalidReplicaAssignment, msg: fmt.Sprintf("There are no replicas to move: the log is in the object store, any broker can lead. The partition is led by %d; leaders are moved by `streamhouse move`.", leader)}
	}
	return nil
}
