package coordinator

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// change is what happens to one group in one statement: several changes of it, one after the other, merged into what they
// amount to. So each member and each partition is in it once, however often it was changed.
type change struct {
	first time.Time // when the oldest of them was made
	upto  uint64    // number of the latest of them

	deleted bool // the group goes; nothing can be added then
	row     *catalog.Group
	allGone bool // all members that are not in members
	members map[string]*catalog.GroupMember
	offsets map[catalog.GroupPartition]*catalog.GroupOffset // nil: gone
	bytes   int                                             // about
}

// add merges a later change of the group; false if that is not possible: what comes after a deletion must be a statement of
// its own, for one that deletes may not put anything.
func (c *change) add(number uint64, next *catalog.GroupChange) bool {
	if c.deleted {
		return false
	}
	c.upto = number
	if next.Delete {
		*c = change{first: c.first, upto: number, deleted: true, bytes: len(next.ID)}
		return true
	}
	if next.Group != nil {
		c.row = next.Group
		c.bytes += len(next.ID) + len(next.Group.State)
	}
	if next.AllMembersGone {
		c.allGone, c.members = true, nil
	}
	for _, id := range next.MembersGone {
		c.member(id, nil)
	}
	for i := range next.Members {
		c.member(next.Members[i].ID, &next.Members[i])
	}
	for _, p := range next.OffsetsGone {
		c.offset(p, nil)
	}
	for i := range next.Offsets {
		o := &next.Offsets[i]
		c.offset(catalog.GroupPartition{Topic: o.Topic, Partition: o.Partition}, o)
	}
	return true
}

func (c *change) member(id string, m *catalog.GroupMember) {
	if c.members == nil {
		c.members = make(map[string]*catalog.GroupMember)
	}
	c.members[id] = m
	c.bytes += len(id)
	if m != nil {
		c.bytes += len(m.State) + len(m.InstanceID) + len(m.ClientID) + len(m.ClientHost)
	}
}

func (c *change) offset(p catalog.GroupPartition, o *catalog.GroupOffset) {
	if c.offsets == nil {
		c.offsets = make(map[catalog.GroupPartition]*catalog.GroupOffset)
	}
	c.offsets[p] = o
	c.bytes += len(p.Topic) + 64
	if o != nil {
		c.bytes += len(o.Metadata)
	}
}

// build makes the catalog's form of it, sorted: equal changes are equal statements.
func (c *change) build(id string) catalog.GroupChange {
	out := catalog.GroupChange{ID: id, Delete: c.deleted, Group: c.row, AllMembersGone: c.allGone}
	for _, m := range slices.Sorted(maps.Keys(c.members)) {
		switch put := c.members[m]; {
		case put != nil:
			out.Members = append(out.Members, *put)
		case !c.allGone:
			out.MembersGone = append(out.MembersGone, m)
		}
	}
	partitions := slices.SortedFunc(maps.Keys(c.offsets), func(a, b catalog.GroupPartition) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		return int(a.Partition) - int(b.Partition)
	})
	for _, p := range partitions {
		if put := c.offsets[p]; put != nil {
			out.Offsets = append(out.Offsets, *put)
		} else {
			out.OffsetsGone = append(out.OffsetsGone, p)
		}
	}
	return out
}
