package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup (key 14), versions 0–5. Behaviour: package broker/group. The answer comes when the leader has sent the
// assignment. One that meets a coordinator which is still loading is answered REBALANCE_IN_PROGRESS, as in Kafka: consumers
// join again, and find the generation that they had; they fail on COORDINATOR_LOAD_IN_PROGRESS here.

func (b *Broker) syncGroup(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.SyncGroupRequest)
	refuse := func(code int16) (kmsg.Response, error) {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.Version, resp.ErrorCode = r.version, code
		return resp, nil
	}
	if r.version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		return refuse(codeInconsistentGroupProtocol)
	}
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if code == codeCoordinatorLoading {
		code = codeRebalanceInProgress
	}
	if err == nil && code != codeNone {
		return refuse(code)
	}
	return resp, err
}
