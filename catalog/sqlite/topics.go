package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/streamhouse/streamhouse/catalog"
)

// metricName is what a topic is called in Kafka's metrics: two live topics must not share it.
func metricName(name string) string { return strings.ReplaceAll(name, ".", "_") }

const topicColumns = "id, name, partitions, replication_factor, configs, version, created_at"

func topicOf(r row) (catalog.Topic, error) {
	t := catalog.Topic{
		Name: r.text(1), Partitions: int32(r.int(2)), ReplicationFactor: int16(r.int(3)), Version: r.int(5), CreatedAt: toTime(r.int(6)),
	}
	copy(t.ID[:], r.blob(0))
	if err := json.Unmarshal([]byte(r.text(4)), &t.Configs); err != nil {
		return t, fmt.Errorf("%w: configs of topic %s: %w", ErrDamaged, t.ID, err)
	}
	return t, nil
}

// TopicSet implements [catalog.Topics].
func (c *Catalog) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	var set catalog.TopicSet
	err := c.read(ctx, "read the topics", func(db *conn) (err error) {
		if set.Version, err = db.counter("topics_version"); err != nil || set.Version == version {
			return err
		}
		return db.query(ctx, "SELECT "+topicColumns+" FROM topics WHERE deleted_at IS NULL ORDER BY name", func(r row) error {
			t, err := topicOf(r)
			set.Topics = append(set.Topics, t)
			return err
		})
	})
	if err != nil {
		return catalog.TopicSet{}, err
	}
	return set, nil
}

// topic reads a live topic. ErrUnknownTopic.
func (t *tx) topic(id catalog.TopicID) (topic catalog.Topic, err error) {
	var scanErr error
	found, err := t.one("SELECT "+topicColumns+" FROM topics WHERE id = ? AND deleted_at IS NULL",
		func(r row) { topic, scanErr = topicOf(r) }, id[:])
	switch {
	case err != nil:
		return topic, err
	case !found:
		return topic, fmt.Errorf("topic %s: %w", id, catalog.ErrUnknownTopic)
	}
	return topic, scanErr
}

// live tells whether a topic exists and is not deleted.
func (t *tx) live(id catalog.TopicID) (bool, error) {
	return t.one("SELECT 1 FROM topics WHERE id = ? AND deleted_at IS NULL", func(row) {}, id[:])
}

