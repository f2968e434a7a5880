package catalog

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// CheckGroupID checks a group's id. ErrInvalid for an empty one, one longer than [MaxGroupID], and text that cannot be kept.
func CheckGroupID(id string) error {
	if id == "" || len(id) > MaxGroupID {
		return invalid("group id of %d bytes", len(id))
	}
	return checkText("group id", id)
}

// CheckGroupsAfter checks the position of ReadGroups. ErrInvalid.
func CheckGroupsAfter(id string) error {
	if id == "" {
		return nil
	}
	return CheckGroupID(id)
}

// checkText checks that each catalog can keep a text.
func checkText(what, s string) error {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return invalid("%s %q: not UTF-8, or with a NUL", what, s)
	}
	return nil
}

func checkState(what string, state []byte) error {
	if !json.Valid(state) || !utf8.Valid(state) {
		return invalid("state of %s of %d bytes: not JSON in UTF-8", what, len(state))
	}
	return nil
}

func checkGroupTime(what string, t time.Time) error {
	if t.Unix() < 0 || t.After(MaxGroupTime) {
		return invalid("%s %s", what, t)
	}
	return nil
}

// KeptGroupTime is a time as Groups keep it: in UTC, to the microsecond. For implementations.
func KeptGroupTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Check checks a row of a group. ErrInvalid for a bad id, a kind that does not exist, no phase, a negative epoch, text or
// state that cannot be kept, and a time before 1970 or after [MaxGroupTime].
func (g *Group) Check() error {
	if err := CheckGroupID(g.ID); err != nil {
		return err
	}
	if g.Shard < 0 || g.Kind != GroupClassic && g.Kind != GroupConsumer || g.Phase == "" || g.Epoch < 0 {
		return invalid("group %q of shard %d, kind %q, in phase %q, epoch %d", g.ID, g.Shard, g.Kind, g.Phase, g.Epoch)
	}
	for what, s := range map[string]string{"protocol type": g.ProtocolType, "protocol": g.Protocol, "phase": g.Phase, "leader": g.Leader} {
		if err := checkText(what, s); err != nil {
			return err
		}
	}
	if err := checkGroupTime("time of change", g.ChangedAt); err != nil {
		return err
	}
	return checkState("group "+g.ID, g.State)
}

// Check checks a member. ErrInvalid for an empty id, one longer than [MaxMemberID], and text or state that cannot be kept.
// Nothing else bounds what clients send of themselves: the caller does.
func (m *GroupMember) Check() error {
	if m.ID == "" || len(m.ID) > MaxMemberID {
		return invalid("member id of %d bytes", len(m.ID))
	}
	for _, s := range []string{m.ID, m.InstanceID, m.ClientID, m.ClientHost} {
		if err := checkText("a member's", s); err != nil {
			return err
		}
	}
	return checkState("member "+m.ID, m.State)
}

// Check checks a partition's name. ErrInvalid for no topic, one longer than [MaxGroupTopic] or that cannot be kept, and a
// negative partition.
func (p *GroupPartition) Check() error {
	if p.Topic == "" || len(p.Topic) > MaxGroupTopic || p.Partition < 0 {
		return invalid("partition %d of a topic with a name of %d bytes", p.Partition, len(p.Topic))
	}
	return checkText("topic", p.Topic)
}

// At is the partition.
func (o *GroupOffset) At() GroupPartition { return GroupPartition{o.Topic, o.Partition} }

// Check checks an offset as a client commits it. ErrInvalid for a bad partition, a negative offset, a leader epoch below -1,
// metadata that cannot be kept, and times before 1970 or after [MaxGroupTime], except that ExpiresAt may be zero. A write
// with one such offset is refused as a whole, so whoever puts several clients' together checks each before.
func (o *GroupOffset) Check() error {
	at := o.At()
	if err := at.Check(); err != nil {
		return err
	}
	if o.Offset < 0 || o.LeaderEpoch < -1 {
		return invalid("offset %d, leader epoch %d, of partition %d of %q", o.Offset, o.LeaderEpoch, o.Partition, o.Topic)
	}
	if err := checkText("metadata", o.Metadata); err != nil {
		return err
	}
	if err := checkGroupTime("time of commit", o.CommittedAt); err != nil {
		return err
	}
	if o.ExpiresAt.IsZero() {
		return nil
	}
	return checkGroupTime("time of expiry", o.ExpiresAt)
}

