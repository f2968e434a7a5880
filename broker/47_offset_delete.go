package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete (key 47), version 0: committed offsets of topics that no member is subscribed to.

func (b *Broker) offsetDelete(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.OffsetDeleteRequest)
	knowTopics(ctx, b, req.Topics, func(im *image, t *kmsg.OffsetDeleteRequestTopic) bool { return im.byName[t.Topic] != nil })
	resp, code, err := b.askGroup(ctx, r, req.Group, req)
	if err != nil || code == codeNone {
		return resp, err
	}
	refused := kmsg.NewPtrOffsetDeleteResponse()
	refused.Version, refused.ErrorCode = r.version, code
	return refused, nil
}
