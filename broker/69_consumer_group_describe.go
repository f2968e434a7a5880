package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
)

// ConsumerGroupDescribe (key 69), versions 0–1 (KIP-848): groups of the consumer protocol. Others, and groups that do not
// exist, are GROUP_ID_NOT_FOUND.

func (b *Broker) consumerGroupDescribe(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ConsumerGroupDescribeRequest)
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	resp.Version = r.version
	for _, id := range req.Groups {
		out := kmsg.NewConsumerGroupDescribeResponseGroup()
		code, err := b.readGroup(ctx, id, func(g *group.Group) { out = g.DescribeConsumer() })
		if err != nil {
			return nil, err
		}
		switch {
		case code != codeNone:
			out.Group, out.ErrorCode = id, code
		case out.ErrorCode == codeNone:
			out.AuthorizedOperations = operations(req.IncludeAuthorizedOperations, groupOperations)
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}
