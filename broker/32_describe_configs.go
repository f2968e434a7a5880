package broker

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs (key 32), versions 1–4: topics, groups, and of the broker what exists. All broker configs are read-only:
// they are flags of the process. Loggers and client metrics have no configs; other kinds of resources are INVALID_REQUEST.

func (b *Broker) describeConfigs(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	resp.Version = r.version
	im := b.topics.load()
	for i := range req.Resources {
		rr := &req.Resources[i]
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = rr.ResourceType, rr.ResourceName
		out.Configs = []kmsg.DescribeConfigsResponseResourceConfig{}
		var f *failure
		switch rr.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			if t := im.byName[rr.ResourceName]; t != nil {
				out.Configs = describeTopicConfigs(t, req, rr.ConfigNames)
			} else if why := checkTopicName(rr.ResourceName); why != "" {
				f = &failure{code: codeInvalidTopic, msg: "Topic name is invalid: " + why}
			} else {
				f = &failure{code: codeUnknownTopicOrPartition, msg: msgUnknownTopic}
			}
		case kmsg.ConfigResourceTypeBroker:
			switch rr.ResourceName {
			case "": // the cluster-wide dynamic defaults: none can be set
			case strconv.Itoa(int(b.cfg.NodeID)):
				out.Configs = b.describeBrokerConfigs(req, rr.ConfigNames)
			default:
				f = &failure{code: codeInvalidRequest, msg: fmt.Sprintf("Unexpected broker id, expected %d or empty string, but received %s", b.cfg.NodeID, rr.ResourceName)}
			}
		case kmsg.ConfigResourceTypeGroupConfig:
			if rr.ResourceName == "" {
				f = &failure{code: codeInvalidRequest, msg: "Group name must not be empty"}
			} else {
				out.Configs = b.describeGroupConfigs(rr.ResourceName, req, rr.ConfigNames)
			}
		case kmsg.ConfigResourceTypeBrokerLogger, kmsg.ConfigResourceTypeClientMetrics: // none are kept
		default:
			f = &failure{code: codeInvalidRequest, msg: fmt.Sprintf("Unsupported resource type: %s", rr.ResourceType)}
		}
		if f != nil {
			out.ErrorCode, out.ErrorMessage = f.code, new(f.msg)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

func describeTopicConfigs(t *topic, req *kmsg.DescribeConfigsRequest, names []string) []kmsg.DescribeConfigsResponseResourceConfig {
	out := make([]kmsg.DescribeConfigsResponseResourceConfig, 0, len(topicConfigs))
	for i := range topicConfigs {
		d := &topicConfigs[i]
		if len(names) > 0 && !slices.Contains(names, d.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType = d.name, new(configOf(t.Configs, d.name)), d.kind
		c.Source, c.IsDefault = kmsg.ConfigSourceDefaultConfig, true
		set, ok := t.Configs[d.name]
		if ok {
			c.Source, c.IsDefault = kmsg.ConfigSourceDynamicTopicConfig, false
		}
		c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{}
		if req.IncludeSynonyms {
			if ok {
				c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.name, set, kmsg.ConfigSourceDynamicTopicConfig))
			}
			if d.broker != "" {
				c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.broker, d.initial, kmsg.ConfigSourceDefaultConfig))
			}
		}
		if req.IncludeDocumentation {
			c.Documentation = &d.doc
		}
		out = append(out, c)
	}
	return out
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, &value, source
	return s
}

// brokerConfig is one config of the process under Kafka's name.
type brokerConfig struct {
	name  string
	kind  kmsg.ConfigType
	value string
	doc   string
}

func (b *Broker) brokerConfigs() []brokerConfig {
	l := &b.cfg.Limits
	itoa := func(n int64) string { return strconv.FormatInt(n, 10) }
	names := make([]string, 0, len(b.cfg.Listeners))
	for n, e := range b.cfg.Listeners {
		names = append(names, fmt.Sprintf("%s://%s:%d", n, e.Host, e.Port))
	}
	sort.Strings(names)
	out := []brokerConfig{
		{"advertised.listeners", kmsg.ConfigTypeList, strings.Join(names, ","), "The addresses clients are told."},
		{"auto.create.topics.enable", kmsg.ConfigTypeBoolean, strconv.FormatBool(b.cfg.AutoCreateTopics), "Whether Metadata creates missing topics."},
		{"broker.id", kmsg.ConfigTypeInt, itoa(int64(b.cfg.NodeID)), "The broker's id."},
		{"broker.rack", kmsg.ConfigTypeString, b.cfg.Rack, "The broker's rack or zone."},
		{"connections.max.idle.ms", kmsg.ConfigTypeLong, itoa(l.IdleTimeout.Milliseconds()), "How long an idle connection is kept."},
		{"default.replication.factor", kmsg.ConfigTypeInt, itoa(int64(b.cfg.ReplicationFactor)), "Noted for topics created without one."},
		{"fetch.max.bytes", kmsg.ConfigTypeInt, itoa(int64(l.FetchMaxBytes)), "The largest Fetch answer, beyond its first batch."},
		{"max.connections", kmsg.ConfigTypeInt, itoa(int64(l.MaxConnections)), "Connections at a time."},
		{"max.connections.per.ip", kmsg.ConfigTypeInt, itoa(int64(l.MaxConnectionsPerIP)), "Connections at a time of one address."},
		{"max.incremental.fetch.session.cache.slots", kmsg.ConfigTypeInt, itoa(int64(l.FetchSessions)), "Incremental fetch sessions kept."},
		{"max.request.partition.size.limit", kmsg.ConfigTypeInt, itoa(int64(l.DescribePartitions)), "Partitions in one DescribeTopicPartitions answer."},
		{"node.id", kmsg.ConfigTypeInt, itoa(int64(b.cfg.NodeID)), "The broker's id."},
		{"num.partitions", kmsg.ConfigTypeInt, itoa(int64(b.cfg.NumPartitions)), "Partitions of a topic created without a number."},
		{"queued.max.request.bytes", kmsg.ConfigTypeLong, itoa(l.RequestMemoryBytes), "Bytes of requests in memory."},
		{"socket.request.max.bytes", kmsg.ConfigTypeInt, itoa(int64(l.MaxRequestBytes)), "The longest request."},
	}
	out = append(out, b.groupBrokerConfigs()...)
	known := make(map[string]bool, len(out))
	for i := range out {
		known[out[i].name] = true
	}
	for i := range topicConfigs { // what topics without a config of their own get
		if d := &topicConfigs[i]; d.broker != "" && !known[d.broker] {
			out = append(out, brokerConfig{d.broker, d.kind, d.initial, "Default of the topic config " + d.name + "."})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

func (b *Broker) describeBrokerConfigs(req *kmsg.DescribeConfigsRequest, names []string) []kmsg.DescribeConfigsResponseResourceConfig {
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, bc := range b.brokerConfigs() {
		if len(names) > 0 && !slices.Contains(names, bc.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType, c.ReadOnly = bc.name, &bc.value, bc.kind, true
		c.Source = kmsg.ConfigSourceStaticBrokerConfig
		c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{}
		if req.IncludeSynonyms {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(bc.name, bc.value, c.Source))
		}
		if req.IncludeDocumentation {
			c.Documentation = &bc.doc
		}
		out = append(out, c)
	}
	return out
}
