package group

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
)

// Members of a consumer group that speak the classic protocol, while a group is on its way from one to the other. They have to be
// consumers: their subscriptions and what they own are read from what they send for the leader, and what a leader would
// assign them is written for them. None of them leads, so all send SyncGroup without assignments and get their own.

// joinClassic answers JoinGroup to a consumer group with members.
func (c *consumer) joinClassic(s *step, r *Request, req *kmsg.JoinGroupRequest) {
	id := req.MemberID
	if id == "" {
		id = newMemberID(cmp.Or(instanceOf(req), r.Client.ID), r.NewMemberID)
	}
	session := fromMillis(req.SessionTimeoutMillis)
	known := c.members[id]
	if instance := instanceOf(req); instance != "" {
		known = c.static[instance]
	}
	switch {
	case session < c.g.cfg.SessionTimeoutMin || session > c.g.cfg.SessionTimeoutMax:
		refuseJoin(s, r, req.MemberID, codeInvalidSessionTimeout)
		return
	case !keepsJoin(req, c.g.cfg.MaxMemberBytes):
		refuseJoin(s, r, req.MemberID, codeInvalidRequest)
		return
	case known == nil && len(c.members) >= c.g.cfg.ConsumerMaxSize:
		refuseJoin(s, r, "", codeGroupMaxSizeReached)
		return
	case !c.knowsProtocols(req):
		refuseJoin(s, r, req.MemberID, codeInconsistentProtocol)
		return
	case req.MemberID == "" && instanceOf(req) == "" && req.Version >= 4:
		resp := r.Body.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.MemberID, resp.ErrorCode = id, codeMemberIDRequired
		s.answer(r.Token, resp) // unlike a classic group, it keeps nothing of it
		return
	}
	sub, ok := readSubscription(req.Protocols[0].Metadata)
	if !ok {
		refuseJoin(s, r, req.MemberID, codeInconsistentProtocol)
		return
	}
	m, replaces := known, (*consumerMember)(nil)
	switch {
	case known == nil && req.MemberID != "" && (instanceOf(req) != "" || len(sub.owned) > 0):
		// An id that was given out and not used yet owns nothing. One that does was thrown out: it still uses what may be with
		// others by now, and would commit their offsets as it gives that up. (Kafka takes it in.)
		refuseJoin(s, r, req.MemberID, codeUnknownMemberID)
		return
	case known == nil && c.members[id] != nil, known != nil && req.MemberID != "" && known.id != id:
		refuseJoin(s, r, req.MemberID, codeFencedInstanceID)
		return
	case known == nil:
		m = newConsumerMember(id)
		m.instance = instanceOf(req)
	case known.id != id:
		m, replaces = known.successor(id), known
	}
	c.admitClassic(s, r, req, m, replaces, sub)
}

// knowsProtocols says whether the client is a consumer, and shares a protocol with all members that speak the classic one.
func (c *consumer) knowsProtocols(req *kmsg.JoinGroupRequest) bool {
	if req.ProtocolType != consumerProtocolType {
		return false
	}
	votes := make(map[string]int, len(req.Protocols))
	for i := range req.Protocols {
		votes[req.Protocols[i].Name] = 0
	}
	if c.classic > 0 {
		for _, m := range c.sorted {
			if m.classic == nil {
				continue
			}
			for i := range m.classic.protocols {
				name := m.classic.protocols[i].Name
				if _, ok := votes[name]; ok {
					votes[name]++
				}
			}
		}
	}
	for _, n := range votes {
		if n == c.classic {
			return true
		}
	}
	return false
}

