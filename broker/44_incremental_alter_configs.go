package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs (key 44), versions 0–1: set, delete, append and subtract. Deviations as in 33_alter_configs.go.

func (b *Broker) incrementalAlterConfigs(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	resp.Version = r.version
	seen := resources{}
	for i := range req.Resources {
		seen.count(req.Resources[i].ResourceType, req.Resources[i].ResourceName)
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = rr.ResourceType, rr.ResourceName
		f := seen.check(rr.ResourceType, rr.ResourceName)
		if f == nil {
			f = b.changeConfigs(ctx, rr.ResourceType, rr.ResourceName, req.ValidateOnly, func(now map[string]string) (map[string]string, *failure) {
				return applyIncremental(now, rr.Configs)
			})
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(orName(f))
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}
