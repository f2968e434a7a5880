package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	groupColumns  = "g.id, g.shard, g.kind, g.protocol_type, g.protocol, g.phase, g.epoch, g.leader, g.state, g.changed_at"
	groupsOfShard = "SELECT " + groupColumns + " FROM groups g WHERE g.shard = ? AND g.id > ? ORDER BY g.id LIMIT ?"
	groupsOfAll   = "SELECT " + groupColumns + " FROM groups g WHERE g.id > ? ORDER BY g.id LIMIT ?"
	groupOfID     = "SELECT " + groupColumns + " FROM groups g WHERE g.id = ?"
	membersOf     = "SELECT member_id, instance_id, client_id, client_host, state FROM group_members WHERE group_id = ? ORDER BY member_id"
	offsetsOf     = `SELECT topic, partition, topic_id, committed_offset, leader_epoch, metadata, committed_at, expires_at
		FROM group_offsets WHERE group_id = ? ORDER BY topic, partition`
)

func groupOf(r row) catalog.GroupRecord {
	return catalog.GroupRecord{Group: catalog.Group{
		ID: r.text(0), Shard: int32(r.int(1)), Kind: catalog.GroupKind(r.text(2)), ProtocolType: r.text(3), Protocol: r.text(4),
		Phase: r.text(5), Epoch: int32(r.int(6)), Leader: r.text(7), State: []byte(r.text(8)), ChangedAt: time.Unix(0, r.int(9)).UTC(),
	}}
}

func groupOffsetOf(r row) catalog.GroupOffset {
	o := catalog.GroupOffset{
		Topic: r.text(0), Partition: int32(r.int(1)), Offset: r.int(3), LeaderEpoch: int32(r.int(4)), Metadata: r.text(5),
		CommittedAt: time.Unix(0, r.int(6)).UTC(),
	}
	copy(o.TopicID[:], r.blob(2))
	if !r.null(7) {
		o.ExpiresAt = time.Unix(0, r.int(7)).UTC()
	}
	return o
}

// ReadGroups implements [catalog.Groups].
func (c *Catalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	if err := catalog.CheckGroupsAfter(after); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	query, args := groupsOfShard, []any{int64(shard), after, int64(max(limit, 0))}
	if shard < 0 {
		query, args = groupsOfAll, args[1:]
	}
	return c.readGroups(ctx, query, args...)
}

// ReadGroup implements [catalog.Groups].
func (c *Catalog) ReadGroup(ctx context.Context, id string) (catalog.GroupRecord, error) {
	found, err := c.readGroups(ctx, groupOfID, id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("read group %q: %w", id, catalog.ErrNotFound)
	}
	if err != nil {
		return catalog.GroupRecord{}, err
	}
	return found[0], nil
}

