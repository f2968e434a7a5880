package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup (key 11), versions 0–9.
//
// Behaviour: package broker/group. The answer comes when all members have joined, or did not in time; the connection's next
// requests wait for it, as in Kafka, other connections do not.

func (b *Broker) joinGroup(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.JoinGroupRequest)
	refuse := func(code int16) (kmsg.Response, error) {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Version, resp.ErrorCode, resp.MemberID, resp.Generation = r.version, code, req.MemberID, -1
		return resp, nil
	}
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err == nil && code != codeNone {
		return refuse(code)
	}
	return resp, err
}