// CreateTopic implements [catalog.Topics].
func (c *Catalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (catalog.Topic, error) {
	if err := spec.Check(); err != nil {
		return catalog.Topic{}, fmt.Errorf("create a topic: %w", err)
	}
	var topic catalog.Topic
	err := c.write(ctx, fmt.Sprintf("create topic %q", spec.Name), func(t *tx) (err error) {
		topic, err = t.createTopic(&spec)
		return err
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	return topic, nil
}

func (t *tx) createTopic(spec *catalog.TopicSpec) (catalog.Topic, error) {
	var name string
	known, err := t.one("SELECT name FROM topics WHERE id = ?", func(r row) { name = r.text(0) }, spec.ID[:])
	if err != nil {
		return catalog.Topic{}, err
	}
	if known {
		if topic, err := t.topic(spec.ID); err == nil && name == spec.Name {
			return topic, nil // a repeat
		}
		return catalog.Topic{}, fmt.Errorf("id %s was used before: %w", spec.ID, catalog.ErrTopicExists)
	}
	taken, err := t.one("SELECT name FROM topics WHERE metric_name = ? AND deleted_at IS NULL",
		func(r row) { name = r.text(0) }, metricName(spec.Name))
	switch {
	case err != nil:
		return catalog.Topic{}, err
	case taken && name == spec.Name:
		return catalog.Topic{}, catalog.ErrTopicExists
	case taken:
		return catalog.Topic{}, fmt.Errorf("beside %q: %w", name, catalog.ErrTopicCollision)
	case spec.Partitions < 1:
		return catalog.Topic{}, fmt.Errorf("with %d partitions: %w", spec.Partitions, catalog.ErrPartitionCount)
	}
	configs, err := encodeConfigs(spec.Configs)
	if err != nil {
		return catalog.Topic{}, err
	}
	version, err := t.bump("topics_version", 1)
	if err != nil {
		return catalog.Topic{}, err
	}
	_, err = t.exec(`INSERT INTO topics (id, name, metric_name, partitions, replication_factor, configs, version, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, spec.ID[:], spec.Name, metricName(spec.Name), int64(spec.Partitions),
		int64(spec.ReplicationFactor), configs, version, t.now)
	if err != nil {
		return catalog.Topic{}, err
	}
	if err := t.addPartitions(spec.ID, 0, spec.Partitions); err != nil {
		return catalog.Topic{}, err
	}
	return t.topic(spec.ID)
}

// addPartitions makes the rows of partitions from .. to-1, in one statement per table: ten thousand of them would
// otherwise take a noticeable time of the only writer.
func (t *tx) addPartitions(id catalog.TopicID, from, to int32) error {
	const numbers = "WITH RECURSIVE n (i) AS (SELECT ?2 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?3) "
	_, err := t.exec(numbers+`INSERT INTO partitions (topic, partition, log_start, log_end, last_stable, bytes, leader_epochs)
		SELECT ?1, i, 0, 0, 0, 0, '[]' FROM n`, id[:], int64(from), int64(to))
	if err != nil {
		return err
	}
	_, err = t.exec(numbers+"INSERT INTO leases (topic, partition, holder, epoch) SELECT ?1, i, NULL, -1 FROM n",
		id[:], int64(from), int64(to))
	if err != nil {
		return err
	}
	_, err = t.bump("leases_version", 1)
	return err
}

func encodeConfigs(configs map[string]string) (string, error) {
	if configs == nil {
		return "{}", nil
	}
	b, err := json.Marshal(configs)
	if err != nil {
		return "", fmt.Errorf("encode configs: %w", err)
	}
	return string(b), nil
}

// DeleteTopic implements [catalog.Topics].
func (c *Catalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	return c.write(ctx, "delete topic "+id.String(), func(t *tx) error {
		n, err := t.exec("UPDATE topics SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL", t.now, id[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return catalog.ErrUnknownTopic
		}
		if _, err := t.exec("DELETE FROM leases WHERE topic = ?", id[:]); err != nil {
			return err
		}
		if _, err := t.bump("leases_version", 1); err != nil {
			return err
		}
		_, err = t.bump("topics_version", 1)
		return err
	})
}

// AddPartitions implements [catalog.Topics].
func (c *Catalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (catalog.Topic, error) {
	var topic catalog.Topic
	err := c.write(ctx, "add partitions to topic "+id.String(), func(t *tx) (err error) {
		if topic, err = t.topic(id); err != nil || total == topic.Partitions {
			return err
		}
		if total < topic.Partitions {
			return fmt.Errorf("%q has %d, asked for %d: %w", topic.Name, topic.Partitions, total, catalog.ErrPartitionCount)
		}
		if err := t.addPartitions(id, topic.Partitions, total); err != nil {
			return err
		}
		topic.Partitions = total
		topic.Version, err = t.bump("topics_version", 1)
		if err != nil {
			return err
		}
		_, err = t.exec("UPDATE topics SET partitions = ?, version = ? WHERE id = ?", int64(total), topic.Version, id[:])
		return err
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	return topic, nil
}

// SetTopicConfigs implements [catalog.Topics].
func (c *Catalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	encoded, err := encodeConfigs(configs)
	if err != nil {
		return catalog.Topic{}, err
	}
	var topic catalog.Topic
	err = c.write(ctx, "set the configs of topic "+id.String(), func(t *tx) (err error) {
		if topic, err = t.topic(id); err != nil {
			return err
		}
		if topic.Version != version {
			return fmt.Errorf("%q has version %d, not %d: %w", topic.Name, topic.Version, version, catalog.ErrVersionMismatch)
		}
		next, err := t.bump("topics_version", 1)
		if err != nil {
			return err
		}
		if _, err := t.exec("UPDATE topics SET configs = ?, version = ? WHERE id = ?", encoded, next, id[:]); err != nil {
			return err
		}
		topic, err = t.topic(id)
		return err
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	return topic, nil
}

// DeletedTopics implements [catalog.Topics].
func (c *Catalog) DeletedTopics(ctx context.Context) ([]catalog.TopicID, error) {
	var ids []catalog.TopicID
	err := c.read(ctx, "list deleted topics", func(db *conn) error {
		return db.query(ctx, "SELECT id FROM topics WHERE deleted_at IS NOT NULL ORDER BY id", func(r row) error {
			var id catalog.TopicID
			copy(id[:], r.blob(0))
			ids = append(ids, id)
			return nil
		})
	})
	return ids, err
}

// limited keeps a limit from meaning "all" when it is negative.
func limited(n int) int64 { return int64(min(max(n, 0), math.MaxInt32)) }
