package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// Kafka's names of the states of groups.
const (
	phaseEmpty      = "Empty"
	phasePreparing  = "PreparingRebalance"
	phaseCompleting = "CompletingRebalance"
	phaseStable     = "Stable"
	phaseDead       = "Dead"
)

// Describe is the group's part of a DescribeGroups answer, without authorized operations. A group that does not exist, and
// one that is not classic, is Dead; from version 6 on that is GROUP_ID_NOT_FOUND too (KIP-1043).
func (g *Group) Describe(version int16) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group = g.id
	if !g.exists() || g.m.kind() != catalog.GroupClassic {
		out.State = phaseDead
		if version >= 6 {
			out.ErrorCode = codeGroupIDNotFound
			out.ErrorMessage = new(g.notClassic())
		}
		return out
	}
	out.State, out.ProtocolType = g.m.phase(), g.m.protocolType()
	g.m.describe(&out)
	return out
}

func (g *Group) notClassic() string {
	if !g.exists() {
		return "Group " + g.id + " not found."
	}
	return "Group " + g.id + " is not a classic group."
}

// List is the group's part of a ListGroups answer; ok is false for a group that does not exist. Filters are the caller's.
func (g *Group) List() (out kmsg.ListGroupsResponseGroup, ok bool) {
	out = kmsg.NewListGroupsResponseGroup()
	if !g.exists() {
		return out, false
	}
	out.Group, out.ProtocolType = g.id, g.m.protocolType()
	out.GroupState, out.GroupType = g.m.phase(), string(g.m.kind())
	return out, true
}

// Kind is the protocol the group speaks.
func (g *Group) Kind() catalog.GroupKind { return g.m.kind() }

// Phase is Kafka's name of the group's state; Dead if it does not exist.
func (g *Group) Phase() string {
	if !g.exists() {
		return phaseDead
	}
	return g.m.phase()
}

// Epoch is the generation or the group epoch.
func (g *Group) Epoch() int32 { return g.m.epoch() }

// ProtocolType is "consumer" or what the members said; empty for a group that only keeps offsets.
func (g *Group) ProtocolType() string { return g.m.protocolType() }

// Members are the group's, by member id, with the partitions each owns.
func (g *Group) Members() []Member {
	var out []Member
	g.m.each(func(m Member) { out = append(out, m) })
	return out
}

// MemberCount is how many members there are.
func (g *Group) MemberCount() int { return g.m.size() }

// HasMembers says whether there are members, or clients on the way to become some.
func (g *Group) HasMembers() bool { return !g.m.idle() }

// MembersVersion differs whenever [Group.Members] may: what is made of them may be kept as long as it does not.
func (g *Group) MembersVersion() uint64 { return g.version }

// Owned are the partitions of a member, by its row in the catalog: what [Group.Members] tells of it. Of a classic group that is
// what its leader assigned, if its members are consumers. all is false if it owns partitions of topics that are not known (yet).
func Owned(kind catalog.GroupKind, protocolType string, row *catalog.GroupMember, topics Topics) (owned []catalog.GroupPartition, all bool, err error) {
	if kind == catalog.GroupConsumer {
		var st consumerMemberState
		if err := decodeState(row.State, &st, &st.Version); err != nil {
			return nil, false, err
		}
		all = true
		for _, a := range st.Assigned {
			_, ok := topics.ByID(a.Topic)
			all = all && ok
		}
		return named(st.Assigned, topics), all, nil
	}
	if protocolType != consumerProtocolType {
		return nil, true, nil
	}
	var st classicMemberState
	if err := decodeState(row.State, &st, &st.Version); err != nil {
		return nil, false, err
	}
	return assignedPartitions(st.Assignment), true, nil
}

// named are the partitions of an assignment whose topics exist.
func named(a assignor.Assignment, topics Topics) (out []catalog.GroupPartition) {
	for _, ps := range a {
		t, ok := topics.ByID(ps.Topic)
		if !ok {
			continue
		}
		for _, p := range ps.Partitions {
			out = append(out, catalog.GroupPartition{Topic: t.Name, Partition: p})
		}
	}
	return out
}
