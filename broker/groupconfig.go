package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// Configs of single groups (resource type GROUP). They are kept as configs of the internal topic of groups, each under
// "group:CONFIG:GROUP": so they are in the one thing that all brokers have the same of and hear changes of, with a version
// that keeps two who change them from undoing each other. Clients see them as the group's only.

// groupConfigDef is one config that can be set per group.
type groupConfigDef struct {
	name   string
	broker string // the broker's config that is its default
	doc    string
	value  func(c *group.Config) *time.Duration
	bounds func(c *group.Config) (low, high time.Duration)
}

// groupConfigs are those there are, by name.
var groupConfigs = []groupConfigDef{
	{
		"consumer.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms", "How often members of a consumer group are told to send heartbeats, in milliseconds.",
		func(c *group.Config) *time.Duration { return &c.ConsumerHeartbeatInterval },
		func(c *group.Config) (time.Duration, time.Duration) {
			return c.ConsumerHeartbeatIntervalMin, c.ConsumerHeartbeatIntervalMax
		},
	},
	{
		"consumer.session.timeout.ms", "group.consumer.session.timeout.ms", "After how long without a heartbeat a member of a consumer group is thrown out, in milliseconds.",
		func(c *group.Config) *time.Duration { return &c.ConsumerSessionTimeout },
		func(c *group.Config) (time.Duration, time.Duration) {
			return c.ConsumerSessionTimeoutMin, c.ConsumerSessionTimeoutMax
		},
	},
}

const (
	groupConfigPrefix = "group:"
	// maxGroupConfigs bounds the configs of all groups together: each broker reads all of them when one changes.
	maxGroupConfigs = 10_000
)

func groupConfigKey(config, id string) string { return groupConfigPrefix + config + ":" + id }

// splitGroupConfig undoes groupConfigKey.
func splitGroupConfig(key string) (config, id string, ok bool) {
	key, ok = strings.CutPrefix(key, groupConfigPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(key, ":")
}

// configsOfGroups are the configs that were set, by group.
func configsOfGroups(im *image) map[string]map[string]string {
	t := im.byID[lease.GroupsID]
	if t == nil {
		return nil
	}
	var out map[string]map[string]string
	for key, value := range t.Configs {
		config, id, ok := splitGroupConfig(key)
		if !ok {
			continue
		}
		if out == nil {
			out = make(map[string]map[string]string)
		}
		if out[id] == nil {
			out[id] = make(map[string]string)
		}
		out[id][config] = value
	}
	return out
}

// groupConfigs gives each group what was set for it, and the broker's configs for the rest.
func (b *Broker) groupConfigs(im *image) coordinator.Configs {
	set := configsOfGroups(im)
	return coordinator.Configs{Version: im.version, Of: func(id string) group.Config { return b.configOfGroup(set[id]) }}
}

func (b *Broker) configOfGroup(set map[string]string) group.Config {
	cfg := *b.cfg.Group
	for i := range groupConfigs {
		d := &groupConfigs[i]
		if n, err := strconv.ParseInt(set[d.name], 10, 32); err == nil { // what does not parse was written by a later version
			*d.value(&cfg) = time.Duration(n) * time.Millisecond
		}
	}
	return cfg
}

// checkGroupConfigs validates what is set for a group.
func (b *Broker) checkGroupConfigs(set map[string]string) error {
	for name, v := range set {
		i := slices.IndexFunc(groupConfigs, func(d groupConfigDef) bool { return d.name == name })
		if i < 0 {
			return valueError("Unknown group config name: " + name)
		}
		d := &groupConfigs[i]
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32)
		if err != nil {
			return valueError(fmt.Sprintf("Invalid value %s for configuration %s: Not a number of type INT", v, name))
		}
		set[name] = strconv.FormatInt(n, 10)
		low, high := d.bounds(b.cfg.Group)
		suffix := strings.TrimPrefix(d.name, "consumer.")
		switch got := time.Duration(n) * time.Millisecond; {
		case got < low:
			return valueError(fmt.Sprintf("%s must be greater than or equal to group.consumer.min.%s", name, suffix))
		case got > high:
			return valueError(fmt.Sprintf("%s must be less than or equal to group.consumer.max.%s", name, suffix))
		}
	}
	if cfg := b.configOfGroup(set); cfg.ConsumerSessionTimeout <= cfg.ConsumerHeartbeatInterval {
		return valueError("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")
	}
	return nil
}

// changeGroupConfigs makes one change. It starts over when somebody else changes configs of groups meanwhile.
func (b *Broker) changeGroupConfigs(ctx context.Context, c *configChange, validateOnly bool) *failure {
	if catalog.CheckGroupID(c.name) != nil {
		return &failure{code: codeInvalidRequest, msg: "Default group resources are not allowed."}
	}
	const tries = 5
	for range tries {
		im := b.topics.load()
		t := im.byID[lease.GroupsID]
		if t == nil || b.groups == nil {
			return &failure{code: codeCoordinatorNotAvailable, msg: errNoGroups.Error()}
		}
		now := configsOfGroups(im)[c.name]
		next, f := c.next(maps.Clone(now))
		if f != nil {
			return f
		}
		if err := b.checkGroupConfigs(next); err != nil {
			return &failure{code: codeInvalidConfig, msg: err.Error()}
		}
		if validateOnly || maps.Equal(next, now) {
			return nil
		}
		all := maps.Clone(t.Configs)
		if all == nil {
			all = make(map[string]string)
		}
		for name := range now {
			delete(all, groupConfigKey(name, c.name))
		}
		for name, v := range next {
			all[groupConfigKey(name, c.name)] = v
		}
		if len(all) > maxGroupConfigs && len(all) > len(t.Configs) {
			return &failure{code: codeInvalidConfig, msg: fmt.Sprintf("no more than %d configs of groups are kept", maxGroupConfigs)}
		}
		_, err := b.telling.setGroupConfigs(ctx, t, all)
		if rerr := b.RefreshTopics(ctx); rerr != nil {
			b.limited.warn("topics could not be refreshed", "error", rerr)
		}
		switch {
		case err == nil:
			b.cfg.Logger.Info("group configs changed", "group", c.name)
			return nil
		case errors.Is(err, catalog.ErrVersionMismatch), errors.Is(err, catalog.ErrUnavailable):
			continue
		default:
			return &failure{code: codeOf(err), msg: err.Error()}
		}
	}
	return &failure{code: codeRequestTimedOut, msg: "the configs of groups keep changing, or the catalog does not answer; try again"}
}