// Check checks what needs no stored facts. ErrInvalid, also for two changes of one group, for a row of another group or
// shard than its change's, and for a member or partition that is named twice.
func (w *GroupWrite) Check() error {
	if w.Shard < 0 || w.Holder < 1 || w.Lease < 0 || w.Number < 1 {
		return invalid("write %d to the groups of shard %d by broker epoch %d, lease epoch %d", w.Number, w.Shard, w.Holder, w.Lease)
	}
	var seen map[string]bool
	if len(w.Changes) > 1 {
		seen = make(map[string]bool, len(w.Changes))
	}
	for i := range w.Changes {
		ch := &w.Changes[i]
		if seen[ch.ID] {
			return invalid("two changes of group %q", ch.ID)
		}
		if seen != nil {
			seen[ch.ID] = true
		}
		if err := ch.check(w.Shard); err != nil {
			return err
		}
	}
	return nil
}

func (ch *GroupChange) check(shard int32) error {
	if err := CheckGroupID(ch.ID); err != nil {
		return err
	}
	if ch.Delete && (ch.Group != nil || ch.AllMembersGone || len(ch.Members)+len(ch.MembersGone)+len(ch.Offsets)+len(ch.OffsetsGone) > 0) {
		return invalid("group %q is deleted and changed", ch.ID)
	}
	if g := ch.Group; g != nil {
		if g.ID != ch.ID || g.Shard != shard {
			return invalid("row of group %q of shard %d in a change of %q of %d", g.ID, g.Shard, ch.ID, shard)
		}
		if err := g.Check(); err != nil {
			return err
		}
	}
	if err := ch.checkMembers(); err != nil {
		return err
	}
	return ch.checkOffsets()
}

func (ch *GroupChange) checkMembers() error {
	seen := newOnce[string](len(ch.Members) + len(ch.MembersGone))
	for i := range ch.Members {
		m := &ch.Members[i]
		if err := m.Check(); err != nil {
			return err
		}
		if seen.twice(m.ID) {
			return invalid("member %q of group %q is named twice", m.ID, ch.ID)
		}
	}
	for _, id := range ch.MembersGone {
		if seen.twice(id) {
			return invalid("member %q of group %q is named twice", id, ch.ID)
		}
		if err := checkText("member id", id); err != nil {
			return err
		}
	}
	return nil
}

func (ch *GroupChange) checkOffsets() error {
	seen := newOnce[GroupPartition](len(ch.Offsets) + len(ch.OffsetsGone))
	for i := range ch.Offsets {
		o := &ch.Offsets[i]
		if err := o.Check(); err != nil {
			return err
		}
		if seen.twice(o.At()) {
			return invalid("partition %d of %q is named twice in group %q", o.Partition, o.Topic, ch.ID)
		}
	}
	for i := range ch.OffsetsGone {
		p := &ch.OffsetsGone[i]
		if err := p.Check(); err != nil {
			return err
		}
		if seen.twice(*p) {
			return invalid("partition %d of %q is named twice in group %q", p.Partition, p.Topic, ch.ID)
		}
	}
	return nil
}

// once finds what is named twice. Of one name nothing is noted.
type once[K comparable] map[K]bool

func newOnce[K comparable](n int) once[K] {
	if n < 2 {
		return nil
	}
	return make(once[K], n)
}

func (o once[K]) twice(k K) bool {
	if o == nil {
		return false
	}
	before := o[k]
	o[k] = true
	return before
}
