package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// AlterConfigs (key 33), versions 0–2: replaces all configs of a topic or a group. IncrementalAlterConfigs (44_…) changes single
// ones. Each resource succeeds or fails on its own; a change made by somebody else meanwhile is not overwritten.
//
// Deviation: only topics and groups have configs that can be changed at run time. Broker configs are flags of the process, and
// changing them is INVALID_REQUEST with a message that says so.

func (b *Broker) alterConfigs(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	resp.Version = r.version
	changes := make([]configChange, 0, len(req.Resources))
	for i := range req.Resources {
		rr := &req.Resources[i]
		changes = append(changes, configChange{rr.ResourceType, rr.ResourceName, func(map[string]string) (map[string]string, *failure) {
			return replacedConfigs(rr.Configs)
		}})
	}
	b.changeEach(ctx, changes, req.ValidateOnly, func(c *configChange, code int16, msg *string) {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = c.kind, c.name, code, msg
		resp.Resources = append(resp.Resources, out)
	})
	return resp, nil
}

// replacedConfigs are the configs of a topic after AlterConfigs.
func replacedConfigs(configs []kmsg.AlterConfigsRequestResourceConfig) (map[string]string, *failure) {
	next := make(map[string]string, len(configs))
	for i := range configs {
		c := &configs[i]
		if c.Value == nil {
			return nil, &failure{code: codeInvalidRequest, msg: "Null value not supported for : " + c.Name}
		}
		if _, ok := next[c.Name]; ok {
			return nil, &failure{code: codeInvalidRequest, msg: "Error due to duplicate config keys"}
		}
		next[c.Name] = *c.Value
	}
	return next, nil
}

// configChange is what a request wants of one resource: its configs as a function of those it has, which may be changed.
type configChange struct {
	kind kmsg.ConfigResourceType
	name string
	next func(now map[string]string) (map[string]string, *failure)
}

// changeEach makes the changes one by one and answers each in turn; msg is nil where all went well. A resource named
// more than once is not changed at all.
func (b *Broker) changeEach(ctx context.Context, changes []configChange, validateOnly bool, answer func(c *configChange, code int16, msg *string)) {
	type resource struct {
		kind kmsg.ConfigResourceType
		name string
	}
	named := make(map[resource]int, len(changes))
	for i := range changes {
		named[resource{changes[i].kind, changes[i].name}]++
	}
	for i := range changes {
		c := &changes[i]
		var f *failure
		if named[resource{c.kind, c.name}] > 1 {
			f = &failure{code: codeInvalidRequest, msg: "Each resource must appear at most once."}
		} else {
			f = b.changeConfigs(ctx, c, validateOnly)
		}
		if f != nil {
			answer(c, f.code, new(orName(f)))
			continue
		}
		answer(c, 0, nil)
	}
}

// changeConfigs makes one change. It starts over when somebody else changes the same topic meanwhile.
func (b *Broker) changeConfigs(ctx context.Context, c *configChange, validateOnly bool) *failure {
	switch c.kind {
	case kmsg.ConfigResourceTypeTopic:
	case kmsg.ConfigResourceTypeGroupConfig:
		return b.changeGroupConfigs(ctx, c, validateOnly)
	case kmsg.ConfigResourceTypeBroker:
		return &failure{code: codeInvalidRequest, msg: "broker configs are flags of the process: change them and restart it"}
	default:
		return &failure{code: codeInvalidRequest, msg: fmt.Sprintf("Unsupported resource type: %s", c.kind)}
	}
	const tries = 5
	doubt := false // an earlier try may have been applied, and what shows of it may not last: it is made again
	for range tries {
		t := b.topics.load().byName[c.name]
		if t == nil {
			if why := checkTopicName(c.name); why != "" {
				return &failure{code: codeInvalidTopic, msg: "Topic name is invalid: " + why}
			}
			return &failure{code: codeUnknownTopicOrPartition, msg: fmt.Sprintf("The topic '%s' does not exist.", c.name)}
		}
		next, f := c.next(maps.Clone(t.Configs))
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
		if validateOnly || maps.Equal(next, t.Configs) && !doubt {
			return nil
		}
		_, err := b.cfg.Catalog.SetTopicConfigs(ctx, t.ID, t.Version, next)
		if rerr := b.RefreshTopics(ctx); rerr != nil {
			b.limited.warn("topics could not be refreshed", "error", rerr)
		}
		switch {
		case err == nil:
			b.cfg.Logger.Info("topic configs changed", "topic", c.name)
			return nil
		case errors.Is(err, catalog.ErrVersionMismatch), errors.Is(err, catalog.ErrUnavailable):
			doubt = doubt || errors.Is(err, catalog.ErrUnavailable)
			continue // changed meanwhile, perhaps by our own try whose answer was lost: look again
		default:
			return &failure{code: codeOf(err), msg: err.Error()}
		}
	}
	return &failure{code: codeRequestTimedOut, msg: "the topic's configs keep changing, or the catalog does not answer; try again"}
}
