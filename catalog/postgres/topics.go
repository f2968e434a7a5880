package postgres

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

const topicColumns = "t.id, t.ref, t.name, t.partitions, t.replication_factor, t.configs, t.version, t.created_at"

// topicRow is where a row of topicColumns is scanned to.
type topicRow struct {
	catalog.Topic

	ref int32
}

func (t *topicRow) into() []any {
	return []any{(*[16]byte)(&t.ID), &t.ref, &t.Name, &t.Partitions, &t.ReplicationFactor, &t.Configs, &t.Version, &t.CreatedAt}
}

func (t *topicRow) topic() catalog.Topic {
	t.CreatedAt = t.CreatedAt.UTC()
	return t.Topic
}

// topicRefs remembers the short names by which tail rows call topics. They never change. Safe for concurrent use.
type topicRefs struct {
	mu   sync.RWMutex
	refs map[catalog.TopicID]int32 // 0: no such topic
}

func (r *topicRefs) put(refs map[catalog.TopicID]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refs == nil {
		r.refs = make(map[catalog.TopicID]int32, len(refs))
	}
	maps.Copy(r.refs, refs)
}

// replace forgets all but these: the map stays as large as the cluster.
func (r *topicRefs) replace(refs map[catalog.TopicID]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refs = refs
}

// of returns the references of the topics of ends, in their order, and the topics that are not known.
func (r *topicRefs) of(ends []catalog.PartitionEnd) (refs []int32, missing map[catalog.TopicID]int32) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	refs = make([]int32, len(ends))
	var id catalog.TopicID
	var ref int32
	for i := range ends {
		if tp := &ends[i].TopicPartition; i == 0 || tp.Topic != id {
			var known bool
			id = tp.Topic
			if ref, known = r.refs[id]; !known {
				if missing == nil {
					missing = make(map[catalog.TopicID]int32)
				}
				missing[id] = 0
			}
		}
		refs[i] = ref
	}
	return refs, missing
}

// topicRefsOf is of, asking the database for what is not known: once per topic and process.
func (c *Catalog) topicRefsOf(ctx context.Context, ends []catalog.PartitionEnd) ([]int32, error) {
	refs, missing := c.refs.of(ends)
	if missing == nil {
		return refs, nil
	}
	ids := make([][16]byte, 0, len(missing))
	for id := range missing {
		ids = append(ids, id)
	}
	rows, err := c.urgent.Query(ctx, "SELECT id, ref FROM catalog_topics WHERE id = ANY($1)", ids)
	if err != nil {
		return nil, err
	}
	err = each(rows, func(r pgx.Rows) error {
		var id catalog.TopicID
		var ref int32
		err := r.Scan((*[16]byte)(&id), &ref)
		missing[id] = ref
		return err
	})
	if err != nil {
		return nil, err
	}
	c.refs.put(missing)
	refs, _ = c.refs.of(ends)
	return refs, nil
}

// TopicSet implements [catalog.Topics]. Version and topics come from one statement, so from one snapshot.
func (c *Catalog) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	const all = `SELECT v.value, ` + topicColumns + ` FROM catalog_counters v
		LEFT JOIN catalog_topics t ON v.value <> $1 AND t.deleted_at IS NULL
		WHERE v.name = 'topics_version' ORDER BY t.name`
	var set catalog.TopicSet
	var refs map[catalog.TopicID]int32
	err := c.read(ctx, "read the topics", all, []any{version}, func() {
		set, refs = catalog.TopicSet{}, make(map[catalog.TopicID]int32)
	}, func(rows pgx.Rows) error {
		var id *[16]byte
		var ref, partitions *int32
		var name *string
		var factor *int16
		var configs map[string]string
		var topicVersion *int64
		var created *time.Time
		err := rows.Scan(&set.Version, &id, &ref, &name, &partitions, &factor, &configs, &topicVersion, &created)
		if err != nil || id == nil {
			return err // unchanged, or no topics
		}
		refs[*id] = *ref
		set.Topics = append(set.Topics, catalog.Topic{
			ID: *id, Name: *name, Partitions: *partitions, ReplicationFactor: *factor, Configs: configs, Version: *topicVersion,
			CreatedAt: created.UTC(),
		})
		return nil
	})
	if err != nil {
		return catalog.TopicSet{}, err
	}
	if set.Version != version {
		c.refs.replace(refs)
	}
	return set, nil
}

