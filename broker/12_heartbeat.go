package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat (key 12), versions 0–4.
//
// Behaviour: as in Kafka, one that meets a coordinator which is still loading is answered with no error: nobody can be thrown
// out meanwhile, and the next one tells more.

func (b *Broker) heartbeat(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.HeartbeatRequest)
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err != nil || code == codeNone {
		return resp, err
	}
	if code == codeCoordinatorLoading {
		code = codeNone
	}
	refused := kmsg.NewPtrHeartbeatResponse()
	refused.Version, refused.ErrorCode = r.version, code
	return refused, nil
}
