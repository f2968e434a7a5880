-- +goose Up

-- One row: which cluster this is. Its id is made when the file is first opened.
CREATE TABLE cluster (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id         TEXT    NOT NULL CHECK (id <> ''),
    created_at INTEGER NOT NULL,          -- all times: nanoseconds since 1970, the catalog's clock
    pinged_at  INTEGER NOT NULL           -- last write that only proved that writing works
) STRICT;

-- Numbers that only grow. A value is the last one handed out; for ids_* it is the next one to hand out.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES
    ('broker_epoch', 0), ('topics_version', 0), ('leases_version', 0), ('packed_version', 0), ('retired_batch', 0),
    ('ids_producer', 0), ('ids_object', 1), ('clock', 0);  -- clock: as of the last time a row with a later time went

-- Topics, also the deleted ones whose extents are not dropped yet.
CREATE TABLE topics (
    id                 BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name               TEXT    NOT NULL CHECK (name <> ''),
    metric_name        TEXT    NOT NULL,  -- the name with every '.' as '_': two live names must differ in it
    partitions         INTEGER NOT NULL CHECK (partitions BETWEEN 1 AND 2147483647),
    replication_factor INTEGER NOT NULL CHECK (replication_factor BETWEEN -32768 AND 32767),
    configs            TEXT    NOT NULL CHECK (json_valid(configs)),
    version            INTEGER NOT NULL CHECK (version > 0),
    created_at         INTEGER NOT NULL,
    deleted_at         INTEGER            -- null: live
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX topics_by_live_name ON topics (metric_name) WHERE deleted_at IS NULL;

-- One row per broker epoch: the fence, and the positions of its tail. A commit changes this row first. The row goes
-- when the epoch is fenced and all it committed is folded; an epoch without a row counts as fenced.
CREATE TABLE brokers (
    epoch           INTEGER NOT NULL PRIMARY KEY CHECK (epoch > 0),
    fenced          INTEGER NOT NULL CHECK (fenced IN (0, 1)),
    last_sequence   INTEGER NOT NULL CHECK (last_sequence >= 0),
    folded_sequence INTEGER NOT NULL CHECK (folded_sequence BETWEEN 0 AND last_sequence),
    committed_at    INTEGER NOT NULL,     -- of the last commit, 0 = none
    last_heartbeat  INTEGER NOT NULL,
    registered_at   INTEGER NOT NULL,
    ttl             INTEGER NOT NULL CHECK (ttl >= 0),  -- nanoseconds
    id              INTEGER NOT NULL CHECK (id BETWEEN -2147483648 AND 2147483647),
    incarnation     BLOB    NOT NULL CHECK (length(incarnation) = 16),
    rack            TEXT    NOT NULL,
    listeners       TEXT    NOT NULL CHECK (json_valid(listeners))
) STRICT;
CREATE UNIQUE INDEX brokers_by_incarnation ON brokers (incarnation) WHERE fenced = 0;

-- The folded row of each partition. log_start may be above log_end: DeleteRecords moves it past what is folded.
CREATE TABLE partitions (
    topic         BLOB    NOT NULL REFERENCES topics (id),
    partition     INTEGER NOT NULL CHECK (partition >= 0),
    log_start     INTEGER NOT NULL CHECK (log_start >= 0),
    log_end       INTEGER NOT NULL CHECK (log_end >= 0),
    last_stable   INTEGER NOT NULL CHECK (last_stable BETWEEN 0 AND log_end),
    bytes         INTEGER NOT NULL,
    leader_epochs TEXT    NOT NULL CHECK (json_valid(leader_epochs)),  -- [[epoch, first offset], ...]
    producers     BLOB,                   -- producer snapshot, may be large: hence a table with row ids
    UNIQUE (topic, partition)
) STRICT;

-- Who may append. A topic's leases go when it is deleted.
CREATE TABLE leases (
    topic     BLOB    NOT NULL,
    partition INTEGER NOT NULL,
    holder    INTEGER REFERENCES brokers (epoch),  -- null: free
    epoch     INTEGER NOT NULL CHECK (epoch BETWEEN -1 AND 2147483647),  -- -1: never held
    PRIMARY KEY (topic, partition),
    FOREIGN KEY (topic, partition) REFERENCES partitions (topic, partition),
    CHECK (holder IS NULL OR epoch >= 0)
) STRICT, WITHOUT ROWID;

-- Committed objects that are not folded. Row ids grow with time, so that a commit appends to the last page of the
-- table and of its index; what does not fit a page goes to overflow pages, read only when the blob is.
CREATE TABLE tail (
    epoch          INTEGER NOT NULL REFERENCES brokers (epoch),
    first_sequence INTEGER NOT NULL CHECK (first_sequence > 0),
    last_sequence  INTEGER NOT NULL CHECK (last_sequence >= first_sequence),
    object         INTEGER NOT NULL,
    size           INTEGER NOT NULL CHECK (size >= 0),
    checksum       INTEGER NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),  -- CRC-32C
    committed_at   INTEGER NOT NULL,
    key            TEXT    NOT NULL CHECK (key <> ''),
    extents        BLOB    NOT NULL,      -- the object's index
    UNIQUE (epoch, last_sequence)
) STRICT;

