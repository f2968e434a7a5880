package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator (key 10), versions 0–6.
//
// Deviation: there are no groups and no transactions yet, so every key is COORDINATOR_NOT_AVAILABLE, which clients
// retry until their own timeout.

const noCoordinator = "groups and transactions are not supported by this version of the broker"

func (b *Broker) findCoordinator(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.Version = r.version
	code, msg := codeCoordinatorNotAvailable, noCoordinator
	if req.CoordinatorType < 0 || req.CoordinatorType > 2 {
		code, msg = codeInvalidRequest, "Unknown coordinator type"
	}
	if r.version < 4 {
		resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Port = code, &msg, -1, -1
		return resp, nil
	}
	for _, k := range req.CoordinatorKeys {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.NodeID, c.Port, c.ErrorCode, c.ErrorMessage = k, -1, -1, code, &msg
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp, nil
}
