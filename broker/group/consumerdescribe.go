package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
)

// Kinds of members in ConsumerGroupDescribe (version 1).
const (
	memberTypeClassic  = 0
	memberTypeConsumer = 1
)

// DescribeConsumer is the group's part of a ConsumerGroupDescribe answer, versions 0 and 1, without authorized operations. Topics that
// are gone are left out of assignments. A group that does not exist, and one of the classic kind, is GROUP_ID_NOT_FOUND.
func (g *Group) DescribeConsumer() kmsg.ConsumerGroupDescribeResponseGroup {
	out := kmsg.NewConsumerGroupDescribeResponseGroup()
	out.Group = g.id
	c, ok := g.m.(*consumer)
	if !ok || !g.exists() {
		out.ErrorCode = codeGroupIDNotFound
		message := "Group " + g.id + " does not exist."
		if g.exists() {
			message = "Group " + g.id + " is not a consumer group."
		}
		out.ErrorMessage = &message
		return out
	}
	out.State, out.Epoch, out.AssignmentEpoch, out.AssignorName = c.phase(), c.groupEpoch, c.assignedEpoch, c.assignorName()
	for _, m := range c.sorted {
		d := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		d.MemberID, d.MemberEpoch, d.ClientID, d.ClientHost = m.id, m.epoch, m.client.ID, m.client.Host
		d.InstanceID, d.RackID, d.SubscribedTopicRegex = nullable(m.instance), nullable(m.rack), nullable(m.sub.regex)
		d.SubscribedTopics = m.sub.names
		d.Assignment, d.TargetAssignment = g.describeAssignment(m.assigned), g.describeAssignment(m.target)
		d.MemberType = memberTypeConsumer
		if m.classic != nil {
			d.MemberType = memberTypeClassic
		}
		out.Members = append(out.Members, d)
	}
	return out
}

func (g *Group) describeAssignment(a assignor.Assignment) kmsg.Assignment {
	var out kmsg.Assignment
	for _, ps := range a {
		t, ok := g.topics.ByID(ps.Topic)
		if !ok {
			continue
		}
		tp := kmsg.NewAssignmentTopicPartition()
		tp.TopicID, tp.Topic, tp.Partitions = ps.Topic, t.Name, ps.Partitions
		out.TopicPartitions = append(out.TopicPartitions, tp)
	}
	return out
}

// nullable is a string as Kafka's nullable ones are, where empty means none.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
