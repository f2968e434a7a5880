package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// FindCoordinator (key 10), versions 0–6.
//
// Behaviour: the coordinator of a group is who leads its shard, the partition of __consumer_offsets that Kafka's hash of the
// id gives. A key that nobody leads the shard of now is COORDINATOR_NOT_AVAILABLE.
//
// Deviation: there are no transactions yet, so their keys are COORDINATOR_NOT_AVAILABLE, which clients retry until their own
// timeout. There are no share groups: INVALID_REQUEST, as in Kafka without a share coordinator.

const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1

	noCoordinator  = "nobody coordinates it now, try again"
	noTransactions = "transactions are not supported by this version of the broker"
)

func (b *Broker) findCoordinator(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.Version = r.version
	keys := req.CoordinatorKeys
	if r.version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	f := b.fleet()
	for _, key := range keys {
		c := b.coordinatorOf(f, r, req.CoordinatorType, key)
		if r.version < 4 {
			resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Host, resp.Port = c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port
			return resp, nil
		}
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp, nil
}

func (b *Broker) coordinatorOf(f *fleet, r *request, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, -1, -1
	refuse := func(code int16, msg string) kmsg.FindCoordinatorResponseCoordinator {
		c.ErrorCode, c.ErrorMessage = code, &msg
		return c
	}
	switch {
	case kind == coordinatorTransaction:
		return refuse(codeCoordinatorNotAvailable, noTransactions)
	case kind != coordinatorGroup:
		return refuse(codeInvalidRequest, "Unknown coordinator type")
	case b.groups == nil:
		return refuse(codeCoordinatorNotAvailable, errNoGroups.Error())
	}
	t := b.topics.load().byID[lease.GroupsID]
	if t == nil {
		return refuse(codeCoordinatorNotAvailable, noCoordinator)
	}
	leader, _ := b.leaderOf(f, t.partition(coordinator.ShardOf(key, lease.GroupsPartitions)))
	n := f.node(leader)
	if n == nil {
		return refuse(codeCoordinatorNotAvailable, noCoordinator)
	}
	e := n.endpoint(r.conn.listener)
	c.NodeID, c.Host, c.Port = n.ID, e.Host, e.Port
	return c
}
