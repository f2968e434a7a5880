package group

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// syncGroup answers SyncGroup, versions 0 to 5: with the assignment, as soon as the leader has given it and it is durable.
func (c *classic) syncGroup(s *step, r *Request, req *kmsg.SyncGroupRequest) {
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	m, code := c.maySync(req)
	if resp.ErrorCode = code; code != codeNone {
		s.refuse(r.Token, resp, code)
		return
	}
	if c.state == phaseStable {
		c.synced(m)
		c.assigned(resp, m)
		s.later(r.Token, resp)
		return
	}
	c.endSync(s, m, codeRebalanceInProgress) // of a request that this one overtook
	m.sync = waiter{on: true, token: r.Token, version: req.Version}
	c.synced(m)
	if m == c.leader {
		c.assign(s, req)
	}
}

// maySync checks a SyncGroup in Kafka's order.
func (c *classic) maySync(req *kmsg.SyncGroupRequest) (*classicMember, int16) {
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		return nil, codeInconsistentProtocol
	}
	if c.state == phaseEmpty {
		return nil, codeUnknownMemberID
	}
	m, code := c.find(req.MemberID, req.InstanceID)
	switch {
	case code != codeNone:
		return nil, code
	case req.Generation != c.generation:
		return nil, codeIllegalGeneration
	case differs(req.ProtocolType, c.kindOf) || differs(req.Protocol, c.protocol):
		return nil, codeInconsistentProtocol
	case c.state == phasePreparing:
		return nil, codeRebalanceInProgress
	case m == c.leader && c.state == phaseCompleting && c.tooLarge(req):
		return nil, codeInvalidRequest
	}
	return m, codeNone
}

// differs says whether a client names another protocol (or type) than the group's. Either may be unknown.
func differs(said *string, is string) bool { return said != nil && is != "" && *said != is }

// tooLarge says whether an assignment would make a member larger than may be kept. Kafka's bound is that of a record.
func (c *classic) tooLarge(req *kmsg.SyncGroupRequest) bool {
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		m := c.byID[a.MemberID]
		if m == nil {
			continue
		}
		n := len(a.MemberAssignment) + len(m.id) + len(m.instance)
		for j := range m.protocols {
			n += len(m.protocols[j].Name) + len(m.protocols[j].Metadata)
		}
		if n > c.g.cfg.MaxMemberBytes {
			return true
		}
	}
	return false
}

// assign takes the leader's assignment: who is not named in it gets nothing.
func (c *classic) assign(s *step, req *kmsg.SyncGroupRequest) {
	given := make(map[string][]byte, len(req.GroupAssignment))
	for i := range req.GroupAssignment {
		given[req.GroupAssignment[i].MemberID] = req.GroupAssignment[i].MemberAssignment
	}
	c.to(s, phaseStable)
	s.saveGroup()
	s.membersChanged()
	for _, m := range c.order {
		if a := given[m.id]; !bytes.Equal(a, m.assignment) {
			m.assignment, m.dirty = bytes.Clone(a), true
		}
		if m.dirty {
			m.save(s)
		}
		if !m.sync.on {
			continue
		}
		c.sessions.extend(m.clock, s.now, m.session)
		if resp, token := m.takeSync(); resp != nil {
			c.assigned(resp, m)
			s.later(token, resp)
		}
	}
}

// assigned fills an answer of SyncGroup.
func (c *classic) assigned(resp *kmsg.SyncGroupResponse, m *classicMember) {
	resp.ProtocolType, resp.Protocol = new(c.kindOf), new(c.protocol)
	resp.MemberAssignment = m.assignment
}

// heartbeat answers Heartbeat, versions 0 to 4. It always answers at once: that a member is alive is no matter of the catalog.
func (c *classic) heartbeat(s *step, r *Request, req *kmsg.HeartbeatRequest) {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = req.Version
	m, code := c.find(req.MemberID, req.InstanceID)
	switch {
	case code != codeNone:
	case req.Generation != c.generation:
		code = codeIllegalGeneration
	default:
		c.sessions.extend(m.clock, s.now, m.session)
		if c.state == phasePreparing {
			code = codeRebalanceInProgress
		}
	}
	resp.ErrorCode = code
	s.refuse(r.Token, resp, code)
}

// leaveGroup answers LeaveGroup, versions 0 to 5; from 3 on of several members, static ones also by instance id alone (KIP-345).
func (c *classic) leaveGroup(s *step, r *Request, req *kmsg.LeaveGroupRequest) {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	if req.Version < 3 {
		resp.ErrorCode = c.leave(s, req.MemberID, nil, nil)
	}
	left := req.Version < 3 && resp.ErrorCode == codeNone
	for i := range req.Members {
		if req.Version < 3 {
			break
		}
		who := &req.Members[i]
		out := kmsg.NewLeaveGroupResponseMember()
		out.MemberID, out.InstanceID = who.MemberID, who.InstanceID
		out.ErrorCode = c.leave(s, who.MemberID, who.InstanceID, who.Reason)
		left = left || out.ErrorCode == codeNone
		resp.Members = append(resp.Members, out)
	}
	if left {
		switch c.state {
		case phaseStable, phaseCompleting:
			c.prepare(s)
		case phasePreparing:
			c.goOn(s)
		}
	}
	s.later(r.Token, resp)
}

// leave removes one member.
func (c *classic) leave(s *step, memberID string, instanceID, reason *string) int16 {
	if memberID == "" {
		if instanceID == nil || *instanceID == "" || c.static[*instanceID] == nil {
			return codeUnknownMemberID
		}
		memberID = c.static[*instanceID].id
	}
	if clock := c.pending[memberID]; clock != nil {
		c.sessions.stop(clock)
		delete(c.pending, memberID)
		return codeNone
	}
	m, code := c.find(memberID, instanceID)
	if code != codeNone {
		return code
	}
	s.note("member left", m.id, reason)
	c.endJoin(s, m, codeUnknownMemberID, "")
	c.endSync(s, m, codeUnknownMemberID)
	c.remove(s, m)
	return codeNone
}
