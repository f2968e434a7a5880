package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
)

// ListGroups (key 16), versions 0–5: the groups this broker coordinates, by id; admin clients ask all brokers. Filters are
// names of states (version 4) and types (version 5), in any case.

func (b *Broker) listGroups(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ListGroupsRequest)
	resp := kmsg.NewPtrListGroupsResponse()
	resp.Version = r.version
	if b.groups == nil {
		resp.ErrorCode = codeCoordinatorNotAvailable
		return resp, nil
	}
	passes := func(filter []string, s string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, s) })
	}
	var found []kmsg.ListGroupsResponseGroup
	err := b.groups.Each(ctx, func(g *group.Group) {
		if out, ok := g.List(); ok && passes(req.StatesFilter, out.GroupState) && passes(req.TypesFilter, out.GroupType) {
			found = append(found, out)
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		resp.ErrorCode = codeOf(err)
		return resp, nil
	}
	slices.SortFunc(found, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	resp.Groups = found
	return resp, nil
}
