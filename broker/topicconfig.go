package broker

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// configDef is one topic config of Kafka: its type, default and what values it takes.
type configDef struct {
	name    string
	kind    kmsg.ConfigType
	initial string // default value
	broker  string // the broker config it is a synonym of; empty: none
	doc     string
	check   func(value string) error // after the type was checked; nil: any
	effect  string                   // for docs/protocol.md
}

// What a topic config does here.
const (
	effectEnforced = "enforced"
	effectStored   = "kept; acts with retention and compaction"
	effectNone     = "kept and shown; no effect on a log in an object store"
)

// A valueError is what is wrong with a config, in the words of Kafka's tools, which print it.
type valueError string

func (e valueError) Error() string { return string(e) }

// topicConfigs are all topic configs of Apache Kafka 4.3, by name.
var topicConfigs = []configDef{
	{"cleanup.policy", kmsg.ConfigTypeList, "delete", "log.cleanup.policy", "Whether old records are deleted by time and size (delete), by newer records of the same key (compact), or both.", listOf("compact", "delete"), effectEnforced + " for null keys; " + effectStored},
	{"compression.gzip.level", kmsg.ConfigTypeInt, "-1", "compression.gzip.level", "Level when compression.type is gzip: 1 to 9, or -1 for the default.", gzipLevel, effectNone},
	{"compression.lz4.level", kmsg.ConfigTypeInt, "9", "compression.lz4.level", "Level when compression.type is lz4: 1 to 17.", between(1, 17), effectNone},
	{"compression.type", kmsg.ConfigTypeString, "producer", "compression.type", "The codec batches are stored with; producer keeps what the producer chose.", oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), effectEnforced},
	{"compression.zstd.level", kmsg.ConfigTypeInt, "3", "compression.zstd.level", "Level when compression.type is zstd: -131072 to 22.", between(-131072, 22), effectNone},
	{"delete.retention.ms", kmsg.ConfigTypeLong, "86400000", "log.cleaner.delete.retention.ms", "How long tombstones of a compacted topic are kept, in milliseconds.", between(0, math.MaxInt64), effectStored},
	{"file.delete.delay.ms", kmsg.ConfigTypeLong, "60000", "log.segment.delete.delay.ms", "Delay before a file is deleted, in milliseconds.", between(0, math.MaxInt64), effectNone},
	{"flush.messages", kmsg.ConfigTypeLong, "9223372036854775807", "log.flush.interval.messages", "Records between forced syncs. Every acknowledged record is durable here, whatever the value.", between(1, math.MaxInt64), effectNone},
	{"flush.ms", kmsg.ConfigTypeLong, "9223372036854775807", "", "Milliseconds between forced syncs. Every acknowledged record is durable here, whatever the value.", between(0, math.MaxInt64), effectNone},
	{"follower.replication.throttled.replicas", kmsg.ConfigTypeList, "", "", "Replicas whose replication is throttled on the follower side.", throttledReplicas, effectNone},
	{"index.interval.bytes", kmsg.ConfigTypeInt, "4096", "log.index.interval.bytes", "Bytes between index entries.", between(0, math.MaxInt32), effectNone},
	{"leader.replication.throttled.replicas", kmsg.ConfigTypeList, "", "", "Replicas whose replication is throttled on the leader side.", throttledReplicas, effectNone},
	{"local.retention.bytes", kmsg.ConfigTypeLong, "-2", "log.local.retention.bytes", "Bytes kept locally in tiered storage.", between(-2, math.MaxInt64), effectNone},
	{"local.retention.ms", kmsg.ConfigTypeLong, "-2", "log.local.retention.ms", "Milliseconds kept locally in tiered storage.", between(-2, math.MaxInt64), effectNone},
	{"max.compaction.lag.ms", kmsg.ConfigTypeLong, "9223372036854775807", "log.cleaner.max.compaction.lag.ms", "The longest time a record stays uncompacted, in milliseconds.", between(1, math.MaxInt64), effectStored},
	{"max.message.bytes", kmsg.ConfigTypeInt, "1048588", "message.max.bytes", "The largest record batch accepted, in bytes, as sent.", between(0, math.MaxInt32), effectEnforced},
	{"message.timestamp.after.max.ms", kmsg.ConfigTypeLong, "3600000", "log.message.timestamp.after.max.ms", "How far a record's timestamp may be ahead of the broker's clock, in milliseconds.", between(0, math.MaxInt64), effectEnforced},
	{"message.timestamp.before.max.ms", kmsg.ConfigTypeLong, "9223372036854775807", "log.message.timestamp.before.max.ms", "How far a record's timestamp may be behind the broker's clock, in milliseconds.", between(0, math.MaxInt64), effectEnforced},
	{"message.timestamp.type", kmsg.ConfigTypeString, "CreateTime", "log.message.timestamp.type", "Whether records keep the producer's timestamp or get the time of the append.", oneOf("CreateTime", "LogAppendTime"), effectEnforced},
	{"min.cleanable.dirty.ratio", kmsg.ConfigTypeDouble, "0.5", "log.cleaner.min.cleanable.ratio", "The share of uncompacted bytes from which a compacted topic is compacted.", ratio, effectStored},
	{"min.compaction.lag.ms", kmsg.ConfigTypeLong, "0", "log.cleaner.min.compaction.lag.ms", "The shortest time a record stays uncompacted, in milliseconds.", between(0, math.MaxInt64), effectStored},
	{"min.insync.replicas", kmsg.ConfigTypeInt, "1", "min.insync.replicas", "Replicas that must acknowledge an acks=all write. The object store keeps the copies, so any value is satisfied.", between(1, math.MaxInt32), effectNone},
	{"preallocate", kmsg.ConfigTypeBoolean, "false", "log.preallocate", "Whether files are preallocated.", nil, effectNone},
	{"remote.log.copy.disable", kmsg.ConfigTypeBoolean, "false", "", "Whether tiered data becomes read-only.", nil, effectNone},
	{"remote.log.delete.on.disable", kmsg.ConfigTypeBoolean, "false", "", "Whether tiered data is deleted once tiering is disabled.", nil, effectNone},
	{"remote.storage.enable", kmsg.ConfigTypeBoolean, "false", "", "Whether tiered storage is enabled for the topic.", nil, effectNone},
	{"retention.bytes", kmsg.ConfigTypeLong, "-1", "log.retention.bytes", "The largest size of a partition before old records are deleted, in bytes; -1 for no limit.", nil, effectStored},
	{"retention.ms", kmsg.ConfigTypeLong, "604800000", "log.retention.ms", "How long records are kept, in milliseconds; -1 for ever.", between(-1, math.MaxInt64), effectStored},
	{"segment.bytes", kmsg.ConfigTypeInt, "1073741824", "log.segment.bytes", "The size of a log segment file, in bytes.", between(1<<20, math.MaxInt32), effectNone},
	{"segment.index.bytes", kmsg.ConfigTypeInt, "10485760", "log.index.size.max.bytes", "The size of a segment's index, in bytes.", between(4, math.MaxInt32), effectNone},
	{"segment.jitter.ms", kmsg.ConfigTypeLong, "0", "log.roll.jitter.ms", "Random milliseconds taken off segment.ms.", between(0, math.MaxInt64), effectNone},
	{"segment.ms", kmsg.ConfigTypeLong, "604800000", "log.roll.ms", "Milliseconds after which a segment is rolled.", between(1, math.MaxInt64), effectNone},
	{"unclean.leader.election.enable", kmsg.ConfigTypeBoolean, "false", "unclean.leader.election.enable", "Whether a replica that is behind may become leader. No replica is ever behind here.", nil, effectNone},
}