func (c *Catalog) readGroups(ctx context.Context, query string, args ...any) (out []catalog.GroupRecord, err error) {
	err = c.read(ctx, "read groups", func(db *conn) error {
		err := db.query(ctx, query, func(r row) error {
			out = append(out, groupOf(r))
			return nil
		}, args...)
		for i := range out {
			g := &out[i]
			if err == nil {
				err = db.query(ctx, membersOf, func(r row) error {
					g.Members = append(g.Members, catalog.GroupMember{
						ID: r.text(0), InstanceID: r.text(1), ClientID: r.text(2), ClientHost: r.text(3), State: []byte(r.text(4)),
					})
					return nil
				}, g.ID)
			}
			if err == nil {
				err = db.query(ctx, offsetsOf, func(r row) error {
					g.Offsets = append(g.Offsets, groupOffsetOf(r))
					return nil
				}, g.ID)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// WriteGroups implements [catalog.Groups]. It shares the writer's transaction with whatever else waits.
func (c *Catalog) WriteGroups(ctx context.Context, w catalog.GroupWrite) (at time.Time, err error) {
	if err := w.Check(); err != nil {
		return time.Time{}, fmt.Errorf("write groups: %w", err)
	}
	err = c.write(ctx, fmt.Sprintf("write groups of shard %d", w.Shard), func(t *tx) error {
		at = toTime(t.now)
		repeat, err := t.guardGroups(&w)
		if err != nil || repeat {
			return err
		}
		for i := range w.Changes {
			if err := t.changeGroup(w.Shard, &w.Changes[i]); err != nil {
				return fmt.Errorf("group %q: %w", w.Changes[i].ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// guardGroups looks at the lease and takes the write's number. A repeat of the last write changes nothing.
func (t *tx) guardGroups(w *catalog.GroupWrite) (repeat bool, err error) {
	var holder, epoch, last int64
	found, err := t.one("SELECT holder, epoch, CASE WHEN writes_epoch = epoch THEN writes ELSE 0 END FROM leases WHERE topic = ? AND partition = ?",
		func(r row) { holder, epoch, last = r.int(0), r.int(1), r.int(2) }, catalog.GroupsTopic[:], int64(w.Shard))
	switch {
	case err != nil:
		return false, err
	case !found || holder != int64(w.Holder) || epoch != int64(w.Lease):
		return false, fmt.Errorf("the lease is not held by broker epoch %d under epoch %d: %w", w.Holder, w.Lease, catalog.ErrFenced)
	case w.Number == last:
		return true, nil
	case w.Number != last+1:
		return false, fmt.Errorf("write %d, due is %d: %w", w.Number, last+1, catalog.ErrSequence)
	}
	_, err = t.exec("UPDATE leases SET writes = ?, writes_epoch = epoch WHERE topic = ? AND partition = ?",
		w.Number, catalog.GroupsTopic[:], int64(w.Shard))
	return false, err
}

func (t *tx) changeGroup(shard int32, ch *catalog.GroupChange) error {
	if ch.Delete {
		_, err := t.exec("DELETE FROM groups WHERE id = ? AND shard = ?", ch.ID, int64(shard))
		return err
	}
	at := int64(-1)
	if _, err := t.one("SELECT shard FROM groups WHERE id = ?", func(r row) { at = r.int(0) }, ch.ID); err != nil {
		return err
	}
	switch {
	case ch.Group != nil && at >= 0 && at != int64(shard):
		return fmt.Errorf("it belongs to shard %d: %w", at, catalog.ErrInvalid)
	case ch.Group == nil && at != int64(shard):
		if len(ch.Members)+len(ch.Offsets) > 0 {
			return fmt.Errorf("members or offsets of a group without a row: %w", catalog.ErrInvalid)
		}
		return nil // nothing is there that could go
	}
	if err := t.putGroup(ch.Group); err != nil {
		return err
	}
	if err := t.changeMembers(ch); err != nil {
		return err
	}
	return t.changeOffsets(ch)
}

func (t *tx) putGroup(g *catalog.Group) error {
	if g == nil {
		return nil
	}
	_, err := t.exec(`INSERT INTO groups (id, shard, kind, protocol_type, protocol, phase, epoch, leader, state, changed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET kind = excluded.kind, protocol_type = excluded.protocol_type,
			protocol = excluded.protocol, phase = excluded.phase, epoch = excluded.epoch, leader = excluded.leader, state = excluded.state,
			changed_at = excluded.changed_at`,
		g.ID, int64(g.Shard), string(g.Kind), g.ProtocolType, g.Protocol, g.Phase, int64(g.Epoch), g.Leader, string(g.State),
		catalog.KeptGroupTime(g.ChangedAt).UnixNano())
	return err
}

func (t *tx) changeMembers(ch *catalog.GroupChange) error {
	if ch.AllMembersGone {
		if _, err := t.exec("DELETE FROM group_members WHERE group_id = ?", ch.ID); err != nil {
			return err
		}
	}
	for _, id := range ch.MembersGone {
		if _, err := t.exec("DELETE FROM group_members WHERE group_id = ? AND member_id = ?", ch.ID, id); err != nil {
			return err
		}
	}
	for i := range ch.Members {
		m := &ch.Members[i]
		_, err := t.exec(`INSERT INTO group_members (group_id, member_id, instance_id, client_id, client_host, state) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET instance_id = excluded.instance_id, client_id = excluded.client_id, client_host = excluded.client_host,
				state = excluded.state`, ch.ID, m.ID, m.InstanceID, m.ClientID, m.ClientHost, string(m.State))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) changeOffsets(ch *catalog.GroupChange) error {
	for i := range ch.OffsetsGone {
		p := &ch.OffsetsGone[i]
		if _, err := t.exec("DELETE FROM group_offsets WHERE group_id = ? AND topic = ? AND partition = ?", ch.ID, p.Topic, int64(p.Partition)); err != nil {
			return err
		}
	}
	for i := range ch.Offsets {
		o := &ch.Offsets[i]
		var id, expires any
		if o.TopicID != (catalog.TopicID{}) {
			id = o.TopicID[:]
		}
		if !o.ExpiresAt.IsZero() {
			expires = catalog.KeptGroupTime(o.ExpiresAt).UnixNano()
		}
		_, err := t.exec(`INSERT INTO group_offsets (group_id, topic, partition, topic_id, committed_offset, leader_epoch, metadata, committed_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET topic_id = excluded.topic_id, committed_offset = excluded.committed_offset,
				leader_epoch = excluded.leader_epoch, metadata = excluded.metadata, committed_at = excluded.committed_at, expires_at = excluded.expires_at`,
			ch.ID, o.Topic, int64(o.Partition), id, o.Offset, int64(o.LeaderEpoch), o.Metadata, catalog.KeptGroupTime(o.CommittedAt).UnixNano(), expires)
		if err != nil {
			return err
		}
	}
	return nil
}