// admitClassic takes over what the client said, brings the group and the member forward as a heartbeat does, and answers.
func (c *consumer) admitClassic(s *step, r *Request, req *kmsg.JoinGroupRequest, m, replaces *consumerMember, sub subscriptionData) {
	changed, _ := c.resubscribe(m, sub.topics, m.regex()) // an expression that the group has is one
	var told classicMember
	told.told(req)
	if c.members[m.id] == m && m.classic == nil {
		c.classic++
		c.sessions.stop(m.revoke)
	}
	m.classic = &classicPart{session: told.session, protocols: told.protocols}
	m.client, m.rebalance = clientOf(r), told.rebalance
	m.rack = cmp.Or(sub.rack, m.rack)
	c.save(m)
	known := c.enter(s, m, replaces)
	own := owned{known: true, parts: sub.ownedOf(c.g.topics)}
	c.advance(s, m, changed, known, func() owned { return own })
	c.touch(s, m)
	c.sessions.stop(m.rejoin)
	c.sessions.extend(m.resync, s.now, m.rebalance)

	resp := r.Body.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.MemberID, resp.Generation = m.id, m.epoch
	resp.ProtocolType, resp.Protocol = new(consumerProtocolType), new(m.classic.protocols[0].Name)
	s.later(r.Token, resp)
	if replaces != nil && replaces.classic == nil {
		c.downgrade(s) // the last one of the consumer protocol may be gone
	}
}

func (m *consumerMember) regex() string {
	if m.sub == nil {
		return ""
	}
	return m.sub.regex
}

// findClassic checks who asks, in the classic protocol.
func (c *consumer) findClassic(memberID string, instanceID *string) (*consumerMember, int16) {
	m := c.members[memberID]
	if instanceID != nil && *instanceID != "" {
		if m = c.static[*instanceID]; m != nil && m.id != memberID {
			return nil, codeFencedInstanceID
		}
	}
	if m == nil || m.classic == nil {
		return nil, codeUnknownMemberID
	}
	return m, codeNone
}

// syncClassic answers SyncGroup: with what the member may use now.
func (c *consumer) syncClassic(s *step, r *Request, req *kmsg.SyncGroupRequest) {
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	m, code := c.findClassic(req.MemberID, req.InstanceID)
	switch {
	case req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil):
		code = codeInconsistentProtocol
	case code != codeNone:
	case req.Generation != m.epoch:
		code = codeIllegalGeneration
	case differs(req.ProtocolType, consumerProtocolType) || differs(req.Protocol, m.classic.protocols[0].Name):
		code = codeInconsistentProtocol
	case c.groupEpoch > m.epoch && m.state != memberUnrevoked:
		// It has to rejoin for the next epoch. One that has to give partitions up has to learn that first.
		c.awaitRejoin(s, m)
		code = codeRebalanceInProgress
	}
	if code != codeNone {
		resp.ErrorCode = code
		s.refuse(r.Token, resp, code)
		return
	}
	c.sessions.stop(m.resync)
	c.touch(s, m)
	resp.ProtocolType, resp.Protocol = new(consumerProtocolType), new(m.classic.protocols[0].Name)
	resp.MemberAssignment = writeAssignment(m.classic.protocols[0].Metadata, m.assigned, c.g.topics)
	s.later(r.Token, resp)
}

// awaitRejoin gives a member its rebalance time-out to rejoin, from when it first was told to.
func (c *consumer) awaitRejoin(s *step, m *consumerMember) {
	if !m.rejoin.runs() {
		c.sessions.extend(m.rejoin, s.now, m.rebalance)
	}
}

// heartbeatClassic answers Heartbeat. A member has to rejoin if there is a new epoch, if it has to give partitions up, and when it
// can get all that it waits for.
func (c *consumer) heartbeatClassic(s *step, r *Request, req *kmsg.HeartbeatRequest) {
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	m, code := c.findClassic(req.MemberID, req.InstanceID)
	switch {
	case code != codeNone:
	case req.Generation != m.epoch:
		code = codeIllegalGeneration
	default:
		c.touch(s, m)
		if m.epoch < c.groupEpoch || m.state == memberUnrevoked || m.state == memberUnreleased && !c.waiting(m) {
			code = codeRebalanceInProgress
			c.awaitRejoin(s, m)
		}
	}
	resp.ErrorCode = code
	s.refuse(r.Token, resp, code)
}

