-- +goose Up

-- The tables are named catalog_*; people read the views topics, partitions, partition_leases, brokers, objects, log_tail,
-- packed_rows and retired_objects, whose columns stay when the tables change.

COMMENT ON TABLE catalog_migrations IS 'Which migrations of this schema were applied (kept by goose).';

CREATE TABLE catalog_cluster (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    id         text        NOT NULL CHECK (id <> ''),
    created_at timestamptz NOT NULL,
    pinged_at  timestamptz
);
COMMENT ON TABLE catalog_cluster IS 'One row: which cluster this is.';
COMMENT ON COLUMN catalog_cluster.one IS 'Always true: there is one row.';
COMMENT ON COLUMN catalog_cluster.id IS 'Kafka''s cluster id: 16 random bytes in base64, made when the first broker came.';
COMMENT ON COLUMN catalog_cluster.created_at IS 'When that was, by the catalog''s clock.';
COMMENT ON COLUMN catalog_cluster.pinged_at IS 'Last write that only proved that writing works.';

CREATE TABLE catalog_counters (
    name  text   COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL CHECK (value >= 0)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE catalog_counters IS 'Numbers that only grow.';
COMMENT ON COLUMN catalog_counters.name IS 'ids_*: next id to hand out. *_version: grows with each change, in commit order. broker_epoch: last one handed out. oldest_program: oldest schema version a program may know and still use this schema.';
COMMENT ON COLUMN catalog_counters.value IS 'See name.';
INSERT INTO catalog_counters (name, value) VALUES
    ('broker_epoch', 0), ('topics_version', 0), ('leases_version', 0), ('ids_producer', 0), ('ids_object', 1), ('oldest_program', 1);

CREATE SEQUENCE catalog_packed_versions;
COMMENT ON SEQUENCE catalog_packed_versions IS 'Versions of packed rows: unique, not in commit order.';
CREATE SEQUENCE catalog_retired_batches;
COMMENT ON SEQUENCE catalog_retired_batches IS 'Ids of batches of retired objects.';

CREATE TABLE catalog_clock (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    ahead       interval    NOT NULL DEFAULT '0' CHECK (ahead >= '0'),
    floor       timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE catalog_clock IS 'One row: how the catalog''s clock, which never goes back, differs from the server''s.';
COMMENT ON COLUMN catalog_clock.one IS 'Always true: there is one row.';
COMMENT ON COLUMN catalog_clock.ahead IS 'How far the catalog''s clock runs ahead of the server''s, because that one was set back. It only grows.';
COMMENT ON COLUMN catalog_clock.floor IS 'A time the catalog''s clock has shown, refreshed about twice a second while brokers run.';
INSERT INTO catalog_clock DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION catalog_wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() $$;
-- +goose StatementEnd
COMMENT ON FUNCTION catalog_wall_clock() IS 'The server''s clock. A function of its own so that tests can set it.';
-- +goose StatementBegin
CREATE FUNCTION catalog_now(given timestamptz) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, greatest(catalog_wall_clock() + c.ahead, c.floor)) FROM catalog_clock c
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION catalog_now(timestamptz) IS 'The catalog''s clock: the given time, or if that is null the server''s time, corrected.';

CREATE TABLE catalog_topics (
    id                 uuid        PRIMARY KEY,
    ref                integer     NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    name               text        COLLATE "C" NOT NULL CHECK (name <> ''),
    metric_name        text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (replace(name, '.', '_')) STORED,
    partitions         integer     NOT NULL CHECK (partitions > 0),
    replication_factor smallint    NOT NULL,
    configs            jsonb       NOT NULL CHECK (jsonb_typeof(configs) = 'object'),
    version            bigint      NOT NULL CHECK (version > 0),
    created_at         timestamptz NOT NULL,
    deleted_at         timestamptz
);
CREATE UNIQUE INDEX catalog_topics_live ON catalog_topics (metric_name) WHERE deleted_at IS NULL;
CREATE INDEX catalog_topics_by_name ON catalog_topics (name) WHERE deleted_at IS NULL;
CREATE INDEX catalog_topics_deleted ON catalog_topics (id) WHERE deleted_at IS NOT NULL;
COMMENT ON TABLE catalog_topics IS 'Topics, also deleted ones whose extents are not dropped yet.';
COMMENT ON COLUMN catalog_topics.id IS 'Kafka''s topic id; never used again.';
COMMENT ON COLUMN catalog_topics.ref IS 'A short name of the topic, used in catalog_tail.end_topics.';
COMMENT ON COLUMN catalog_topics.name IS 'The topic''s name.';
COMMENT ON COLUMN catalog_topics.metric_name IS 'The name with each dot as an underscore: two live topics must differ in it.';
COMMENT ON COLUMN catalog_topics.partitions IS 'How many partitions it has.';
COMMENT ON COLUMN catalog_topics.replication_factor IS 'As asked for; durability comes from the object store, so it is only remembered.';
COMMENT ON COLUMN catalog_topics.configs IS 'Configs that were set, by Kafka''s names.';
COMMENT ON COLUMN catalog_topics.version IS 'Grows with each change of the topic.';
COMMENT ON COLUMN catalog_topics.created_at IS 'When it was created.';
COMMENT ON COLUMN catalog_topics.deleted_at IS 'When it was deleted; null while it lives.';

CREATE TABLE catalog_brokers (
    epoch          bigint      PRIMARY KEY CHECK (epoch > 0),
    id             integer     NOT NULL,
    incarnation    uuid        NOT NULL,
    fenced         boolean     NOT NULL DEFAULT false,
    last_sequence  bigint      NOT NULL DEFAULT 0 CHECK (last_sequence >= 0),
    committed_at   timestamptz,
    last_heartbeat timestamptz NOT NULL,
    registered_at  timestamptz NOT NULL,
    ttl_ns         bigint      NOT NULL CHECK (ttl_ns >= 0),
    rack           text        NOT NULL,
    listeners      jsonb       NOT NULL CHECK (jsonb_typeof(listeners) = 'array')
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX catalog_brokers_incarnation ON catalog_brokers (incarnation) WHERE NOT fenced;
COMMENT ON TABLE catalog_brokers IS 'One row per broker epoch: the fence. A commit updates this row first. The row goes when the epoch is fenced and all it committed is folded; an epoch without a row counts as fenced.';
COMMENT ON COLUMN catalog_brokers.epoch IS 'Broker epoch: one per registration of a process, growing.';
COMMENT ON COLUMN catalog_brokers.id IS 'Kafka''s node id.';
COMMENT ON COLUMN catalog_brokers.incarnation IS 'Random id of the process.';
COMMENT ON COLUMN catalog_brokers.fenced IS 'True: no statement of this epoch is ever applied again.';
COMMENT ON COLUMN catalog_brokers.last_sequence IS 'Sequence of its last commit; 0: none.';
COMMENT ON COLUMN catalog_brokers.committed_at IS 'When that was.';
COMMENT ON COLUMN catalog_brokers.last_heartbeat IS 'When it last renewed its session.';
COMMENT ON COLUMN catalog_brokers.registered_at IS 'When it registered.';
COMMENT ON COLUMN catalog_brokers.ttl_ns IS 'How long after its last heartbeat the session may be declared expired, in nanoseconds.';
COMMENT ON COLUMN catalog_brokers.rack IS 'Rack or zone, for follower fetches and balancing.';
COMMENT ON COLUMN catalog_brokers.listeners IS 'Addresses clients may use: list of {name, host, port}.';

CREATE TABLE catalog_folds (
    epoch           bigint PRIMARY KEY REFERENCES catalog_brokers (epoch) ON DELETE CASCADE,
    folded_sequence bigint NOT NULL DEFAULT 0 CHECK (folded_sequence >= 0),
    merges          bigint NOT NULL DEFAULT 0 CHECK (merges >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE catalog_folds IS 'How far each broker epoch''s tail is folded and merged. Not columns of catalog_brokers, so that a fold never holds up that broker''s commits.';
COMMENT ON COLUMN catalog_folds.epoch IS 'Broker epoch.';
COMMENT ON COLUMN catalog_folds.folded_sequence IS 'All its commits up to this sequence are in folded rows.';
COMMENT ON COLUMN catalog_folds.merges IS 'How many hot merges its tail has seen: the number of the latest.';

CREATE TABLE catalog_draining (
    id    integer     PRIMARY KEY,
    since timestamptz NOT NULL
);
COMMENT ON TABLE catalog_draining IS 'Brokers that should hold no leases.';
COMMENT ON COLUMN catalog_draining.id IS 'Kafka''s node id.';
COMMENT ON COLUMN catalog_draining.since IS 'When an operator said so.';

CREATE TABLE catalog_partitions (
    topic         uuid    NOT NULL REFERENCES catalog_topics (id),
    partition     integer NOT NULL CHECK (partition >= 0),
    log_start     bigint  NOT NULL DEFAULT 0 CHECK (log_start >= 0),
    log_end       bigint  NOT NULL DEFAULT 0 CHECK (log_end >= 0),
    last_stable   bigint  NOT NULL DEFAULT 0 CHECK (last_stable BETWEEN 0 AND log_end),
    bytes         bigint  NOT NULL DEFAULT 0,
    leader_epochs jsonb   NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(leader_epochs) = 'array'),
    producers     bytea,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 70);
COMMENT ON TABLE catalog_partitions IS 'The folded row of each partition: true as of catalog_folds.folded_sequence of each broker epoch.';
COMMENT ON COLUMN catalog_partitions.topic IS 'Topic id.';
COMMENT ON COLUMN catalog_partitions.partition IS 'Partition number.';
COMMENT ON COLUMN catalog_partitions.log_start IS 'First offset that may be read. May be above log_end: DeleteRecords moves it at once, past what is folded.';
COMMENT ON COLUMN catalog_partitions.log_end IS 'Offset after the last folded record. It never goes back.';
COMMENT ON COLUMN catalog_partitions.last_stable IS 'Last stable offset as of the same fold.';
COMMENT ON COLUMN catalog_partitions.bytes IS 'Bytes of the folded extents.';
COMMENT ON COLUMN catalog_partitions.leader_epochs IS 'Leader-epoch history: list of [epoch, first offset].';
COMMENT ON COLUMN catalog_partitions.producers IS 'Producer snapshot; null: none.';

CREATE TABLE catalog_leases (
    topic     uuid    NOT NULL,
    partition integer NOT NULL,
    holder    bigint  REFERENCES catalog_brokers (epoch),
    epoch     integer NOT NULL DEFAULT -1 CHECK (epoch >= -1),
    wanted    bigint  CHECK (wanted > 0),
    PRIMARY KEY (topic, partition),
    FOREIGN KEY (topic, partition) REFERENCES catalog_partitions (topic, partition),
    CHECK (holder IS NULL OR epoch >= 0),
    CHECK (wanted IS NULL OR (holder IS NOT NULL AND holder <> wanted))
) WITH (fillfactor = 70);
CREATE INDEX catalog_leases_held ON catalog_leases (holder, topic, partition) WHERE holder IS NOT NULL;
CREATE INDEX catalog_leases_free ON catalog_leases (topic, partition) WHERE holder IS NULL;
COMMENT ON TABLE catalog_leases IS 'Who may append to which partition. A topic''s leases go when it is deleted.';
COMMENT ON COLUMN catalog_leases.topic IS 'Topic id.';
COMMENT ON COLUMN catalog_leases.partition IS 'Partition number.';
COMMENT ON COLUMN catalog_leases.holder IS 'Broker epoch of the leader; null: nobody.';
COMMENT ON COLUMN catalog_leases.epoch IS 'Lease epoch, which is Kafka''s leader epoch. It grows each time the lease is taken; -1: never.';
COMMENT ON COLUMN catalog_leases.wanted IS 'Broker epoch that the holder is asked to hand it over to; null: none. That one may be fenced meanwhile.';

CREATE TABLE catalog_tail (
    epoch          bigint      NOT NULL REFERENCES catalog_brokers (epoch),
    first_sequence bigint      NOT NULL CHECK (first_sequence > 0),
    last_sequence  bigint      NOT NULL,
    object         bigint      NOT NULL,
    size           bigint      NOT NULL CHECK (size >= 0),
    checksum       bigint      NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    committed_at   timestamptz NOT NULL,
    merge          bigint      NOT NULL DEFAULT 0 CHECK (merge >= 0),
    key            text        COLLATE "C" NOT NULL CHECK (key <> ''),
    extents        bytea       NOT NULL,
    end_topics     integer[],
    end_partitions integer[],
    end_offsets    bigint[],
    PRIMARY KEY (epoch, last_sequence),
    CHECK (last_sequence >= first_sequence),
    CHECK (cardinality(end_topics) IS NOT DISTINCT FROM cardinality(end_offsets)
        AND cardinality(end_partitions) IS NOT DISTINCT FROM cardinality(end_offsets))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_cost_delay = 0);
CREATE INDEX catalog_tail_merges ON catalog_tail (epoch, merge) WHERE merge > 0;
ALTER TABLE catalog_tail ALTER COLUMN extents SET STORAGE EXTERNAL; -- coded tightly: compressing it would only cost commits time
COMMENT ON TABLE catalog_tail IS 'Committed objects that are not folded: one row per object, whatever the number of partitions.';
COMMENT ON COLUMN catalog_tail.epoch IS 'Epoch of the broker that committed it.';
COMMENT ON COLUMN catalog_tail.first_sequence IS 'First sequence the row stands for; below last_sequence only after a hot merge.';
COMMENT ON COLUMN catalog_tail.last_sequence IS 'Last sequence the row stands for.';
COMMENT ON COLUMN catalog_tail.object IS 'Object id.';
COMMENT ON COLUMN catalog_tail.size IS 'Bytes of the object.';
COMMENT ON COLUMN catalog_tail.checksum IS 'CRC-32C of the object.';
COMMENT ON COLUMN catalog_tail.committed_at IS 'When it was committed.';
COMMENT ON COLUMN catalog_tail.merge IS 'Number of the hot merge that made the row; 0: as committed.';
COMMENT ON COLUMN catalog_tail.key IS 'Key in the object store.';
COMMENT ON COLUMN catalog_tail.extents IS 'The object''s index (docs/formats/tail-index.md).';
COMMENT ON COLUMN catalog_tail.end_topics IS 'Per partition with data in the object: catalog_topics.ref. For the view partitions; null: not told.';
COMMENT ON COLUMN catalog_tail.end_partitions IS 'Likewise: partition number.';
COMMENT ON COLUMN catalog_tail.end_offsets IS 'Likewise: offset after its last record.';

CREATE TABLE catalog_objects (
    id         bigint      PRIMARY KEY,
    key        text        COLLATE "C" NOT NULL UNIQUE CHECK (key <> ''),
    size       bigint      NOT NULL CHECK (size >= 0),
    checksum   bigint      NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    generation integer     NOT NULL CHECK (generation >= 0),
    refs       bigint      NOT NULL CHECK (refs > 0),
    live       bigint      NOT NULL CHECK (live >= 0),
    created_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX catalog_objects_to_merge ON catalog_objects (generation, size);
CREATE INDEX catalog_objects_sparse ON catalog_objects (id) WHERE size >= 1048576 AND live < size - live;
COMMENT ON TABLE catalog_objects IS 'Folded objects: those packed rows point into. One without references left goes to catalog_retired in the same transaction.';
COMMENT ON COLUMN catalog_objects.id IS 'Object id.';
COMMENT ON COLUMN catalog_objects.key IS 'Key in the object store.';
COMMENT ON COLUMN catalog_objects.size IS 'Bytes of the object.';
COMMENT ON COLUMN catalog_objects.checksum IS 'CRC-32C of the object.';
COMMENT ON COLUMN catalog_objects.generation IS 'How many times its bytes have been rewritten.';
COMMENT ON COLUMN catalog_objects.refs IS 'Extents in packed rows that point into it.';
COMMENT ON COLUMN catalog_objects.live IS 'Bytes those extents cover.';
COMMENT ON COLUMN catalog_objects.created_at IS 'When it became folded.';

CREATE TABLE catalog_packed_rows (
    topic       uuid    NOT NULL,
    partition   integer NOT NULL,
    base_offset bigint  NOT NULL CHECK (base_offset >= 0),
    end_offset  bigint  NOT NULL,
    version     bigint  NOT NULL,
    extents     bytea   NOT NULL,
    PRIMARY KEY (topic, partition, base_offset),
    FOREIGN KEY (topic, partition) REFERENCES catalog_partitions (topic, partition),
    CHECK (end_offset > base_offset)
);
ALTER TABLE catalog_packed_rows ALTER COLUMN extents SET STORAGE EXTERNAL;
COMMENT ON TABLE catalog_packed_rows IS 'Consecutive extents of one partition, packed. Rows of a partition do not overlap.';
COMMENT ON COLUMN catalog_packed_rows.topic IS 'Topic id.';
COMMENT ON COLUMN catalog_packed_rows.partition IS 'Partition number.';
COMMENT ON COLUMN catalog_packed_rows.base_offset IS 'Offset of the first record.';
COMMENT ON COLUMN catalog_packed_rows.end_offset IS 'Offset after the last record.';
COMMENT ON COLUMN catalog_packed_rows.version IS 'Another one each time the row is replaced.';
COMMENT ON COLUMN catalog_packed_rows.extents IS 'The extents (docs/formats/packed-row.md).';

CREATE TABLE catalog_retired (
    id   bigint      PRIMARY KEY,
    at   timestamptz NOT NULL,
    keys text[]      NOT NULL CHECK (cardinality(keys) > 0)
);
COMMENT ON TABLE catalog_retired IS 'Objects the manifest no longer names, in batches. Their files go once a grace has passed.';
COMMENT ON COLUMN catalog_retired.id IS 'Batch.';
COMMENT ON COLUMN catalog_retired.at IS 'When they were retired.';
COMMENT ON COLUMN catalog_retired.keys IS 'Their keys in the object store.';

CREATE VIEW topics AS
    SELECT name, id AS topic_id, partitions, replication_factor, configs, version, created_at
    FROM catalog_topics WHERE deleted_at IS NULL ORDER BY name;
COMMENT ON VIEW topics IS 'The topics.';
COMMENT ON COLUMN topics.name IS 'Name.';
COMMENT ON COLUMN topics.topic_id IS 'Kafka''s topic id.';
COMMENT ON COLUMN topics.partitions IS 'Number of partitions.';
COMMENT ON COLUMN topics.replication_factor IS 'As asked for at creation.';
COMMENT ON COLUMN topics.configs IS 'Configs that were set, by Kafka''s names.';
COMMENT ON COLUMN topics.version IS 'Grows with each change of the topic.';
COMMENT ON COLUMN topics.created_at IS 'When it was created.';

CREATE VIEW partitions AS
    SELECT t.name AS topic, p.partition, b.id AS leader, l.epoch AS leader_epoch, p.log_start,
           greatest(p.log_end, p.log_start, e.end_offset) AS high_watermark,
           p.bytes AS folded_bytes, l.holder AS broker_epoch, t.id AS topic_id
    FROM catalog_topics t
    JOIN catalog_partitions p ON p.topic = t.id
    LEFT JOIN catalog_leases l ON l.topic = p.topic AND l.partition = p.partition
    LEFT JOIN catalog_brokers b ON b.epoch = l.holder
    LEFT JOIN (
        SELECT u.topic_ref, u.partition, max(u.end_offset) AS end_offset
        FROM catalog_tail c, unnest(c.end_topics, c.end_partitions, c.end_offsets) AS u (topic_ref, partition, end_offset)
        GROUP BY u.topic_ref, u.partition
    ) e ON e.topic_ref = t.ref AND e.partition = p.partition
    WHERE t.deleted_at IS NULL
    ORDER BY t.name, p.partition;
COMMENT ON VIEW partitions IS 'The partitions of all topics with their leaders and offsets, as of now.';
COMMENT ON COLUMN partitions.topic IS 'Topic name.';
COMMENT ON COLUMN partitions.partition IS 'Partition number.';
COMMENT ON COLUMN partitions.leader IS 'Kafka''s node id of the leader; null: nobody.';
COMMENT ON COLUMN partitions.leader_epoch IS 'Kafka''s leader epoch; -1: never had a leader.';
COMMENT ON COLUMN partitions.log_start IS 'First offset that may be read.';
COMMENT ON COLUMN partitions.high_watermark IS 'Offset after the last committed record.';
COMMENT ON COLUMN partitions.folded_bytes IS 'Bytes of its log, without what is still in the tail.';
COMMENT ON COLUMN partitions.broker_epoch IS 'Broker epoch of the leader.';
COMMENT ON COLUMN partitions.topic_id IS 'Kafka''s topic id.';

CREATE VIEW partition_leases AS
    SELECT t.name AS topic, l.partition, b.id AS broker_id, l.holder AS broker_epoch, l.epoch AS lease_epoch,
           (SELECT w.id FROM catalog_brokers w WHERE w.epoch = l.wanted) AS wanted_by, t.id AS topic_id
    FROM catalog_leases l
    JOIN catalog_topics t ON t.id = l.topic
    LEFT JOIN catalog_brokers b ON b.epoch = l.holder
    ORDER BY t.name, l.partition;
COMMENT ON VIEW partition_leases IS 'Which broker may append to which partition.';
COMMENT ON COLUMN partition_leases.topic IS 'Topic name.';
COMMENT ON COLUMN partition_leases.partition IS 'Partition number.';
COMMENT ON COLUMN partition_leases.broker_id IS 'Kafka''s node id of the holder; null: nobody.';
COMMENT ON COLUMN partition_leases.broker_epoch IS 'Broker epoch of the holder.';
COMMENT ON COLUMN partition_leases.lease_epoch IS 'Lease epoch, which is Kafka''s leader epoch; -1: never held.';
COMMENT ON COLUMN partition_leases.wanted_by IS 'Node id of the broker that the holder is asked to hand it over to; null: none.';
COMMENT ON COLUMN partition_leases.topic_id IS 'Kafka''s topic id.';

CREATE VIEW brokers AS
    SELECT b.id AS broker_id, b.epoch AS broker_epoch, b.fenced,
           EXISTS (SELECT 1 FROM catalog_draining d WHERE d.id = b.id) AS draining, b.rack, b.listeners, b.registered_at, b.last_heartbeat,
           b.last_heartbeat + make_interval(secs => b.ttl_ns / 1e9) AS expires_at,
           (SELECT count(*) FROM catalog_leases l WHERE l.holder = b.epoch) AS leases,
           b.last_sequence, f.folded_sequence, b.committed_at AS last_commit, b.incarnation
    FROM catalog_brokers b JOIN catalog_folds f ON f.epoch = b.epoch
    ORDER BY b.id, b.epoch;
COMMENT ON VIEW brokers IS 'The brokers, and fenced epochs of them whose commits are not folded yet.';
COMMENT ON COLUMN brokers.broker_id IS 'Kafka''s node id.';
COMMENT ON COLUMN brokers.broker_epoch IS 'One per registration of a process, growing.';
COMMENT ON COLUMN brokers.fenced IS 'True: dead for ever.';
COMMENT ON COLUMN brokers.draining IS 'True: an operator wants it to hold no leases.';
COMMENT ON COLUMN brokers.rack IS 'Rack or zone.';
COMMENT ON COLUMN brokers.listeners IS 'Addresses clients may use.';
COMMENT ON COLUMN brokers.registered_at IS 'When it registered.';
COMMENT ON COLUMN brokers.last_heartbeat IS 'When it last renewed its session.';
COMMENT ON COLUMN brokers.expires_at IS 'When others may fence it, unless it renews its session or the catalog itself was away.';
COMMENT ON COLUMN brokers.leases IS 'How many partitions it leads.';
COMMENT ON COLUMN brokers.last_sequence IS 'Sequence of its last commit.';
COMMENT ON COLUMN brokers.folded_sequence IS 'Its commits up to this one are folded.';
COMMENT ON COLUMN brokers.last_commit IS 'When it last committed.';
COMMENT ON COLUMN brokers.incarnation IS 'Random id of the process.';

CREATE VIEW objects AS
    SELECT id AS object_id, key, 'folded' AS level, size, live, refs, generation,
           lpad(to_hex(checksum), 8, '0') AS crc32c, created_at
    FROM catalog_objects
    UNION ALL
    SELECT object, key, 'tail', size, NULL, NULL, NULL, lpad(to_hex(checksum), 8, '0'), committed_at
    FROM catalog_tail;
COMMENT ON VIEW objects IS 'The objects that make up the log.';
COMMENT ON COLUMN objects.object_id IS 'Object id.';
COMMENT ON COLUMN objects.key IS 'Key in the object store.';
COMMENT ON COLUMN objects.level IS 'tail: committed, not folded. folded: packed rows point into it.';
COMMENT ON COLUMN objects.size IS 'Bytes.';
COMMENT ON COLUMN objects.live IS 'Bytes that are still part of a log; null in the tail, where all count.';
COMMENT ON COLUMN objects.refs IS 'Extents that are still part of a log; null in the tail.';
COMMENT ON COLUMN objects.generation IS 'How many times its bytes have been rewritten; null in the tail.';
COMMENT ON COLUMN objects.crc32c IS 'Checksum, in hex.';
COMMENT ON COLUMN objects.created_at IS 'When it was committed, or became folded.';

CREATE VIEW log_tail AS
    SELECT epoch AS broker_epoch, first_sequence, last_sequence, object AS object_id, key, size, length(extents) AS index_bytes,
           cardinality(end_offsets) AS partitions, committed_at
    FROM catalog_tail ORDER BY epoch, last_sequence;
COMMENT ON VIEW log_tail IS 'Committed objects that are not folded, in commit order of each broker.';
COMMENT ON COLUMN log_tail.broker_epoch IS 'Who committed it.';
COMMENT ON COLUMN log_tail.first_sequence IS 'First sequence the row stands for.';
COMMENT ON COLUMN log_tail.last_sequence IS 'Last sequence the row stands for.';
COMMENT ON COLUMN log_tail.object_id IS 'Object id.';
COMMENT ON COLUMN log_tail.key IS 'Key in the object store.';
COMMENT ON COLUMN log_tail.size IS 'Bytes of the object.';
COMMENT ON COLUMN log_tail.index_bytes IS 'Bytes of its index.';
COMMENT ON COLUMN log_tail.partitions IS 'How many partitions it has data of; null: not told.';
COMMENT ON COLUMN log_tail.committed_at IS 'When it was committed.';

CREATE VIEW packed_rows AS
    SELECT t.name AS topic, r.partition, r.base_offset, r.end_offset, r.version, length(r.extents) AS extents_bytes, r.topic AS topic_id
    FROM catalog_packed_rows r JOIN catalog_topics t ON t.id = r.topic
    ORDER BY t.name, r.topic, r.partition, r.base_offset;
COMMENT ON VIEW packed_rows IS 'The folded log of each partition, piece by piece, also of deleted topics.';
COMMENT ON COLUMN packed_rows.topic IS 'Topic name.';
COMMENT ON COLUMN packed_rows.partition IS 'Partition number.';
COMMENT ON COLUMN packed_rows.base_offset IS 'Offset of the first record.';
COMMENT ON COLUMN packed_rows.end_offset IS 'Offset after the last record.';
COMMENT ON COLUMN packed_rows.version IS 'Another one each time the row is replaced.';
COMMENT ON COLUMN packed_rows.extents_bytes IS 'Bytes of its list of extents.';
COMMENT ON COLUMN packed_rows.topic_id IS 'Topic id.';

CREATE VIEW retired_objects AS
    SELECT r.id AS batch, r.at AS retired_at, k.key FROM catalog_retired r, unnest(r.keys) AS k (key) ORDER BY r.id, k.key;
COMMENT ON VIEW retired_objects IS 'Objects that are no longer part of any log; their files go once a grace has passed.';
COMMENT ON COLUMN retired_objects.batch IS 'Batch.';
COMMENT ON COLUMN retired_objects.retired_at IS 'When it was retired.';
COMMENT ON COLUMN retired_objects.key IS 'Key in the object store.';
