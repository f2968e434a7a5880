package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// group is a group as stored. Its State, and those of its members, are never changed in place.
type group struct {
	catalog.Group
	members map[string]catalog.GroupMember
	version map[string]int64 // of each member
	offsets map[catalog.GroupPartition]catalog.GroupOffset
}

// groupWrites is how many writes there were under a lease epoch.
type groupWrites struct {
	under catalog.LeaseEpoch
	last  int64
}

// ReadGroups implements catalog.Groups.
func (c *Catalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	if err := catalog.CheckGroupsAfter(after); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.GroupRecord
	for _, id := range slices.Sorted(maps.Keys(c.mu.groups)) {
		g := c.mu.groups[id]
		if id > after && (shard < 0 || g.Shard == shard) && len(out) < limit {
			out = append(out, g.record())
		}
	}
	return out, nil
}

// ReadGroup implements catalog.Groups.
func (c *Catalog) ReadGroup(ctx context.Context, id string) (catalog.GroupRecord, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.GroupRecord{}, err
	}
	defer c.mu.Unlock()
	g := c.mu.groups[id]
	if g == nil {
		return catalog.GroupRecord{}, fmt.Errorf("read group %q: %w", id, catalog.ErrNotFound)
	}
	return g.record(), nil
}

func (g *group) record() catalog.GroupRecord {
	r := catalog.GroupRecord{Group: g.Group}
	r.State = slices.Clone(g.State)
	r.Members = slices.SortedFunc(maps.Values(g.members), func(a, b catalog.GroupMember) int { return cmp.Compare(a.ID, b.ID) })
	for i := range r.Members {
		r.Members[i].State = slices.Clone(r.Members[i].State)
	}
	r.Offsets = slices.SortedFunc(maps.Values(g.offsets), func(a, b catalog.GroupOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return r
}

// WriteGroups implements catalog.Groups.
func (c *Catalog) WriteGroups(ctx context.Context, w catalog.GroupWrite) (time.Time, error) {
	if err := w.Check(); err != nil {
		return time.Time{}, fmt.Errorf("write groups: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return time.Time{}, err
	}
	defer c.mu.Unlock()
	t, p := c.partitionLocked(catalog.TopicPartition{Topic: catalog.GroupsTopic, Partition: w.Shard})
	if t == nil || t.deleted || p.lease.Holder != w.Holder || p.lease.Epoch != w.Lease {
		return time.Time{}, fmt.Errorf("write groups of shard %d: the lease is not held by broker epoch %d under epoch %d: %w",
			w.Shard, w.Holder, w.Lease, catalog.ErrFenced)
	}
	last := int64(0)
	if p.wrote.under == w.Lease {
		last = p.wrote.last
	}
	switch w.Number {
	case last:
		return c.nowLocked(), nil // a repeat
	case last + 1:
	default:
		return time.Time{}, fmt.Errorf("write %d to groups of shard %d, due is %d: %w", w.Number, w.Shard, last+1, catalog.ErrSequence)
	}
	for i := range w.Changes {
		if err := c.checkChangeLocked(w.Shard, &w.Changes[i]); err != nil {
			return time.Time{}, fmt.Errorf("write groups: %w", err)
		}
	}
	for i := range w.Changes {
		c.changeGroupLocked(w.Shard, &w.Changes[i])
	}
	p.wrote = groupWrites{w.Lease, w.Number}
	return c.nowLocked(), nil
}

func (c *Catalog) checkChangeLocked(shard int32, ch *catalog.GroupChange) error {
	g := c.mu.groups[ch.ID]
	switch {
	case ch.Group != nil && g != nil && g.Shard != shard:
		return fmt.Errorf("group %q of shard %d belongs to shard %d: %w", ch.ID, shard, g.Shard, catalog.ErrInvalid)
	case ch.Group == nil && len(ch.Members)+len(ch.Offsets) > 0 && (g == nil || g.Shard != shard):
		return fmt.Errorf("members or offsets of group %q, which has no row in shard %d: %w", ch.ID, shard, catalog.ErrInvalid)
	}
	return nil
}

func (c *Catalog) changeGroupLocked(shard int32, ch *catalog.GroupChange) {
	g := c.mu.groups[ch.ID]
	if g != nil && g.Shard != shard {
		return
	}
	if ch.Delete {
		delete(c.mu.groups, ch.ID)
		return
	}
	if ch.Group != nil {
		if g == nil {
			g = &group{
				members: make(map[string]catalog.GroupMember), version: make(map[string]int64),
				offsets: make(map[catalog.GroupPartition]catalog.GroupOffset),
			}
			c.mu.groups[ch.ID] = g
		}
		g.Group = *ch.Group
		g.State, g.ChangedAt = slices.Clone(g.State), catalog.KeptGroupTime(g.ChangedAt)
	}
	if g == nil {
		return
	}
	if ch.AllMembersGone {
		clear(g.members)
		clear(g.version)
	}
	for _, id := range ch.MembersGone {
		delete(g.members, id)
		delete(g.version, id)
	}
	for _, m := range ch.Members {
		m.State = slices.Clone(m.State)
		g.members[m.ID] = m
		c.mu.memberVersion++
		g.version[m.ID] = c.mu.memberVersion
	}
	for _, p := range ch.OffsetsGone {
		delete(g.offsets, p)
	}
	for _, o := range ch.Offsets {
		o.CommittedAt, o.ExpiresAt = catalog.KeptGroupTime(o.CommittedAt), catalog.KeptGroupTime(o.ExpiresAt)
		g.offsets[o.At()] = o
	}
}

// MembersOf implements catalog.Fleet.
func (c *Catalog) MembersOf(
	ctx context.Context, clients []catalog.GroupClient, besides []int32, known map[catalog.MemberName]int64, limit int,
) ([]catalog.ClientMember, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.ClientMember
	for _, g := range c.mu.groups {
		if slices.Contains(besides, g.Shard) {
			continue
		}
		for id, m := range g.members {
			if len(out) >= limit {
				return out, nil
			}
			if !slices.Contains(clients, catalog.GroupClient{ID: m.ClientID, Host: m.ClientHost}) {
				continue
			}
			f := catalog.ClientMember{Group: g.ID, Kind: g.Kind, ProtocolType: g.ProtocolType, Version: g.version[id], GroupMember: m}
			if f.State = slices.Clone(m.State); known[f.Name()] == f.Version {
				f.State = nil
			}
			out = append(out, f)
		}
	}
	return out, nil
}
