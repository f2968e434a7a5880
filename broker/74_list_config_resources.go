package broker

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (key 74), versions 0–1. Version 0 lists client metrics subscriptions only, of which there are
// none; version 1 lists topics, all brokers, and groups that have configs, by type. Unknown types are UNSUPPORTED_VERSION, as in Kafka.

func (b *Broker) listConfigResources(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	resp.Version = r.version
	resp.ConfigResources = []kmsg.ListConfigResourcesResponseConfigResource{}
	if r.version == 0 {
		return resp, nil
	}
	known := []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker), int8(kmsg.ConfigResourceTypeBrokerLogger), int8(kmsg.ConfigResourceTypeClientMetrics), int8(kmsg.ConfigResourceTypeGroupConfig)}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(known, t) {
			resp.ErrorCode = codeUnsupportedVersion
			return resp, nil
		}
	}
	asked := func(t kmsg.ConfigResourceType) bool {
		return len(req.ResourceTypes) == 0 || slices.Contains(req.ResourceTypes, int8(t))
	}
	add := func(t kmsg.ConfigResourceType, name string) {
		c := kmsg.NewListConfigResourcesResponseConfigResource()
		c.Name, c.Type = name, int8(t)
		resp.ConfigResources = append(resp.ConfigResources, c)
	}
	if asked(kmsg.ConfigResourceTypeTopic) {
		for _, t := range b.topics.load().sorted {
			add(kmsg.ConfigResourceTypeTopic, t.Name)
		}
	}
	if asked(kmsg.ConfigResourceTypeBroker) {
		for _, n := range b.fleet().nodes {
			add(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(n.ID)))
		}
	}
	if asked(kmsg.ConfigResourceTypeGroupConfig) {
		for _, id := range slices.Sorted(maps.Keys(configsOfGroups(b.topics.load()))) {
			add(kmsg.ConfigResourceTypeGroupConfig, id)
		}
	}
	return resp, nil
}
