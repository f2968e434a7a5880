package group

import "github.com/twmb/franz-go/pkg/kmsg"

// upgrade answers a ConsumerGroupHeartbeat to a classic group with members.
func (*classic) upgrade(s *step, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) {
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.ErrorCode = codeGroupIDNotFound
	s.answer(r.Token, resp)
}
