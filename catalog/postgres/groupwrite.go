package postgres

import (
	"strconv"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// groupWrite is a write to groups on its way into one statement: each kind of change is a few arrays, one element a row.
//
// The statement's guard is an UPDATE of the shard's lease. It waits for a fence or a move that is under way and then looks at
// the row again, as that left it; what else the statement does comes from what the guard returned.
//
// The rest of the statement looks at its snapshot, and so must not be older than the write before it: else a group that write
// 1 puts would still be there after a write 2 that deletes it, began before write 1 was committed, and waited for it. That
// cannot be, since the row has to have the number before in the snapshot already to be waited for: write 2 is refused then.
type groupWrite struct {
	args  []any
	parts []string // of the statement, after the guard

	gone    []string // groups
	groups  groupRows
	cleared []string // groups whose members go
	left    struct{ groups, members []string }
	members memberRows
	dropped struct {
		groups, topics []string
		partitions     []int32
	}
	offsets offsetRows
}

type groupRows struct {
	ids, kinds, types, protocols, phases, leaders, states []string
	epochs                                                []int32
	times                                                 []time.Time
}

type memberRows struct{ groups, ids, instances, clients, hosts, states []string }

type offsetRows struct {
	groups, topics, metadata []string
	partitions, epochs       []int32
	topicIDs                 [][16]byte
	offsets                  []int64
	times                    []time.Time
	expiries                 []*time.Time
}

// guardGroupsSQL has $1: the time, if given; $2, $3: the lease's partition; $4, $5: holder and lease epoch; $6: the number.
const guardGroupsSQL = `WITH guard AS (UPDATE catalog_leases l SET writes = $6, writes_epoch = l.epoch
	WHERE l.topic = $2 AND l.partition = $3 AND l.holder = $4 AND l.epoch = $5 AND ` + lastWrite + ` = $6::bigint - 1
	RETURNING l.partition AS shard)`

func newGroupWrite(w *catalog.GroupWrite) *groupWrite {
	b := &groupWrite{args: []any{nil, [16]byte(catalog.GroupsTopic), w.Shard, int64(w.Holder), int32(w.Lease), w.Number}}
	for i := range w.Changes {
		b.add(&w.Changes[i])
	}
	return b
}

func (b *groupWrite) add(ch *catalog.GroupChange) {
	if ch.Delete {
		b.gone = append(b.gone, ch.ID)
		return
	}
	if g := ch.Group; g != nil {
		r := &b.groups
		r.ids, r.kinds, r.types = append(r.ids, g.ID), append(r.kinds, string(g.Kind)), append(r.types, g.ProtocolType)
		r.protocols, r.phases, r.leaders = append(r.protocols, g.Protocol), append(r.phases, g.Phase), append(r.leaders, g.Leader)
		r.states, r.epochs, r.times = append(r.states, string(g.State)), append(r.epochs, g.Epoch), append(r.times, catalog.KeptGroupTime(g.ChangedAt))
	}
	if ch.AllMembersGone {
		b.cleared = append(b.cleared, ch.ID)
	}
	for _, id := range ch.MembersGone {
		b.left.groups, b.left.members = append(b.left.groups, ch.ID), append(b.left.members, id)
	}
	for i := range ch.Members {
		m, r := &ch.Members[i], &b.members
		r.groups, r.ids, r.instances = append(r.groups, ch.ID), append(r.ids, m.ID), append(r.instances, m.InstanceID)
		r.clients, r.hosts, r.states = append(r.clients, m.ClientID), append(r.hosts, m.ClientHost), append(r.states, string(m.State))
	}
	for i := range ch.OffsetsGone {
		d := &b.dropped
		d.groups, d.topics, d.partitions = append(d.groups, ch.ID), append(d.topics, ch.OffsetsGone[i].Topic), append(d.partitions, ch.OffsetsGone[i].Partition)
	}
	for i := range ch.Offsets {
		o, r := &ch.Offsets[i], &b.offsets
		r.groups, r.topics, r.partitions = append(r.groups, ch.ID), append(r.topics, o.Topic), append(r.partitions, o.Partition)
		r.topicIDs, r.offsets, r.epochs = append(r.topicIDs, o.TopicID), append(r.offsets, o.Offset), append(r.epochs, o.LeaderEpoch)
		r.metadata, r.times = append(r.metadata, o.Metadata), append(r.times, catalog.KeptGroupTime(o.CommittedAt))
		var expires *time.Time
		if !o.ExpiresAt.IsZero() {
			at := catalog.KeptGroupTime(o.ExpiresAt)
			expires = &at
		}
		r.expiries = append(r.expiries, expires)
	}
}

// sql is the statement: one of few, by which kinds of changes there are. It adds their arrays to args, so it is called once.
//
// A row is changed by one part only: what is put is not removed before but replaced. References are checked, and cascades
// run, when all parts are done.
func (b *groupWrite) sql() string {
	b.groupParts()
	b.memberParts()
	b.offsetParts()
	var s strings.Builder
	s.WriteString(guardGroupsSQL)
	for i, part := range b.parts {
		s.WriteString(",\n\tp" + strconv.Itoa(i) + " AS (" + part + ")")
	}
	s.WriteString("\n\tSELECT catalog_now($1) FROM guard")
	return s.String()
}

// array adds an argument and names it.
func (b *groupWrite) array(values any, of string) string {
	b.args = append(b.args, values)
	return "$" + strconv.Itoa(len(b.args)) + "::" + of + "[]"
}

func (b *groupWrite) groupParts() {
	if len(b.gone) > 0 {
		b.parts = append(b.parts, "DELETE FROM catalog_groups g USING guard WHERE g.shard = guard.shard AND g.id = ANY("+b.array(b.gone, "text")+")")
	}
	r := &b.groups
	if len(r.ids) == 0 {
		return
	}
	b.parts = append(b.parts, `INSERT INTO catalog_groups (shard, id, kind, protocol_type, protocol, phase, epoch, leader, state, changed_at)
		SELECT guard.shard, n.id, n.kind, n.type, n.protocol, n.phase, n.epoch, n.leader, n.state::json, n.changed_at FROM guard, unnest(`+
		b.array(r.ids, "text")+", "+b.array(r.kinds, "text")+", "+b.array(r.types, "text")+", "+b.array(r.protocols, "text")+", "+
		b.array(r.phases, "text")+", "+b.array(r.epochs, "int")+", "+b.array(r.leaders, "text")+", "+b.array(r.states, "text")+", "+
		b.array(r.times, "timestamptz")+`) AS n (id, kind, type, protocol, phase, epoch, leader, state, changed_at)
		ON CONFLICT (shard, id) DO UPDATE SET kind = excluded.kind, protocol_type = excluded.protocol_type, protocol = excluded.protocol,
			phase = excluded.phase, epoch = excluded.epoch, leader = excluded.leader, state = excluded.state, changed_at = excluded.changed_at`)
}

func (b *groupWrite) memberParts() {
	if len(b.cleared) > 0 {
		// NOT IN looks up in a hash table, where NOT EXISTS would compare each with each.
		b.parts = append(b.parts, "DELETE FROM catalog_group_members m USING guard WHERE m.shard = guard.shard AND m.group_id = ANY("+
			b.array(b.cleared, "text")+") AND (m.group_id, m.member_id) NOT IN (SELECT * FROM unnest("+
			b.array(b.members.groups, "text")+", "+b.array(b.members.ids, "text")+"))")
	}
	if len(b.left.groups) > 0 {
		b.parts = append(b.parts, "DELETE FROM catalog_group_members m USING guard, unnest("+
			b.array(b.left.groups, "text")+", "+b.array(b.left.members, "text")+`) AS n (group_id, member_id)
			WHERE m.shard = guard.shard AND m.group_id = n.group_id AND m.member_id = n.member_id`)
	}
	r := &b.members
	if len(r.groups) == 0 {
		return
	}
	b.parts = append(b.parts, `INSERT INTO catalog_group_members (shard, group_id, member_id, instance_id, client_id, client_host, state)
		SELECT guard.shard, n.group_id, n.member_id, n.instance_id, n.client_id, n.client_host, n.state::json FROM guard, unnest(`+
		b.array(r.groups, "text")+", "+b.array(r.ids, "text")+", "+b.array(r.instances, "text")+", "+b.array(r.clients, "text")+", "+
		b.array(r.hosts, "text")+", "+b.array(r.states, "text")+`) AS n (group_id, member_id, instance_id, client_id, client_host, state)
		ON CONFLICT (shard, group_id, member_id) DO UPDATE SET instance_id = excluded.instance_id, client_id = excluded.client_id,
			client_host = excluded.client_host, state = excluded.state`)
}

func (b *groupWrite) offsetParts() {
	if d := &b.dropped; len(d.groups) > 0 {
		b.parts = append(b.parts, "DELETE FROM catalog_group_offsets o USING guard, unnest("+
			b.array(d.groups, "text")+", "+b.array(d.topics, "text")+", "+b.array(d.partitions, "int")+`) AS n (group_id, topic, partition)
			WHERE o.shard = guard.shard AND o.group_id = n.group_id AND o.topic = n.topic AND o.partition = n.partition`)
	}
	r := &b.offsets
	if len(r.groups) == 0 {
		return
	}
	b.parts = append(b.parts, `INSERT INTO catalog_group_offsets (shard, group_id, topic, partition, topic_id, committed_offset, leader_epoch, metadata,
			committed_at, expires_at)
		SELECT guard.shard, n.group_id, n.topic, n.partition, nullif(n.topic_id, '00000000-0000-0000-0000-000000000000'), n.committed_offset,
			n.leader_epoch, n.metadata, n.committed_at, n.expires_at FROM guard, unnest(`+
		b.array(r.groups, "text")+", "+b.array(r.topics, "text")+", "+b.array(r.partitions, "int")+", "+b.array(r.topicIDs, "uuid")+", "+
		b.array(r.offsets, "bigint")+", "+b.array(r.epochs, "int")+", "+b.array(r.metadata, "text")+", "+b.array(r.times, "timestamptz")+", "+
		b.array(r.expiries, "timestamptz")+`)
			AS n (group_id, topic, partition, topic_id, committed_offset, leader_epoch, metadata, committed_at, expires_at)
		ON CONFLICT (shard, group_id, topic, partition) DO UPDATE SET topic_id = excluded.topic_id, committed_offset = excluded.committed_offset,
			leader_epoch = excluded.leader_epoch, metadata = excluded.metadata, committed_at = excluded.committed_at, expires_at = excluded.expires_at`)
}
