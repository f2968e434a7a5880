package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
)

// DescribeGroups (key 15), versions 0–6: classic groups. Others, and groups that do not exist, are Dead, from version 6 on
// with GROUP_ID_NOT_FOUND (KIP-1043).

// groupOperations are those a client may do with a group without an authorizer, as bits by Kafka's AclOperation number.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (b *Broker) describeGroups(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeGroupsRequest)
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Version = r.version
	for _, id := range req.Groups {
		out := kmsg.NewDescribeGroupsResponseGroup()
		code, err := b.readGroup(ctx, id, func(g *group.Group) { out = g.Describe(r.version) })
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
