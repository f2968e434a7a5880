package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// DeleteGroups (key 42), versions 0–2: groups without members, with their offsets. Each succeeds or fails on its own.

// deletions is how many groups of one request are deleted at a time: those of a shard go as one statement.
const deletions = 64

func (b *Broker) deleteGroups(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DeleteGroupsRequest)
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Version = r.version
	seen := make(map[string]bool, len(req.Groups))
	for _, id := range req.Groups {
		if !seen[id] {
			seen[id] = true
			out := kmsg.NewDeleteGroupsResponseGroup()
			out.Group = id
			resp.Groups = append(resp.Groups, out)
		}
	}
	var all errgroup.Group
	all.SetLimit(deletions)
	for i := range resp.Groups {
		all.Go(func() error {
			out := &resp.Groups[i]
			one := kmsg.NewPtrDeleteGroupsRequest()
			one.Version, one.Groups = r.version, []string{out.Group}
			answer, code, err := b.askGroup(ctx, r, out.Group, one)
			if d, ok := answer.(*kmsg.DeleteGroupsResponse); ok && len(d.Groups) == 1 {
				*out = d.Groups[0]
			} else {
				out.ErrorCode = code
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	return resp, nil
}
