package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// AlterConfigs (key 33), versions 0–2: replaces all configs of a topic. IncrementalAlterConfigs (44_…) changes single
// ones. Each resource succeeds or fails on its own; a change made by somebody else meanwhile is not overwritten.
//
// Deviation: only topics have configs that can be changed at run time. Broker configs are flags of the process, and
// changing them is INVALID_REQUEST with a message that says so.

func (b *Broker) alterConfigs(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	resp.Version = r.version
	seen := resources{}
	for i := range req.Resources {
		seen.count(req.Resources[i].ResourceType, req.Resources[i].ResourceName)
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = rr.ResourceType, rr.ResourceName
		f := seen.check(rr.ResourceType, rr.ResourceName)
		if f == nil {
			f = b.changeConfigs(ctx, rr.ResourceType, rr.ResourceName, req.ValidateOnly, func(map[string]string) (map[string]string, *failure) {
				next := make(map[string]string, len(rr.Configs))
				for j := range rr.Configs {
					c := &rr.Configs[j]
					if c.Value == nil {
						return nil, &failure{code: codeInvalidRequest, msg: "Null value not supported for : " + c.Name}
					}
					if _, ok := next[c.Name]; ok {
						return nil, &failure{code: codeInvalidRequest, msg: "Error due to duplicate config keys"}
					}
					next[c.Name] = *c.Value
				}
				return next, nil
			})
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(orName(f))
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// resources counts the resources of a request: each may appear once.
type resources map[string]int

func (s resources) count(t kmsg.ConfigResourceType, name string) { s[fmt.Sprint(t, name)]++ }

func (s resources) check(t kmsg.ConfigResourceType, name string) *failure {
	if s[fmt.Sprint(t, name)] > 1 {
		return &failure{code: codeInvalidRequest, msg: "Each resource must appear at most once."}
	}
	return nil
}

// changeConfigs changes one resource by a function of its present configs.
func (b *Broker) changeConfigs(ctx context.Context, kind kmsg.ConfigResourceType, name string, validateOnly bool, change func(map[string]string) (map[string]string, *failure)) *failure {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
	case kmsg.ConfigResourceTypeBroker:
		return &failure{code: codeInvalidRequest, msg: "broker configs are flags of the process: change them and restart it"}
	default:
		return &failure{code: codeInvalidRequest, msg: fmt.Sprintf("Unsupported resource type: %s", kind)}
	}
	const tries = 5
	for range tries {
		t := b.topics.load().byName[name]
		if t == nil {
			if why := checkTopicName(name); why != "" {
				return &failure{code: codeInvalidTopic, msg: "Topic name is invalid: " + why}
			}
			return &failure{code: codeUnknownTopicOrPartition, msg: fmt.Sprintf("The topic '%s' does not exist.", name)}
		}
		next, f := change(maps.Clone(t.Configs))
		if f != nil {
			return f
		}
		for k, v := range next {
			if v == t.Configs[k] {
				continue // also keeps what an older version stored changeable one by one
			}
			kept, err := checkConfig(k, v)
			if err != nil {
				return &failure{code: codeInvalidConfig, msg: err.Error()}
			}
			next[k] = kept
		}
		if err := checkConfigs(next); err != nil {
			return &failure{code: codeInvalidConfig, msg: err.Error()}
		}
		if validateOnly || maps.Equal(next, t.Configs) {
			return nil
		}
		_, err := b.cfg.Catalog.SetTopicConfigs(ctx, t.ID, t.Version, next)
		if rerr := b.RefreshTopics(ctx); rerr != nil {
			b.limited.warn("topics could not be refreshed", "error", rerr)
		}
		switch {
		case err == nil:
			b.cfg.Logger.Info("topic configs changed", "topic", name)
			return nil
		case errors.Is(err, catalog.ErrVersionMismatch), errors.Is(err, catalog.ErrUnavailable):
			continue // changed meanwhile, perhaps by our own try whose answer was lost: compare again
		default:
			return &failure{code: codeOf(err), msg: err.Error()}
		}
	}
	return &failure{code: codeRequestTimedOut, msg: "the topic's configs keep changing, or the catalog does not answer; try again"}
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