-- Folded objects. One whose references reach 0 leaves this table for retired_objects in the same transaction.
CREATE TABLE objects (
    id         INTEGER NOT NULL PRIMARY KEY,
    key        TEXT    NOT NULL UNIQUE CHECK (key <> ''),
    size       INTEGER NOT NULL CHECK (size >= 0),
    checksum   INTEGER NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    generation INTEGER NOT NULL CHECK (generation >= 0),
    refs       INTEGER NOT NULL CHECK (refs > 0),
    live       INTEGER NOT NULL CHECK (live >= 0),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX objects_to_merge ON objects (generation, size);

-- Consecutive extents of one partition, packed. Rows of a partition do not overlap.
CREATE TABLE packed_rows (
    topic       BLOB    NOT NULL,
    partition   INTEGER NOT NULL,
    base_offset INTEGER NOT NULL CHECK (base_offset >= 0),
    end_offset  INTEGER NOT NULL CHECK (end_offset > base_offset),
    version     INTEGER NOT NULL,
    extents     BLOB    NOT NULL,
    UNIQUE (topic, partition, base_offset),
    FOREIGN KEY (topic, partition) REFERENCES partitions (topic, partition)
) STRICT;

-- Objects the manifest no longer names, in batches; their files go once a grace has passed.
CREATE TABLE retired_batches (
    id INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE retired_objects (
    key   TEXT    NOT NULL PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES retired_batches (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_objects_by_batch ON retired_objects (batch);

-- For people: ids in hex, times in UTC, blobs by their length.
CREATE VIEW v_topics AS
    SELECT lower(hex(id)) AS id, name, partitions, replication_factor, configs, version,
           strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch') AS created,
           strftime('%Y-%m-%dT%H:%M:%SZ', deleted_at / 1000000000, 'unixepoch') AS deleted
    FROM topics ORDER BY name;
CREATE VIEW v_brokers AS
    SELECT epoch, id, fenced, last_sequence, folded_sequence, rack, listeners, ttl / 1000000 AS ttl_ms,
           lower(hex(incarnation)) AS incarnation,
           strftime('%Y-%m-%dT%H:%M:%SZ', registered_at / 1000000000, 'unixepoch') AS registered,
           strftime('%Y-%m-%dT%H:%M:%SZ', last_heartbeat / 1000000000, 'unixepoch') AS heartbeat
    FROM brokers ORDER BY epoch;
CREATE VIEW v_leases AS
    SELECT t.name AS topic, l.partition, l.holder, l.epoch
    FROM leases l JOIN topics t ON t.id = l.topic ORDER BY t.name, l.partition;
CREATE VIEW v_partitions AS
    SELECT t.name AS topic, lower(hex(p.topic)) AS topic_id, p.partition, p.log_start, p.log_end, p.last_stable, p.bytes,
           p.leader_epochs, length(p.producers) AS producers_bytes, t.deleted_at IS NOT NULL AS deleted
    FROM partitions p JOIN topics t ON t.id = p.topic ORDER BY t.name, p.partition;
CREATE VIEW v_tail AS
    SELECT epoch, first_sequence, last_sequence, object, key, size, printf('%08x', checksum) AS checksum,
           length(extents) AS index_bytes,
           strftime('%Y-%m-%dT%H:%M:%SZ', committed_at / 1000000000, 'unixepoch') AS committed
    FROM tail ORDER BY epoch, last_sequence;
CREATE VIEW v_packed_rows AS
    SELECT t.name AS topic, lower(hex(r.topic)) AS topic_id, r.partition, r.base_offset, r.end_offset, r.version,
           length(r.extents) AS extents_bytes
    FROM packed_rows r JOIN topics t ON t.id = r.topic ORDER BY t.name, r.partition, r.base_offset;
CREATE VIEW v_objects AS
    SELECT id, key, size, printf('%08x', checksum) AS checksum, generation, refs, live,
           strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch') AS created
    FROM objects ORDER BY id;
CREATE VIEW v_retired AS
    SELECT b.id AS batch, strftime('%Y-%m-%dT%H:%M:%SZ', b.at / 1000000000, 'unixepoch') AS retired, o.key
    FROM retired_batches b JOIN retired_objects o ON o.batch = b.id ORDER BY b.id, o.key;

-- Which file this is, and that it is as new as this migration: read before goose is asked.
PRAGMA application_id = 1397246787;
PRAGMA user_version = 1;
