-- +goose Up

-- Consumer groups. A shard is a partition of __consumer_offsets; its leader coordinates its groups.
CREATE TABLE groups (
    id            TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    shard         INTEGER NOT NULL CHECK (shard >= 0),
    kind          TEXT    NOT NULL CHECK (kind IN ('classic', 'consumer')),
    protocol_type TEXT    NOT NULL,
    protocol      TEXT    NOT NULL,       -- empty: none
    phase         TEXT    NOT NULL CHECK (phase <> ''),  -- Kafka's group state as of the last write
    epoch         INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 2147483647),  -- generation, or group epoch
    leader        TEXT    NOT NULL,       -- member id; empty: none
    state         TEXT    NOT NULL CHECK (json_valid(state)),  -- the rest
    changed_at    INTEGER NOT NULL        -- when it last changed its phase, by its coordinator's clock
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX groups_by_shard ON groups (shard, id);

CREATE TABLE group_members (
    group_id    TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    member_id   TEXT NOT NULL CHECK (member_id <> ''),
    instance_id TEXT NOT NULL,            -- KIP-345; empty: none
    client_id   TEXT NOT NULL,
    client_host TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (json_valid(state)),
    PRIMARY KEY (group_id, member_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE group_offsets (
    group_id         TEXT    NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    topic            TEXT    NOT NULL CHECK (topic <> ''),  -- its name at the commit
    partition        INTEGER NOT NULL CHECK (partition BETWEEN 0 AND 2147483647),
    topic_id         BLOB    CHECK (length(topic_id) = 16),  -- null: not known to the committer
    committed_offset INTEGER NOT NULL CHECK (committed_offset >= 0),
    leader_epoch     INTEGER NOT NULL CHECK (leader_epoch BETWEEN -1 AND 2147483647),  -- -1: not told
    metadata         TEXT    NOT NULL,
    committed_at     INTEGER NOT NULL,
    expires_at       INTEGER,             -- by the client's own wish; null: by the broker's retention
    PRIMARY KEY (group_id, topic, partition)
) STRICT, WITHOUT ROWID;

-- How many writes there were to the groups of the shard that a lease is of, under the lease epoch writes_epoch.
ALTER TABLE leases ADD COLUMN writes INTEGER NOT NULL DEFAULT 0 CHECK (writes >= 0);
ALTER TABLE leases ADD COLUMN writes_epoch INTEGER NOT NULL DEFAULT -1 CHECK (writes_epoch >= -1);

CREATE VIEW v_groups AS
    SELECT g.id, g.shard, g.kind, g.phase AS state, g.protocol_type, g.protocol, g.epoch AS generation,
           (SELECT count(*) FROM group_members m WHERE m.group_id = g.id) AS members, g.leader,
           strftime('%Y-%m-%dT%H:%M:%SZ', g.changed_at / 1000000000, 'unixepoch') AS changed
    FROM groups g ORDER BY g.id;
CREATE VIEW v_group_members AS
    SELECT group_id, member_id, instance_id, client_id, client_host, state FROM group_members ORDER BY group_id, member_id;
CREATE VIEW v_group_offsets AS
    SELECT group_id, topic, partition, committed_offset, nullif(leader_epoch, -1) AS leader_epoch, metadata,
           strftime('%Y-%m-%dT%H:%M:%SZ', committed_at / 1000000000, 'unixepoch') AS committed,
           strftime('%Y-%m-%dT%H:%M:%SZ', expires_at / 1000000000, 'unixepoch') AS expires, lower(hex(topic_id)) AS topic_id
    FROM group_offsets ORDER BY group_id, topic, partition;

PRAGMA user_version = 4;