// describeGroupConfigs are the configs of a group, whether it exists or not.
func (b *Broker) describeGroupConfigs(id string, req *kmsg.DescribeConfigsRequest, names []string) []kmsg.DescribeConfigsResponseResourceConfig {
	set := configsOfGroups(b.topics.load())[id]
	cfg := b.configOfGroup(set)
	out := []kmsg.DescribeConfigsResponseResourceConfig{}
	for i := range groupConfigs {
		d := &groupConfigs[i]
		if len(names) > 0 && !slices.Contains(names, d.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.ConfigType = d.name, kmsg.ConfigTypeInt
		c.Value = new(strconv.FormatInt(d.value(&cfg).Milliseconds(), 10))
		c.Source, c.IsDefault = kmsg.ConfigSourceDefaultConfig, true
		if _, ok := set[d.name]; ok {
			c.Source, c.IsDefault = kmsg.ConfigSourceGroupConfig, false
		}
		c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{}
		if req.IncludeSynonyms {
			if v, ok := set[d.name]; ok {
				c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.name, v, kmsg.ConfigSourceGroupConfig))
			}
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.broker, strconv.FormatInt(d.value(b.cfg.Group).Milliseconds(), 10), kmsg.ConfigSourceDefaultConfig))
		}
		if req.IncludeDocumentation {
			c.Documentation = &d.doc
		}
		out = append(out, c)
	}
	return out
}

// groupBrokerConfigs are the broker's configs of groups.
func (b *Broker) groupBrokerConfigs() []brokerConfig {
	c := b.cfg.Group
	ms := func(name string, d time.Duration, doc string) brokerConfig {
		return brokerConfig{name, kmsg.ConfigTypeInt, strconv.FormatInt(d.Milliseconds(), 10), doc}
	}
	number := func(name string, n int, doc string) brokerConfig {
		return brokerConfig{name, kmsg.ConfigTypeInt, strconv.Itoa(n), doc}
	}
	return []brokerConfig{
		{"group.consumer.assignors", kmsg.ConfigTypeList, strings.Join(c.ConsumerAssignors, ","), "The assignors of consumer groups; the first is the default."},
		ms("group.consumer.heartbeat.interval.ms", c.ConsumerHeartbeatInterval, "How often members of consumer groups send heartbeats."),
		ms("group.consumer.max.heartbeat.interval.ms", c.ConsumerHeartbeatIntervalMax, "The longest interval that can be set for a group."),
		ms("group.consumer.max.session.timeout.ms", c.ConsumerSessionTimeoutMax, "The longest session that can be set for a group."),
		number("group.consumer.max.size", c.ConsumerMaxSize, "Members of a consumer group."),
		{"group.consumer.migration.policy", kmsg.ConfigTypeString, string(c.Migration), "Which groups may change their protocol while they have members."},
		ms("group.consumer.min.heartbeat.interval.ms", c.ConsumerHeartbeatIntervalMin, "The shortest interval that can be set for a group."),
		ms("group.consumer.min.session.timeout.ms", c.ConsumerSessionTimeoutMin, "The shortest session that can be set for a group."),
		ms("group.consumer.regex.refresh.interval.ms", c.ConsumerRegexRefresh, "How often topics are matched with regular expressions again."),
		ms("group.consumer.session.timeout.ms", c.ConsumerSessionTimeout, "After how long without a heartbeat a member of a consumer group is thrown out."),
		ms("group.initial.rebalance.delay.ms", c.InitialRebalanceDelay, "How long the first members of a group are waited for."),
		ms("group.max.session.timeout.ms", c.SessionTimeoutMax, "The longest session a member of a classic group may ask for."),
		number("group.max.size", c.MaxSize, "Members of a classic group."),
		ms("group.min.session.timeout.ms", c.SessionTimeoutMin, "The shortest session a member of a classic group may ask for."),
		number("offset.metadata.max.bytes", c.OffsetMetadataMax, "The longest metadata of a committed offset."),
		ms("offsets.commit.timeout.ms", b.cfg.OffsetCommitTimeout, "How long a commit may take before it is answered with a retriable error."),
		{"offsets.retention.check.interval.ms", kmsg.ConfigTypeLong, strconv.FormatInt(c.OffsetCheck.Milliseconds(), 10), "How often offsets are looked at for expiry."},
		number("offsets.retention.minutes", int(c.OffsetRetention/time.Minute), "How long the offsets of a group without members are kept."),
		number("offsets.topic.num.partitions", lease.GroupsPartitions, "Shards of groups."),
	}
}