// topic reads a live topic and locks it. ErrUnknownTopic.
func (t *tx) topic(id catalog.TopicID) (catalog.Topic, error) {
	var row topicRow
	found, err := t.one("SELECT "+topicColumns+" FROM catalog_topics t WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
		row.into(), [16]byte(id))
	if err == nil && !found {
		err = fmt.Errorf("topic %s: %w", id, catalog.ErrUnknownTopic)
	}
	return row.topic(), err
}

// CreateTopic implements [catalog.Topics].
func (c *Catalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (catalog.Topic, error) {
	if err := spec.Check(); err != nil {
		return catalog.Topic{}, fmt.Errorf("create a topic: %w", err)
	}
	if spec.Configs == nil {
		spec.Configs = map[string]string{}
	}
	var row topicRow
	err := c.write(ctx, c.general, fmt.Sprintf("create topic %q", spec.Name), func(t *tx) (err error) {
		row, err = t.createTopic(&spec)
		return err
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	c.refs.put(map[catalog.TopicID]int32{row.ID: row.ref}) // only now: what is undone is numbered anew
	return row.topic(), nil
}

func (t *tx) createTopic(spec *catalog.TopicSpec) (row topicRow, err error) {
	version, err := t.bump("topics_version") // also keeps others from changing topics meanwhile
	if err != nil {
		return row, err
	}
	var known topicRow
	var deleted *time.Time
	found, err := t.one("SELECT "+topicColumns+", t.deleted_at FROM catalog_topics t WHERE t.id = $1",
		append(known.into(), &deleted), [16]byte(spec.ID))
	switch {
	case err != nil:
		return row, err
	case found && deleted == nil && known.Name == spec.Name:
		return known, t.unchanged()
	case found:
		return row, fmt.Errorf("id %s was used before: %w", spec.ID, catalog.ErrTopicExists)
	}
	var name string
	taken, err := t.one("SELECT name FROM catalog_topics WHERE metric_name = replace($1, '.', '_') AND deleted_at IS NULL",
		[]any{&name}, spec.Name)
	switch {
	case err != nil:
		return row, err
	case taken && name == spec.Name:
		return row, catalog.ErrTopicExists
	case taken:
		return row, fmt.Errorf("beside %q: %w", name, catalog.ErrTopicCollision)
	case spec.Partitions < 1:
		return row, fmt.Errorf("with %d partitions: %w", spec.Partitions, catalog.ErrPartitionCount)
	}
	_, err = t.one(`INSERT INTO catalog_topics AS t (id, name, partitions, replication_factor, configs, version, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, catalog_now($7)) RETURNING `+topicColumns, row.into(),
		[16]byte(spec.ID), spec.Name, spec.Partitions, spec.ReplicationFactor, spec.Configs, version, t.c.time.parameter())
	if err != nil {
		return row, err
	}
	return row, t.addPartitions(spec.ID, 0, spec.Partitions)
}

// addPartitions makes the rows of partitions from .. to-1.
func (t *tx) addPartitions(id catalog.TopicID, from, to int32) error {
	for _, table := range []string{"catalog_partitions", "catalog_leases"} {
		_, err := t.exec("INSERT INTO "+table+" (topic, partition) SELECT $1, n FROM generate_series($2::int, $3::int - 1) n", [16]byte(id), from, to)
		if err != nil {
			return err
		}
	}
	return t.bumpLeases()
}

// DeleteTopic implements [catalog.Topics].
func (c *Catalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	op, unknown := "delete topic "+id.String(), false
	err := c.write(ctx, c.general, op, func(t *tx) error {
		if _, err := t.bump("topics_version"); err != nil {
			return err
		}
		n, err := t.exec("UPDATE catalog_topics SET deleted_at = catalog_now($1) WHERE id = $2 AND deleted_at IS NULL",
			t.c.time.parameter(), [16]byte(id))
		if err != nil {
			return err
		}
		if unknown = n == 0; unknown {
			return t.unchanged() // an earlier try may have deleted it
		}
		if _, err := t.exec("DELETE FROM catalog_leases WHERE topic = $1", [16]byte(id)); err != nil {
			return err
		}
		return t.bumpLeases()
	})
	if err == nil && unknown {
		return fmt.Errorf("%s: %w", op, catalog.ErrUnknownTopic)
	}
	return err
}

// AddPartitions implements [catalog.Topics].
func (c *Catalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (catalog.Topic, error) {
	var topic catalog.Topic
	err := c.changeTopic(ctx, "add partitions to topic "+id.String(), id, &topic, func(t *tx, version int64) error {
		switch {
		case total == topic.Partitions:
			return t.unchanged()
		case total < topic.Partitions:
			return fmt.Errorf("%q has %d, asked for %d: %w", topic.Name, topic.Partitions, total, catalog.ErrPartitionCount)
		}
		from := topic.Partitions
		topic.Partitions, topic.Version = total, version
		if _, err := t.exec("UPDATE catalog_topics SET partitions = $1, version = $2 WHERE id = $3", total, version, [16]byte(id)); err != nil {
			return err
		}
		return t.addPartitions(id, from, total)
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	return topic, nil
}

// SetTopicConfigs implements [catalog.Topics].
func (c *Catalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	if configs == nil {
		configs = map[string]string{}
	}
	var topic catalog.Topic
	err := c.changeTopic(ctx, "set the configs of topic "+id.String(), id, &topic, func(t *tx, next int64) error {
		if topic.Version != version {
			return fmt.Errorf("%q has version %d, not %d: %w", topic.Name, topic.Version, version, catalog.ErrVersionMismatch)
		}
		var row topicRow
		_, err := t.one("UPDATE catalog_topics t SET configs = $1, version = $2 WHERE id = $3 RETURNING "+topicColumns,
			row.into(), configs, next, [16]byte(id))
		topic = row.topic()
		return err
	})
	if err != nil {
		return catalog.Topic{}, err
	}
	return topic, nil
}

// unchanged ends a change of topics that turned out to be none. It takes the new version back by writing it, not by undoing
// the transaction: the success that follows may be a repeat's, and has to be as durable as that of the first try.
func (t *tx) unchanged() error {
	_, err := t.exec("UPDATE catalog_counters SET value = value - 1 WHERE name = 'topics_version'")
	return err
}

// changeTopic runs change on a live topic, which it reads first, with the next version.
func (c *Catalog) changeTopic(ctx context.Context, op string, id catalog.TopicID, topic *catalog.Topic, change func(*tx, int64) error) error {
	return c.write(ctx, c.general, op, func(t *tx) error {
		version, err := t.bump("topics_version")
		if err != nil {
			return err
		}
		if *topic, err = t.topic(id); err != nil {
			return err
		}
		return change(t, version)
	})
}

// DeletedTopics implements [catalog.Topics]. It vouches for them, but not for there being none, which it is asked for again and
// again.
func (c *Catalog) DeletedTopics(ctx context.Context) ([]catalog.TopicID, error) {
	const op, sql = "list deleted topics", "SELECT id FROM catalog_topics WHERE deleted_at IS NOT NULL ORDER BY id"
	scan := func(r pgx.Rows) (id catalog.TopicID, err error) {
		err = r.Scan((*[16]byte)(&id))
		return id, err
	}
	if ids, err := collect(ctx, c, op, sql, scan); err != nil || len(ids) == 0 {
		return ids, err
	}
	return vouched(ctx, c, c.general, op, sql, scan)
}
