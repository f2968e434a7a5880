package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// step collects what follows from one event.
type step struct {
	g   *Group
	now time.Time
	out Effects

	row         bool // the group's row has to be written
	deleted     bool // all that was there before this step goes
	allGone     bool // of the members' rows
	members     []catalog.GroupMember
	membersGone []string
	goneAfter   []int // for each of membersGone: how many members had been saved by then
	offsets     []catalog.GroupOffset
	offsetsGone []catalog.GroupPartition
}

// answer gives an answer that tells nothing that could be taken back.
func (s *step) answer(t Token, body kmsg.Response) {
	s.out.Now = append(s.out.Now, Answer{Token: t, Body: body})
}

// later gives an answer that tells of a change in this step, or of one that may still be on its way to the catalog.
func (s *step) later(t Token, body kmsg.Response) {
	s.out.Later = append(s.out.Later, Answer{Token: t, Body: body})
}

// refuse gives an answer with an error code. FENCED_INSTANCE_ID makes a client give up for good, so it waits until the change that
// fenced it cannot be taken back; all other errors make it ask again, and leave at once.
func (s *step) refuse(t Token, body kmsg.Response, code int16) {
	if code == codeFencedInstanceID {
		s.later(t, body)
		return
	}
	s.answer(t, body)
}

// note is for the log.
func (s *step) note(what, member string, reason *string) {
	n := Note{What: what, Member: member}
	if reason != nil {
		n.Reason = text(*reason, 255)
	}
	s.out.Notes = append(s.out.Notes, n)
}

// saveGroup says that the group's row has to be written.
func (s *step) saveGroup() { s.row = true }

// saveMember says that a member's row has to be written. The last word about a member counts.
func (s *step) saveMember(m catalog.GroupMember) { s.members = append(s.members, m) }

// dropMember says that a member's row goes. The last word about a member counts.
func (s *step) dropMember(id string) {
	s.membersGone = append(s.membersGone, id)
	s.goneAfter = append(s.goneAfter, len(s.members))
}

// dropMembers says that the rows of all members go, before any are saved.
func (s *step) dropMembers() { s.allGone = true }

// membersChanged says that the members, or what they own, are not what they were.
func (s *step) membersChanged() { s.g.version++ }

// forget deletes the group and all that belongs to it. It must have no members.
func (s *step) forget() {
	g := s.g
	g.saved, s.deleted = false, true
	g.m = newClassic(g, 0)
	s.membersChanged()
}

// settleMembers leaves one word about each member, the last: a change names none twice.
func (s *step) settleMembers() {
	if len(s.members)+len(s.membersGone) < 2 {
		return
	}
	saved := make(map[string]int, len(s.members)) // index of the last one
	for i := range s.members {
		saved[s.members[i].ID] = i
	}
	dropped := make(map[string]bool, len(s.membersGone))
	gone := s.membersGone[:0]
	for i, id := range s.membersGone {
		if at, ok := saved[id]; (ok && at >= s.goneAfter[i]) || dropped[id] {
			continue
		}
		dropped[id] = true
		gone = append(gone, id)
	}
	kept := s.members[:0]
	for i := range s.members {
		if m := s.members[i]; saved[m.ID] == i && !dropped[m.ID] {
			kept = append(kept, m)
		}
	}
	s.members, s.membersGone = kept, gone
}

// effects ends the step: numbers its change, if there is one.
func (s *step) effects() Effects {
	g := s.g
	s.settleMembers()
	c := catalog.GroupChange{
		ID: g.id, Members: s.members, MembersGone: s.membersGone, AllMembersGone: s.allGone,
		Offsets: s.offsets, OffsetsGone: s.offsetsGone,
	}
	switch {
	case s.deleted:
		c = catalog.GroupChange{ID: g.id, Delete: true}
	case s.row || len(c.Members)+len(c.MembersGone)+len(c.Offsets)+len(c.OffsetsGone) > 0 || c.AllMembersGone:
		if s.row || !g.saved {
			c.Group = g.groupRow()
			g.saved = true
		}
	default:
		return s.out
	}
	g.write++
	g.offsets.sent(g.write, &c)
	s.out.Change, s.out.Write = &c, g.write
	return s.out
}

// groupRow is the group's row as things are.
func (g *Group) groupRow() *catalog.Group {
	row := &catalog.Group{
		ID: g.id, Shard: g.shard, Kind: g.m.kind(), ProtocolType: g.m.protocolType(), Phase: g.m.phase(), Epoch: g.m.epoch(),
		ChangedAt: g.changedAt,
	}
	g.m.fill(row)
	return row
}
