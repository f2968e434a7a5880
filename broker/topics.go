package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// topic is one live topic with its configs parsed once. Immutable.
type topic struct {
	catalog.Topic
	settings topicSettings
	internal bool   // clients must not change it or write to it
	hash     uint64 // of the id
}

// topicSettings are the configs that the Produce path enforces.
type topicSettings struct {
	limits     recordbatch.Limits // without the clock
	recompress bool               // compression.type is not producer
	codec      recordbatch.Codec
	level      int
}

func newTopic(t catalog.Topic) *topic {
	s := topicSettings{limits: recordbatch.Limits{
		MaxBatchBytes:            int(configInt(t.Configs, "max.message.bytes")),
		RequireKey:               slices.Contains(splitList(configOf(t.Configs, "cleanup.policy")), "compact"),
		TimestampBeforeMaxMillis: configInt(t.Configs, "message.timestamp.before.max.ms"),
		TimestampAfterMaxMillis:  configInt(t.Configs, "message.timestamp.after.max.ms"),
		LogAppendTime:            configOf(t.Configs, "message.timestamp.type") == "LogAppendTime",
	}}
	s.level = recordbatch.DefaultLevel
	switch c := configOf(t.Configs, "compression.type"); c {
	case "producer":
	case "uncompressed":
		s.recompress, s.codec = true, recordbatch.CodecNone
	default:
		codec, ok := recordbatch.ParseCodec(c)
		s.recompress, s.codec = ok, codec
		if def := topicConfigByName["compression."+c+".level"]; def != nil {
			s.level = int(configInt(t.Configs, def.name))
			if c == "gzip" && s.level == -1 {
				s.level = recordbatch.DefaultLevel
			}
		}
	}
	return &topic{Topic: t, settings: s, internal: internalTopic(t.Name), hash: topicHash(t.ID)}
}

func (t *topic) partition(p int32) catalog.TopicPartition {
	return catalog.TopicPartition{Topic: t.ID, Partition: p}
}

func (t *topic) has(p int32) bool { return p >= 0 && p < t.Partitions }

// image is a snapshot of all topics. Immutable.
type image struct {
	version    int64
	byName     map[string]*topic
	byID       map[catalog.TopicID]*topic
	sorted     []*topic // by name
	partitions int
}

// topics holds the current image.
type topics struct {
	catalog catalog.Catalog
	current atomic.Pointer[image]
}

// load is the current image.
func (t *topics) load() *image { return t.current.Load() }

// refresh reads the topic set if it changed, and returns the topics that vanished.
func (t *topics) refresh(ctx context.Context) (gone []catalog.TopicID, err error) {
	for {
		old := t.current.Load()
		var version int64 = -1
		if old != nil {
			version = old.version
		}
		set, err := t.catalog.TopicSet(ctx, version)
		if err != nil {
			return nil, fmt.Errorf("read topics from the catalog: %w", err)
		}
		if old != nil && set.Version <= old.version {
			return nil, nil
		}
		next := newImage(set, old)
		if !t.current.CompareAndSwap(old, next) {
			continue // somebody else refreshed; look again, versions only grow
		}
		if old != nil {
			for id := range old.byID {
				if next.byID[id] == nil {
					gone = append(gone, id)
				}
			}
		}
		return gone, nil
	}
}

func newImage(set catalog.TopicSet, old *image) *image {
	im := &image{
		version: set.Version,
		byName:  make(map[string]*topic, len(set.Topics)),
		byID:    make(map[catalog.TopicID]*topic, len(set.Topics)),
		sorted:  make([]*topic, 0, len(set.Topics)),
	}
	for _, ct := range set.Topics {
		if ct.Name == hiddenTopic {
			continue
		}
		var t *topic
		if old != nil {
			if o := old.byID[ct.ID]; o != nil && o.Version == ct.Version {
				t = o
			}
		}
		if t == nil {
			t = newTopic(ct)
		}
		im.byName[t.Name], im.byID[t.ID] = t, t
		im.sorted = append(im.sorted, t)
		im.partitions += int(t.Partitions)
	}
	slices.SortFunc(im.sorted, func(a, b *topic) int { return strings.Compare(a.Name, b.Name) })
	return im
}

// collision returns the name of a live topic that is equal to name after mapping '.' to '_'.
func (im *image) collision(name string) (string, bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	mapped := strings.ReplaceAll(name, ".", "_")
	for _, t := range im.sorted {
		if strings.ReplaceAll(t.Name, ".", "_") == mapped && t.Name != name {
			return t.Name, true
		}
	}
	return "", false
}

// checkTopicName returns what is wrong with the name of a topic to be created, in Kafka's words; empty when nothing.
func checkTopicName(name string) string {
	const most = 249
	switch {
	case name == "":
		return "the empty string is not allowed"
	case name == ".", name == "..":
		return "'" + name + "' is not allowed"
	case len(name) > most:
		return fmt.Sprintf("the length of '%.300s' is longer than the max allowed length %d", name, most)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Sprintf("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", strings.ToValidUTF8(name, "?"))
		}
	}
	return ""
}

// hiddenTopic is the internal topic whose one lease makes the controller. No client sees it, as no client of Kafka's
// brokers sees the log of its controllers.
const hiddenTopic = "__cluster_metadata"

// internalTopic tells Kafka's own topics, which clients see, but must not make, write to, change or delete. Their
// partitions are the shards of coordinators.
func internalTopic(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state"
}

// msgInternalTopic is told with INVALID_TOPIC_EXCEPTION to who wants to change an internal topic.
const msgInternalTopic = "this is an internal topic: the brokers make and keep it, clients cannot change it"
