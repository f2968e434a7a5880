package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45), versions 0–1.
//
// Deviation: there are no replicas to move. A target of exactly this broker is what is true already and succeeds;
// another broker is INVALID_REPLICA_ASSIGNMENT; a cancellation is NO_REASSIGNMENT_IN_PROGRESS.

func (b *Broker) alterPartitionAssignments(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.Version = r.version
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	im := b.topics.load()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = rp.Partition
			if f := b.reassign(t, rp); f != nil {
				p.ErrorCode, p.ErrorMessage = f.code, new(f.msg)
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func (b *Broker) reassign(t *topic, rp *kmsg.AlterPartitionAssignmentsRequestTopicPartition) *failure {
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
		if id != b.cfg.NodeID {
			return &failure{code: codeInvalidReplicaAssignment, msg: fmt.Sprintf("The manual partition assignment includes broker %d, but no such broker is registered.", id)}
		}
	}
	return nil
}
