package group

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// readTopics finds out what the members subscribe to, as far as they are consumers whose metadata can be read.
func (c *classic) readTopics() {
	c.topics, c.known = nil, false
	if c.kindOf != consumerProtocolType {
		return
	}
	topics := make(map[string]bool)
	for _, m := range c.order {
		of, ok := subscribedTopics(m.metadata(c.protocol))
		if !ok {
			return
		}
		for _, t := range of {
			topics[t] = true
		}
	}
	c.topics, c.known = topics, true
}

// subscribed says whether a topic's offsets are in use. Of consumers whose metadata cannot be read, all may be.
func (c *classic) subscribed(topic string) bool {
	if c.known {
		return c.topics[topic]
	}
	return c.kindOf == consumerProtocolType
}

func (c *classic) deletable() int16 {
	if c.state != phaseEmpty && c.kindOf != consumerProtocolType {
		return codeNonEmptyGroup
	}
	return codeNone
}

// retention is KIP-211's: from when the group became empty; while it is stable, for topics no longer subscribed to; by commit
// for who never was a member.
func (c *classic) retention() (from time.Time, ok bool) {
	switch {
	case c.kindOf == "":
		return time.Time{}, true
	case c.state == phaseEmpty:
		return c.g.changedAt, true
	default:
		return time.Time{}, c.state == phaseStable && c.known
	}
}

func (c *classic) commit(s *step, req *kmsg.OffsetCommitRequest) int16 {
	generation, memberID, instanceID := generationOf(req), req.MemberID, req.InstanceID
	if req.Version < 1 {
		memberID = ""
	}
	if generation < 0 && c.state == phaseEmpty {
		return codeNone
	}
	if generation < 0 && memberID == "" && instanceID == nil {
		return codeUnknownMemberID
	}
	m, code := c.find(memberID, instanceID)
	switch {
	case code != codeNone:
		return code
	case generation != c.generation:
		return codeIllegalGeneration
	case c.state == phaseCompleting:
		return codeRebalanceInProgress
	}
	c.sessions.extend(m.clock, s.now, m.session)
	return codeNone
}

// fetch lets everybody read: member ids in OffsetFetch are for consumer groups.
func (c *classic) fetch(*string, int32) int16 { return codeNone }

func (c *classic) describe(out *kmsg.DescribeGroupsResponseGroup) {
	stable := c.state == phaseStable
	if stable {
		out.Protocol = c.protocol
	}
	for _, m := range c.byMemberID() {
		d := kmsg.NewDescribeGroupsResponseGroupMember()
		d.MemberID, d.ClientID, d.ClientHost, d.MemberAssignment = m.id, m.client.ID, m.client.Host, m.assignment
		d.InstanceID = m.instanceID()
		if stable {
			d.ProtocolMetadata = m.metadata(c.protocol)
		}
		out.Members = append(out.Members, d)
	}
}

func (c *classic) each(f func(Member)) {
	for _, m := range c.byMemberID() {
		out := Member{ID: m.id, InstanceID: m.instance, Client: m.client}
		if c.kindOf == consumerProtocolType {
			out.Partitions = assignedPartitions(m.assignment)
		}
		f(out)
	}
}

func (c *classic) byMemberID() []*classicMember {
	return slices.SortedFunc(slices.Values(c.order), func(a, b *classicMember) int { return strings.Compare(a.id, b.id) })
}

func (m *classicMember) instanceID() *string {
	if m.instance == "" {
		return nil
	}
	return new(m.instance)
}
