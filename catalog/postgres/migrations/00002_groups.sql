-- +goose Up

-- Consumer groups. People read the views consumer_groups, consumer_group_members, consumer_offsets and consumer_lag.
--
-- A shard is a partition of __consumer_offsets; the broker that holds its lease coordinates its groups and is the only one
-- that writes their rows. Keys begin with the shard: rows of one coordinator lie together, and none can be put for a group
-- that is another's.

CREATE TABLE catalog_groups (
    id            text        COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    shard         integer     NOT NULL CHECK (shard >= 0),
    kind          text        NOT NULL CHECK (kind IN ('classic', 'consumer')),
    protocol_type text        NOT NULL,
    protocol      text        NOT NULL,
    phase         text        NOT NULL CHECK (phase <> ''),
    epoch         integer     NOT NULL CHECK (epoch >= 0),
    leader        text        COLLATE "C" NOT NULL,
    state         json        NOT NULL,
    changed_at    timestamptz NOT NULL,
    UNIQUE (shard, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE catalog_groups IS 'Consumer groups.';
COMMENT ON COLUMN catalog_groups.id IS 'Group id.';
COMMENT ON COLUMN catalog_groups.shard IS 'Partition of __consumer_offsets whose leader coordinates the group.';
COMMENT ON COLUMN catalog_groups.kind IS 'Protocol its members speak: classic, or consumer (KIP-848).';
COMMENT ON COLUMN catalog_groups.protocol_type IS 'What its members are: consumer, for consumers; empty: nothing but offsets was committed.';
COMMENT ON COLUMN catalog_groups.protocol IS 'Assignor in force; empty: none.';
COMMENT ON COLUMN catalog_groups.phase IS 'Kafka''s group state as of the last write: the coordinator at work knows better.';
COMMENT ON COLUMN catalog_groups.epoch IS 'Generation of a classic group, group epoch of a consumer group.';
COMMENT ON COLUMN catalog_groups.leader IS 'Member id of a classic group''s leader; empty: none.';
COMMENT ON COLUMN catalog_groups.state IS 'What else its coordinator has to know.';
COMMENT ON COLUMN catalog_groups.changed_at IS 'When phase last changed, by the coordinator''s clock.';

CREATE TABLE catalog_group_members (
    shard       integer NOT NULL,
    group_id    text    COLLATE "C" NOT NULL,
    member_id   text    COLLATE "C" NOT NULL CHECK (member_id <> ''),
    instance_id text    NOT NULL,
    client_id   text    NOT NULL,
    client_host text    NOT NULL,
    state       json    NOT NULL,
    PRIMARY KEY (shard, group_id, member_id),
    FOREIGN KEY (shard, group_id) REFERENCES catalog_groups (shard, id) ON DELETE CASCADE
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE catalog_group_members IS 'Members of consumer groups.';
COMMENT ON COLUMN catalog_group_members.shard IS 'The group''s shard.';
COMMENT ON COLUMN catalog_group_members.group_id IS 'Group id.';
COMMENT ON COLUMN catalog_group_members.member_id IS 'Member id.';
COMMENT ON COLUMN catalog_group_members.instance_id IS 'group.instance.id (KIP-345); empty: none.';
COMMENT ON COLUMN catalog_group_members.client_id IS 'Client id.';
COMMENT ON COLUMN catalog_group_members.client_host IS 'Address of the client.';
COMMENT ON COLUMN catalog_group_members.state IS 'What else its coordinator has to know: subscription, time-outs, epochs, assignment.';

CREATE TABLE catalog_group_offsets (
    shard            integer     NOT NULL,
    partition        integer     NOT NULL CHECK (partition >= 0),
    group_id         text        COLLATE "C" NOT NULL,
    topic            text        COLLATE "C" NOT NULL CHECK (topic <> ''),
    topic_id         uuid,
    committed_offset bigint      NOT NULL CHECK (committed_offset >= 0),
    committed_at     timestamptz NOT NULL,
    expires_at       timestamptz,
    leader_epoch     integer     NOT NULL CHECK (leader_epoch >= -1),
    metadata         text        NOT NULL,
    PRIMARY KEY (shard, group_id, topic, partition),
    FOREIGN KEY (shard, group_id) REFERENCES catalog_groups (shard, id) ON DELETE CASCADE
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE catalog_group_offsets IS 'Offsets that consumer groups committed.';
COMMENT ON COLUMN catalog_group_offsets.shard IS 'The group''s shard.';
COMMENT ON COLUMN catalog_group_offsets.partition IS 'Partition number.';
COMMENT ON COLUMN catalog_group_offsets.group_id IS 'Group id.';
COMMENT ON COLUMN catalog_group_offsets.topic IS 'Topic name at the commit.';
COMMENT ON COLUMN catalog_group_offsets.topic_id IS 'Topic id at the commit; null: the committer did not know it.';
COMMENT ON COLUMN catalog_group_offsets.committed_offset IS 'Offset of the next record to read.';
COMMENT ON COLUMN catalog_group_offsets.committed_at IS 'When it was committed, by the coordinator''s clock.';
COMMENT ON COLUMN catalog_group_offsets.expires_at IS 'When it expires by the client''s own wish; null: by the brokers'' retention.';
COMMENT ON COLUMN catalog_group_offsets.leader_epoch IS 'Leader epoch of the last record read; -1: not told.';
COMMENT ON COLUMN catalog_group_offsets.metadata IS 'The client''s own words.';

CREATE VIEW consumer_groups AS
    SELECT g.id AS group_id, g.kind AS type, g.phase AS state, g.protocol_type, g.protocol, g.epoch AS generation,
           (SELECT count(*) FROM catalog_group_members m WHERE m.shard = g.shard AND m.group_id = g.id) AS members,
           b.id AS coordinator, g.changed_at, g.leader, g.shard
    FROM catalog_groups g
    LEFT JOIN catalog_leases l ON l.topic = '73680000-0000-4000-8000-000000000002' AND l.partition = g.shard
    LEFT JOIN catalog_brokers b ON b.epoch = l.holder
    ORDER BY g.id;
COMMENT ON VIEW consumer_groups IS 'The consumer groups.';
COMMENT ON COLUMN consumer_groups.group_id IS 'Group id.';
COMMENT ON COLUMN consumer_groups.type IS 'Protocol its members speak: classic, or consumer (KIP-848).';
COMMENT ON COLUMN consumer_groups.state IS 'Kafka''s group state as of the last write: the coordinator at work knows better.';
COMMENT ON COLUMN consumer_groups.protocol_type IS 'What its members are: consumer, for consumers; empty: nothing but offsets was committed.';
COMMENT ON COLUMN consumer_groups.protocol IS 'Assignor in force; empty: none.';
COMMENT ON COLUMN consumer_groups.generation IS 'Generation of a classic group, group epoch of a consumer group.';
COMMENT ON COLUMN consumer_groups.members IS 'Number of members.';
COMMENT ON COLUMN consumer_groups.coordinator IS 'Kafka''s node id of the broker that coordinates it; null: nobody.';
COMMENT ON COLUMN consumer_groups.changed_at IS 'When state last changed, by the coordinator''s clock.';
COMMENT ON COLUMN consumer_groups.leader IS 'Member id of a classic group''s leader; empty: none.';
COMMENT ON COLUMN consumer_groups.shard IS 'Partition of __consumer_offsets whose leader coordinates the group.';

CREATE VIEW consumer_group_members AS
    SELECT g.id AS group_id, m.member_id, m.instance_id, m.client_id, m.client_host, m.state
    FROM catalog_groups g JOIN catalog_group_members m ON m.shard = g.shard AND m.group_id = g.id
    ORDER BY g.id, m.member_id;
COMMENT ON VIEW consumer_group_members IS 'The members of consumer groups.';
COMMENT ON COLUMN consumer_group_members.group_id IS 'Group id.';
COMMENT ON COLUMN consumer_group_members.member_id IS 'Member id.';
COMMENT ON COLUMN consumer_group_members.instance_id IS 'group.instance.id (KIP-345); empty: none.';
COMMENT ON COLUMN consumer_group_members.client_id IS 'Client id.';
COMMENT ON COLUMN consumer_group_members.client_host IS 'Address of the client.';
COMMENT ON COLUMN consumer_group_members.state IS 'What its coordinator keeps of it: subscription, time-outs, epochs, assignment.';

CREATE VIEW consumer_offsets AS
    SELECT g.id AS group_id, o.topic, o.partition, o.committed_offset, nullif(o.leader_epoch, -1) AS leader_epoch, o.metadata,
           o.committed_at, o.expires_at, o.topic_id
    FROM catalog_groups g JOIN catalog_group_offsets o ON o.shard = g.shard AND o.group_id = g.id
    ORDER BY g.id, o.topic, o.partition;
COMMENT ON VIEW consumer_offsets IS 'The offsets that consumer groups committed.';
COMMENT ON COLUMN consumer_offsets.group_id IS 'Group id.';
COMMENT ON COLUMN consumer_offsets.topic IS 'Topic name.';
COMMENT ON COLUMN consumer_offsets.partition IS 'Partition number.';
COMMENT ON COLUMN consumer_offsets.committed_offset IS 'Offset of the next record to read.';
COMMENT ON COLUMN consumer_offsets.leader_epoch IS 'Leader epoch of the last record read; null: not told.';
COMMENT ON COLUMN consumer_offsets.metadata IS 'The client''s own words.';
COMMENT ON COLUMN consumer_offsets.committed_at IS 'When it was committed, by the coordinator''s clock.';
COMMENT ON COLUMN consumer_offsets.expires_at IS 'When it expires by the client''s own wish; null: by the brokers'' retention.';
COMMENT ON COLUMN consumer_offsets.topic_id IS 'Kafka''s topic id at the commit; null: the committer did not know it.';

-- Computed when looked at: no commit pays for it.
CREATE VIEW consumer_lag AS
    SELECT o.group_id, o.topic, o.partition, o.committed_offset, p.high_watermark,
           greatest(p.high_watermark - o.committed_offset, 0) AS lag
    FROM consumer_offsets o
    JOIN partitions p ON p.topic = o.topic AND p.partition = o.partition AND p.topic_id = coalesce(o.topic_id, p.topic_id)
    ORDER BY o.group_id, o.topic, o.partition;
COMMENT ON VIEW consumer_lag IS 'How far consumer groups are behind, of partitions that exist. Each look reads the whole tail: it is for people.';
COMMENT ON COLUMN consumer_lag.group_id IS 'Group id.';
COMMENT ON COLUMN consumer_lag.topic IS 'Topic name.';
COMMENT ON COLUMN consumer_lag.partition IS 'Partition number.';
COMMENT ON COLUMN consumer_lag.committed_offset IS 'Offset of the next record to read.';
COMMENT ON COLUMN consumer_lag.high_watermark IS 'Offset after the last committed record.';
COMMENT ON COLUMN consumer_lag.lag IS 'Offsets between them, not below 0.';

-- Last, since it locks out everybody for a moment. The number is the lease's and not the shard's own, so that brokers which
-- do not know of it, and move leases, need not set it back.
ALTER TABLE catalog_leases
    ADD COLUMN writes bigint NOT NULL DEFAULT 0,
    ADD COLUMN writes_epoch integer NOT NULL DEFAULT -1,
    ADD CONSTRAINT catalog_leases_writes CHECK (writes >= 0 AND writes_epoch <= epoch) NOT VALID;
ALTER TABLE catalog_leases VALIDATE CONSTRAINT catalog_leases_writes;
COMMENT ON COLUMN catalog_leases.writes IS 'Of a shard of __consumer_offsets: how many writes there were to its groups under writes_epoch.';
COMMENT ON COLUMN catalog_leases.writes_epoch IS 'Lease epoch under which writes were counted; another one than epoch: there were none under that yet.';
