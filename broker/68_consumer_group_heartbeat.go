package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat (key 68), versions 0–1 (KIP-848): joining, leaving, reconciling and staying alive. Behaviour: package
// broker/group. Regular expressions are RE2, as in Kafka.

func (b *Broker) consumerGroupHeartbeat(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ConsumerGroupHeartbeatRequest)
	knowTopics(ctx, b, req.SubscribedTopicNames, func(im *image, name *string) bool { return im.byName[*name] != nil })
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err != nil || code == codeNone {
		return resp, err
	}
	refused := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	refused.Version, refused.ErrorCode = r.version, code
	return refused, nil
}
