package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup (key 13), versions 0–5: one member, or from version 3 on several, also static ones by their instance ids.

func (b *Broker) leaveGroup(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.LeaveGroupRequest)
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err != nil || code == codeNone {
		return resp, err
	}
	refused := kmsg.NewPtrLeaveGroupResponse()
	refused.Version, refused.ErrorCode = r.version, code
	return refused, nil
}
