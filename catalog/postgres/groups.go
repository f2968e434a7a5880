package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

// A group is read as one row, so that all of it is of one moment: members and offsets are arrays. Offsets have no topic id, or
// no expiry, that reads as zero.
const (
	groupsHead = `SELECT g.id, g.shard, g.kind, g.protocol_type, g.protocol, g.phase, g.epoch, g.leader, g.state::text, g.changed_at,
		m.ids, m.instances, m.clients, m.hosts, m.states,
		o.topics, o.partitions, o.topic_ids, o.offsets, o.epochs, o.metadata, o.times, o.expiries
	FROM (SELECT * FROM catalog_groups WHERE `
	groupsTail = `) g
	CROSS JOIN LATERAL (SELECT array_agg(member_id) AS ids, array_agg(instance_id) AS instances, array_agg(client_id) AS clients,
			array_agg(client_host) AS hosts, array_agg(state::text) AS states
		FROM catalog_group_members WHERE shard = g.shard AND group_id = g.id) m
	CROSS JOIN LATERAL (SELECT array_agg(topic) AS topics, array_agg(partition) AS partitions,
			array_agg(coalesce(topic_id, '00000000-0000-0000-0000-000000000000')) AS topic_ids, array_agg(committed_offset) AS offsets,
			array_agg(leader_epoch) AS epochs, array_agg(metadata) AS metadata, array_agg(committed_at) AS times, array_agg(expires_at) AS expiries
		FROM catalog_group_offsets WHERE shard = g.shard AND group_id = g.id) o
	ORDER BY g.id`

	groupsOfShardSQL = groupsHead + "shard = $1 AND id > $2 ORDER BY id LIMIT $3" + groupsTail
	groupsOfAllSQL   = groupsHead + "id > $1 ORDER BY id LIMIT $2" + groupsTail
	groupOfIDSQL     = groupsHead + "id = $1" + groupsTail
)

func scanGroup(r pgx.Rows) (g catalog.GroupRecord, err error) {
	var state string
	var ids, instances, clients, hosts, states, topics, metadata []string
	var partitions, epochs []int32
	var topicIDs [][16]byte
	var offsets []int64
	var times []time.Time
	var expiries []*time.Time
	err = r.Scan(&g.ID, &g.Shard, (*string)(&g.Kind), &g.ProtocolType, &g.Protocol, &g.Phase, &g.Epoch, &g.Leader, &state, &g.ChangedAt,
		&ids, &instances, &clients, &hosts, &states,
		&topics, &partitions, &topicIDs, &offsets, &epochs, &metadata, &times, &expiries)
	if err != nil {
		return g, err
	}
	g.State, g.ChangedAt = []byte(state), g.ChangedAt.UTC()
	g.Members = make([]catalog.GroupMember, len(ids))
	for i := range ids {
		g.Members[i] = catalog.GroupMember{ID: ids[i], InstanceID: instances[i], ClientID: clients[i], ClientHost: hosts[i], State: []byte(states[i])}
	}
	g.Offsets = make([]catalog.GroupOffset, len(topics))
	for i := range topics {
		o := catalog.GroupOffset{
			Topic: topics[i], Partition: partitions[i], TopicID: topicIDs[i], Offset: offsets[i], LeaderEpoch: epochs[i], Metadata: metadata[i],
			CommittedAt: times[i].UTC(),
		}
		if expiries[i] != nil {
			o.ExpiresAt = expiries[i].UTC()
		}
		g.Offsets[i] = o
	}
	slices.SortFunc(g.Members, func(a, b catalog.GroupMember) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(g.Offsets, func(a, b catalog.GroupOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return g, nil
}

// ReadGroups implements [catalog.Groups].
func (c *Catalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	if err := catalog.CheckGroupsAfter(after); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	if shard < 0 {
		return collect(ctx, c, "read groups", groupsOfAllSQL, scanGroup, after, limited(limit))
	}
	return collect(ctx, c, fmt.Sprintf("read groups of shard %d", shard), groupsOfShardSQL, scanGroup, shard, after, limited(limit))
}

// ReadGroup implements [catalog.Groups].
func (c *Catalog) ReadGroup(ctx context.Context, id string) (catalog.GroupRecord, error) {
	var found []catalog.GroupRecord
	var err error
	asked := id
	if catalog.CheckGroupID(id) != nil {
		asked = "" // nobody's, and unlike some ids text that can be sent
	}
	if found, err = collect(ctx, c, "read a group", groupOfIDSQL, scanGroup, asked); err == nil && len(found) == 0 {
		err = fmt.Errorf("read group %q: %w", id, catalog.ErrNotFound)
	}
	if err != nil {
		return catalog.GroupRecord{}, err
	}
	return found[0], nil
}

// lastWrite is the number of the last write to the groups of a lease's shard under the lease's epoch.
const lastWrite = "CASE WHEN l.writes_epoch = l.epoch THEN l.writes ELSE 0 END"

// WriteGroups implements [catalog.Groups]. All is one statement, and so one round trip and one snapshot: see groupWrite.
func (c *Catalog) WriteGroups(ctx context.Context, w catalog.GroupWrite) (time.Time, error) {
	if err := w.Check(); err != nil {
		return time.Time{}, fmt.Errorf("write groups: %w", err)
	}
	b := newGroupWrite(&w)
	sql := b.sql()
	var at time.Time
	err := c.statement(ctx, c.groups, fmt.Sprintf("write groups of shard %d", w.Shard), func(ctx context.Context) error {
		for {
			b.args[0] = c.time.parameter()
			err := c.groups.QueryRow(ctx, sql, b.args...).Scan(&at)
			if !noRows(err) {
				return groupsRefused(err)
			}
			due, err := c.whyRefused(ctx, &w, &at)
			if err != nil || !due {
				return err
			}
			// The write before it was committed in between.
		}
	})
	if err != nil {
		return time.Time{}, err
	}
	return at.UTC(), nil
}

// whyRefused tells why a write was not applied: nil for a repeat. due means that nothing speaks against it any more. It
// vouches for what it found: the write that is repeated may show and not be durable.
func (c *Catalog) whyRefused(ctx context.Context, w *catalog.GroupWrite, at *time.Time) (due bool, err error) {
	var last int64
	err = c.groups.QueryRow(ctx, "SELECT "+lastWrite+", catalog_now($1), "+vouch+" FROM catalog_leases l WHERE topic = $2 AND partition = $3 AND holder = $4 AND epoch = $5",
		c.time.parameter(), [16]byte(catalog.GroupsTopic), w.Shard, int64(w.Holder), int32(w.Lease)).Scan(&last, at, nil)
	switch {
	case noRows(err):
		return false, fmt.Errorf("the lease is not held by broker epoch %d under epoch %d: %w", w.Holder, w.Lease, catalog.ErrFenced)
	case err != nil:
		return false, err
	case w.Number == last:
		return false, nil
	case w.Number == last+1:
		return true, nil
	default:
		return false, fmt.Errorf("write %d, due is %d: %w", w.Number, last+1, catalog.ErrSequence)
	}
}

// groupsRefused translates what the schema refuses: a reference to a group that has no row in the shard, and an id that has
// one in another shard.
func groupsRefused(err error) error {
	if state := sqlState(err); state == codeForeignKey || state == codeUniqueViolation {
		return fmt.Errorf("a group without a row, or of another shard: %w: %w", catalog.ErrInvalid, err)
	}
	return err
}