var topicConfigByName = func() map[string]*configDef {
	m := make(map[string]*configDef, len(topicConfigs))
	for i := range topicConfigs {
		m[topicConfigs[i].name] = &topicConfigs[i]
	}
	return m
}()

// checkConfig validates one topic config value and returns it as it is kept (trimmed, as Kafka does).
func checkConfig(name, value string) (string, error) {
	d, ok := topicConfigByName[name]
	if !ok {
		return "", valueError(fmt.Sprintf("Unknown topic config name: %s", name))
	}
	v := strings.TrimSpace(value)
	if err := checkType(d.kind, v); err != nil {
		return "", valueError(fmt.Sprintf("Invalid value %s for configuration %s: %v", value, name, err))
	}
	if d.check != nil {
		if err := d.check(v); err != nil {
			return "", valueError(fmt.Sprintf("Invalid value %s for configuration %s: %v", value, name, err))
		}
	}
	return v, nil
}

// checkConfigs validates what concerns several values together.
func checkConfigs(configs map[string]string) error {
	if configOf(configs, "remote.storage.enable") == "true" {
		return valueError("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	if configInt(configs, "min.compaction.lag.ms") > configInt(configs, "max.compaction.lag.ms") {
		return fmt.Errorf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)",
			configInt(configs, "min.compaction.lag.ms"), configInt(configs, "max.compaction.lag.ms"))
	}
	return nil
}