// leaveClassic answers LeaveGroup: only members of the classic protocol leave by it, static ones also by their instance id alone.
func (c *consumer) leaveClassic(s *step, r *Request, req *kmsg.LeaveGroupRequest) {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	var gone []*consumerMember
	leave := func(id string, instance, reason *string) int16 {
		if id == "" && instance != nil && c.static[*instance] != nil {
			id = c.static[*instance].id
		}
		m, code := c.findClassic(id, instance)
		if code == codeNone && !slices.Contains(gone, m) {
			s.note("member removed: it leaves", m.id, reason)
			gone = append(gone, m)
		}
		return code
	}
	if req.Version < 3 {
		resp.ErrorCode = leave(req.MemberID, nil, nil)
	} else {
		for i := range req.Members {
			who := &req.Members[i]
			out := kmsg.NewLeaveGroupResponseMember()
			out.MemberID, out.InstanceID = who.MemberID, who.InstanceID
			out.ErrorCode = leave(who.MemberID, who.InstanceID, who.Reason)
			resp.Members = append(resp.Members, out)
		}
	}
	c.fence(s, gone...)
	s.later(r.Token, resp)
}

// subscriptionData is what a consumer of the classic protocol tells its leader (ConsumerProtocolSubscription).
type subscriptionData struct {
	topics []string
	owned  []ownedTopic
	rack   string
}

type ownedTopic struct {
	topic      string
	partitions []int32
}

// readSubscription reads it; ok is false if it is none. What follows the topics is left out where it is missing or broken.
func readSubscription(metadata []byte) (sub subscriptionData, ok bool) {
	topics, ok := subscribedTopics(metadata)
	if !ok || slices.ContainsFunc(topics, func(name string) bool { return !isText(name) }) {
		return sub, false
	}
	sub.topics = topics
	w := wire{b: metadata}
	version := w.int16()
	for n := w.int32(); n > 0 && !w.bad; n-- {
		w.string()
	}
	w.take(int(max(w.int32(), 0))) // user data
	if version >= 1 {
		for n := w.int32(); n > 0 && !w.bad; n-- {
			t := ownedTopic{topic: w.string()}
			for k := w.int32(); k > 0 && !w.bad; k-- {
				t.partitions = append(t.partitions, w.int32())
			}
			sub.owned = append(sub.owned, t)
		}
	}
	if version >= 2 {
		w.int32() // generation
	}
	if version >= 3 {
		if n := w.int16(); n > 0 {
			sub.rack = string(w.take(int(n)))
		}
	}
	if w.bad || !isText(sub.rack) {
		sub.owned, sub.rack = nil, ""
	}
	return sub, true
}

// ownedOf are the partitions the member says it owns, as far as they exist.
func (sub subscriptionData) ownedOf(topics Topics) assignor.Assignment {
	var ps []assignor.Partitions
	for _, o := range sub.owned {
		if t, ok := topics.ByName(o.topic); ok {
			ps = append(ps, assignor.Partitions{Topic: t.ID, Partitions: slices.DeleteFunc(slices.Clone(o.partitions), func(p int32) bool {
				return p < 0 || p >= t.Partitions
			})})
		}
	}
	return assignor.Of(ps...)
}

// writeAssignment writes an assignment for a consumer of the classic protocol, in the version of its subscription.
func writeAssignment(metadata []byte, a assignor.Assignment, topics Topics) []byte {
	w := wire{b: metadata}
	out := kmsg.ConsumerMemberAssignment{Version: min(max(w.int16(), 0), 3)}
	for _, ps := range a {
		if t, ok := topics.ByID(ps.Topic); ok {
			out.Topics = append(out.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: t.Name, Partitions: ps.Partitions})
		}
	}
	slices.SortFunc(out.Topics, func(a, b kmsg.ConsumerMemberAssignmentTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	return bytes.Clone(out.AppendTo(nil))
}
