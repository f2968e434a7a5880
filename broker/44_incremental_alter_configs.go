package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs (key 44), versions 0–1: set, delete, append and subtract. Deviations as in 33_alter_configs.go.

func (b *Broker) incrementalAlterConfigs(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	resp.Version = r.version
	changes := make([]configChange, 0, len(req.Resources))
	for i := range req.Resources {
		rr := &req.Resources[i]
		changes = append(changes, configChange{rr.ResourceType, rr.ResourceName, func(now map[string]string) (map[string]string, *failure) {
			return applyIncremental(now, rr.Configs)
		}})
	}
	b.changeEach(ctx, changes, req.ValidateOnly, func(c *configChange, code int16, msg *string) {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = c.kind, c.name, code, msg
		resp.Resources = append(resp.Resources, out)
	})
	return resp, nil
}

// applyIncremental applies the operations of IncrementalAlterConfigs.
func applyIncremental(configs map[string]string, ops []kmsg.IncrementalAlterConfigsRequestResourceConfig) (map[string]string, *failure) {
	if configs == nil {
		configs = map[string]string{}
	}
	seen := map[string]bool{}
	for i := range ops {
		op := &ops[i]
		if seen[op.Name] {
			return nil, &failure{code: codeInvalidRequest, msg: "Error due to duplicate config keys"}
		}
		seen[op.Name] = true
		if op.Op == kmsg.IncrementalAlterConfigOpDelete {
			delete(configs, op.Name)
			continue
		}
		if op.Value == nil {
			return nil, &failure{code: codeInvalidRequest, msg: "Null value not supported for : " + op.Name}
		}
		switch op.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			configs[op.Name] = *op.Value
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			d := topicConfigByName[op.Name]
			if d == nil || d.kind != kmsg.ConfigTypeList {
				return nil, &failure{code: codeInvalidConfig, msg: fmt.Sprintf("Can't %s to key %s because its type is not LIST.", op.Op, op.Name)}
			}
			list := splitList(configOf(configs, op.Name))
			for _, v := range splitList(*op.Value) {
				if op.Op == kmsg.IncrementalAlterConfigOpSubtract {
					list = slices.DeleteFunc(list, func(s string) bool { return s == v })
				} else if !slices.Contains(list, v) {
					list = append(list, v)
				}
			}
			configs[op.Name] = strings.Join(list, ",")
		default:
			return nil, &failure{code: codeInvalidRequest, msg: fmt.Sprintf("Unknown operation type %d for the config %s.", op.Op, op.Name)}
		}
	}
	return configs, nil
}
