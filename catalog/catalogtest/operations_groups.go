package catalogtest

import (
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// shardUnder is a shard under one lease epoch.
type shardUnder struct {
	shard int32
	lease catalog.LeaseEpoch
}

const modelShards = 3

func (m *model) makeShards() (string, operation) {
	return "make shards", func(s *side) (any, error) {
		topic, err := s.c.CreateTopic(m.t.Context(), catalog.TopicSpec{ID: catalog.GroupsTopic, Name: "groups", Partitions: modelShards})
		topic.Version = 0
		return topic, err
	}
}

func (m *model) coordinate() (string, operation) {
	epoch, shard, leave := m.epoch(), int32(m.rng.IntN(modelShards)), m.chance(25)
	return fmt.Sprintf("coordinate %d by %d, leave: %t", shard, epoch, leave), func(s *side) (any, error) {
		if leave {
			return nil, s.c.ReleaseLeases(m.t.Context(), epoch, shardLease(shard))
		}
		return s.c.AcquireLeases(m.t.Context(), epoch, shardLease(shard))
	}
}

func (m *model) writeGroups() (string, operation) {
	w := catalog.GroupWrite{Shard: int32(m.rng.IntN(modelShards)), Holder: 1, Lease: 0}
	set := reference(m, func(c catalog.Catalog) (catalog.LeaseSet, error) { return c.LeaseSet(m.t.Context(), 0) })
	for _, l := range set.Leases {
		if l.Topic == catalog.GroupsTopic && (l.Partition == w.Shard || m.chance(5)) {
			w.Shard, w.Holder, w.Lease = l.Partition, l.Holder, l.Epoch
		}
	}
	if m.chance(5) {
		w.Holder = m.epoch()
	}
	if m.chance(5) {
		w.Lease += catalog.LeaseEpoch(m.rng.IntN(3) - 1)
	}
	under := shardUnder{w.Shard, w.Lease}
	w.Number = m.writes[under] + 1
	if m.chance(15) {
		w.Number += int64(m.rng.IntN(4) - 2)
	}
	for range m.rng.IntN(4) {
		w.Changes = append(w.Changes, m.groupChange(w.Shard))
	}
	return fmt.Sprintf("write groups %+v", w), func(s *side) (any, error) {
		at, err := s.c.WriteGroups(m.t.Context(), w)
		if err == nil {
			m.writes[under] = max(m.writes[under], w.Number)
		}
		return at, err
	}
}

// groupChange makes up a change of one of a few groups, most of which are of one shard each.
func (m *model) groupChange(shard int32) catalog.GroupChange {
	id := fmt.Sprintf("g%d-%d", shard, m.rng.IntN(3))
	if m.chance(3) {
		id = fmt.Sprintf("g%d-%d", m.rng.IntN(modelShards), m.rng.IntN(3))
	}
	ch := catalog.GroupChange{ID: id, Delete: m.chance(8)}
	if ch.Delete && !m.chance(5) {
		return ch
	}
	now := m.clock.Now().Add(time.Duration(m.rng.IntN(5000)))
	if m.chance(60) {
		ch.Group = groupRow(shard, id)
		ch.Group.Epoch, ch.Group.ChangedAt = int32(m.rng.IntN(100)), now
		ch.Group.Phase = []string{"Empty", "Stable", "Dead", ""}[min(m.rng.IntN(40), 3)]
	}
	ch.AllMembersGone = m.chance(15)
	for range m.rng.IntN(3) {
		member := groupMember(fmt.Sprintf("m%d", m.rng.IntN(8)))
		member.ClientID = fmt.Sprint(m.rng.IntN(100))
		ch.Members = append(ch.Members, member)
	}
	for range m.rng.IntN(2) {
		ch.MembersGone = append(ch.MembersGone, fmt.Sprintf("m%d", m.rng.IntN(8)))
	}
	for range m.rng.IntN(3) {
		o := groupOffset([]string{"a", "b"}[m.rng.IntN(2)], int32(m.rng.IntN(6)), int64(m.rng.IntN(1000)))
		o.CommittedAt = now
		if m.chance(30) {
			o.ExpiresAt, o.TopicID = now.Add(time.Hour), catalog.TopicID{}
		}
		ch.Offsets = append(ch.Offsets, o)
	}
	for range m.rng.IntN(2) {
		ch.OffsetsGone = append(ch.OffsetsGone, catalog.GroupPartition{Topic: []string{"a", "b"}[m.rng.IntN(2)], Partition: int32(m.rng.IntN(6))})
	}
	return ch
}

func (m *model) readGroups() (string, operation) {
	shard, limit := int32(m.rng.IntN(modelShards+1)-1), m.rng.IntN(6)-1
	after := []string{"", "g0-1", "g1-", "g9", "\xff"}[m.rng.IntN(5)]
	return fmt.Sprintf("read %d groups of %d after %q", limit, shard, after), func(s *side) (any, error) {
		return s.c.ReadGroups(m.t.Context(), shard, after, limit)
	}
}