// configOf is the value in force.
func configOf(configs map[string]string, name string) string {
	if v, ok := configs[name]; ok {
		return v
	}
	return topicConfigByName[name].initial
}

func configInt(configs map[string]string, name string) int64 {
	n, err := strconv.ParseInt(configOf(configs, name), 10, 64)
	if err != nil { // written by a later version: fall back rather than fail reads and writes
		n, _ = strconv.ParseInt(topicConfigByName[name].initial, 10, 64)
	}
	return n
}

func checkType(kind kmsg.ConfigType, v string) error {
	switch kind {
	case kmsg.ConfigTypeBoolean:
		if l := strings.ToLower(v); l != "true" && l != "false" {
			return valueError("Expected value to be either true or false")
		}
	case kmsg.ConfigTypeInt:
		if _, err := strconv.ParseInt(v, 10, 32); err != nil {
			return valueError("Not a number of type INT")
		}
	case kmsg.ConfigTypeLong:
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return valueError("Not a number of type LONG")
		}
	case kmsg.ConfigTypeDouble:
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			return valueError("Not a number of type DOUBLE")
		}
	default: // strings and lists: any
	}
	return nil
}

func between(low, high int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
			return err
		case n < low:
			return valueError(fmt.Sprintf("Value must be at least %d", low))
		case n > high:
			return valueError(fmt.Sprintf("Value must be no more than %d", high))
		}
		return nil
	}
}

func gzipLevel(v string) error {
	if v == "-1" {
		return nil
	}
	return between(1, 9)(v)
}

func ratio(v string) error {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1 {
		return valueError("Value must be between 0 and 1")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(values, v) {
			return nil
		}
		return valueError(fmt.Sprintf("String must be one of: %s", strings.Join(values, ", ")))
	}
}

func listOf(values ...string) func(string) error {
	return func(v string) error {
		for part := range strings.SplitSeq(v, ",") {
			if p := strings.TrimSpace(part); p != "" || v != "" {
				if err := oneOf(values...)(p); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func throttledReplicas(v string) error {
	if v == "" || v == "*" {
		return nil
	}
	for part := range strings.SplitSeq(v, ",") {
		p, r, ok := strings.Cut(strings.TrimSpace(part), ":")
		_, err1 := strconv.ParseInt(p, 10, 32)
		_, err2 := strconv.ParseInt(r, 10, 32)
		if !ok || err1 != nil || err2 != nil {
			return valueError("must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

// splitList splits a LIST value.
func splitList(v string) []string {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		if p := strings.TrimSpace(part); p != "" {
			out = append(out, p)
		}
	}
	return out
}
