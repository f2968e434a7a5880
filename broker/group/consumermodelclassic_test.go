package group

import (
	"fmt"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (m *model) actClassic(c *modelClient) {
	switch {
	case c.rejoin:
		if c.eager {
			clear(c.owned)
		}
		meta := kmsg.NewConsumerMemberMetadata()
		meta.Version, meta.Topics, meta.Generation = 3, c.topics, c.epoch
		byTopic := map[string][]int32{}
		for p := range c.owned {
			if t, ok := m.sim.topic.ByID(p.Topic); ok {
				byTopic[t.Name] = append(byTopic[t.Name], p.Partition)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(byTopic)) {
			meta.OwnedPartitions = append(meta.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: name, Partitions: byTopic[name]})
		}
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = 9, m.sim.id, c.id, c.instanceID()
		req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = consumerProtocolType, 30_000, 60_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "any", Metadata: meta.AppendTo(nil)}}
		m.send(c, req)
	case c.sync:
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, m.sim.id, c.id, c.instanceID(), c.epoch
		req.ProtocolType, req.Protocol = new(consumerProtocolType), &c.protocol
		if len(c.leader) > 0 {
			req.GroupAssignment = m.lead(c.leader)
		}
		m.send(c, req)
	default:
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, m.sim.id, c.id, c.instanceID(), c.epoch
		m.send(c, req)
	}
}

// lead assigns as a cooperative leader does: everybody keeps what it owns and subscribes to, and what nobody owns is given out.
func (m *model) lead(members []kmsg.JoinGroupResponseMember) []kmsg.SyncGroupRequestGroupAssignment {
	out := make([]map[string][]int32, len(members))
	owned := map[string]bool{}
	subs := make([]subscriptionData, len(members))
	for i, mem := range members {
		out[i] = map[string][]int32{}
		subs[i], _ = readSubscription(mem.ProtocolMetadata)
		for _, o := range subs[i].owned {
			for _, p := range o.partitions {
				owned[fmt.Sprint(o.topic, p)] = true
				if slices.Contains(subs[i].topics, o.topic) {
					out[i][o.topic] = append(out[i][o.topic], p)
				}
			}
		}
	}
	for n, name := range m.sim.topic.Names() {
		t, _ := m.sim.topic.ByName(name)
		for p := range t.Partitions {
			if owned[fmt.Sprint(name, p)] {
				continue
			}
			for k := range members {
				i := (k + n + int(p)) % len(members)
				if slices.Contains(subs[i].topics, name) {
					out[i][name] = append(out[i][name], p)
					break
				}
			}
		}
	}
	var given []kmsg.SyncGroupRequestGroupAssignment
	for i, mem := range members {
		var a kmsg.ConsumerMemberAssignment
		for _, name := range slices.Sorted(maps.Keys(out[i])) {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: name, Partitions: out[i][name]})
		}
		given = append(given, kmsg.SyncGroupRequestGroupAssignment{MemberID: mem.MemberID, MemberAssignment: a.AppendTo(nil)})
	}
	return given
}

func (m *model) joinAnswered(c *modelClient, resp *kmsg.JoinGroupResponse) {
	switch resp.ErrorCode {
	case codeNone:
		if c.id == resp.MemberID && c.joined {
			require.GreaterOrEqual(m.t, resp.Generation, c.epoch, "%s: its generation went back", c.name)
		}
		c.id, c.epoch, c.joined, c.rejoin, c.sync = resp.MemberID, resp.Generation, true, false, true
		c.leader, c.protocol = resp.Members, *resp.Protocol
		m.told = max(m.told, c.epoch)
	case codeMemberIDRequired:
		c.id = resp.MemberID
	default:
		m.classicError(c, resp.ErrorCode)
	}
}

func (m *model) classicError(c *modelClient, code int16) {
	switch code {
	case codeNone:
		return
	case codeRebalanceInProgress:
	case codeUnknownMemberID, codeIllegalGeneration, codeFencedInstanceID, codeInconsistentProtocol, codeGroupMaxSizeReached:
		clear(c.owned)
		c.joined = false
		if code != codeIllegalGeneration {
			c.id = ""
		}
	default:
		require.Failf(m.t, "classic", "%s: %d", c.name, code)
	}
	c.rejoin, c.sync = true, false
}
