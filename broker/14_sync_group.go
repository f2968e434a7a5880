package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup (key 14), versions 0–5. Behaviour: package broker/group. The answer comes when the leader has sent the
// assignment.

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
	if err == nil && code != codeNone {
		return refuse(code)
	}
	return resp, err
}
