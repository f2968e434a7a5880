package group

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// joinGroup answers JoinGroup, versions 0 to 9, now or when the rebalance is over.
//
// Deviations: ids, protocols and metadata that are no text or too long to be kept are INVALID_REQUEST; ids given out and not
// used yet count against group.max.size, and nobody waits for who is turned away; a request that another one of the same member overtakes is answered
// REBALANCE_IN_PROGRESS instead of never.
func (c *classic) joinGroup(s *step, r *Request, req *kmsg.JoinGroupRequest) {
	session := fromMillis(req.SessionTimeoutMillis)
	switch {
	case session < c.g.cfg.SessionTimeoutMin || session > c.g.cfg.SessionTimeoutMax:
		refuseJoin(s, r, req.MemberID, codeInvalidSessionTimeout)
	case !keepsJoin(req, c.g.cfg.MaxMemberBytes):
		refuseJoin(s, r, req.MemberID, codeInvalidRequest)
	case req.MemberID != "" && !c.g.exists():
		refuseJoin(s, r, req.MemberID, codeUnknownMemberID)
	case !c.accepts(req.MemberID):
		if m := c.byID[req.MemberID]; m != nil {
			s.note("member turned away: the group is full", m.id, req.Reason)
			c.remove(s, m)
			c.goOn(s)
		}
		refuseJoin(s, r, "", codeGroupMaxSizeReached)
	case !c.supportsAny(req):
		refuseJoin(s, r, req.MemberID, codeInconsistentProtocol)
	case req.MemberID != "":
		c.rejoin(s, r, req)
	case instanceOf(req) != "":
		if old := c.static[instanceOf(req)]; old != nil {
			c.replace(s, r, req, old)
			return
		}
		c.join(s, r, req, newMemberID(instanceOf(req), r.NewMemberID))
	case req.Version >= 4:
		c.giveID(s, r, session)
	default:
		c.join(s, r, req, newMemberID(r.Client.ID, r.NewMemberID))
	}
}

func refuseJoin(s *step, r *Request, memberID string, code int16) {
	resp := r.Body.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.MemberID, resp.ErrorCode = memberID, code
	s.refuse(r.Token, resp, code)
}

// keepsJoin checks what has to fit in a row, of at most so many bytes.
func keepsJoin(req *kmsg.JoinGroupRequest, most int) bool {
	n := len(req.MemberID) + len(instanceOf(req)) + len(req.ProtocolType)
	ok := isText(req.MemberID) && isText(instanceOf(req)) && isText(req.ProtocolType)
	for i := range req.Protocols {
		p := &req.Protocols[i]
		n += len(p.Name) + len(p.Metadata)
		ok = ok && isText(p.Name)
	}
	return ok && n <= most && len(instanceOf(req))+memberIDSuffix <= catalog.MaxMemberID
}

// isText says whether the catalog can keep a string.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// memberIDSuffix is the length of what follows the client's part of a member id: a dash and a UUID.
const memberIDSuffix = 37

// newMemberID is Kafka's form of ids: what the client is called by, and something random. A name that cannot be kept is cut.
func newMemberID(name, random string) string {
	name = text(name, catalog.MaxMemberID-memberIDSuffix)
	return name + "-" + random
}

// text makes something of a string that can be kept, of at most so many bytes.
func text(s string, most int) string {
	if len(s) <= most && isText(s) {
		return s
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// instanceOf is the group.instance.id of a request; empty: none.
func instanceOf(req *kmsg.JoinGroupRequest) string {
	if req.InstanceID == nil {
		return ""
	}
	return *req.InstanceID
}

// accepts says whether group.max.size leaves room. While a rebalance gathers members, those count that have joined: the last
// ones to come are turned away, also if the group was larger before the bound was lowered.
func (c *classic) accepts(memberID string) bool {
	most := c.g.cfg.MaxSize
	m := c.byID[memberID]
	switch {
	case memberID == "" && len(c.pending) >= most:
		return false
	case c.state == phaseEmpty:
		return true
	case c.state == phasePreparing:
		return (m != nil && m.join.on) || c.joining < most
	default:
		return m != nil || len(c.order) < most
	}
}

// supportsAny says whether the client shares the protocol type and one protocol with all members.
func (c *classic) supportsAny(req *kmsg.JoinGroupRequest) bool {
	if c.state == phaseEmpty {
		return req.ProtocolType != "" && len(req.Protocols) > 0
	}
	return req.ProtocolType == c.kindOf && slices.ContainsFunc(req.Protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		return c.supports[p.Name] == len(c.order)
	})
}

// giveID makes a client join again with an id, so that a request that is lost leaves no member behind (KIP-394).
func (c *classic) giveID(s *step, r *Request, session time.Duration) {
	id := newMemberID(r.Client.ID, r.NewMemberID)
	clock := newSession(id)
	c.pending[id] = clock
	c.sessions.extend(clock, s.now, session)
	resp := r.Body.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.MemberID, resp.ErrorCode = id, codeMemberIDRequired
	s.answer(r.Token, resp)
}

// join puts a new member in.
func (c *classic) join(s *step, r *Request, req *kmsg.JoinGroupRequest, id string) {
	if clock := c.pending[id]; clock != nil {
		c.sessions.stop(clock)
		delete(c.pending, id)
	}
	m := &classicMember{
		id: id, instance: instanceOf(req), client: clientOf(r), clock: newSession(id), isNew: true, dirty: true,
	}
	m.told(req)
	if len(c.order) == 0 {
		c.kindOf = req.ProtocolType
	}
	c.more = c.more || (c.state == phasePreparing && c.initial)
	c.add(m)
	c.wait(s, m, r)
	c.sessions.extend(m.clock, s.now, newMemberJoin)
	c.rebalanceOrGoOn(s, "rebalance: a member joins", m, req.Reason)
}

// clientOf is the client as it can be kept.
func clientOf(r *Request) Client { return r.Client.Kept() }

// told takes over what a member says of itself in JoinGroup. The request's bytes are not kept.
func (m *classicMember) told(req *kmsg.JoinGroupRequest) {
	session, rebalance := fromMillis(req.SessionTimeoutMillis), fromMillis(req.RebalanceTimeoutMillis)
	if req.Version < 1 { // it has none
		rebalance = session
	}
	if session == m.session && rebalance == m.rebalance && m.says(req) {
		return
	}
	m.session, m.rebalance, m.dirty = session, rebalance, true
	m.protocols = m.protocols[:0:0]
	for _, p := range req.Protocols {
		if !slices.ContainsFunc(m.protocols, func(q kmsg.JoinGroupRequestProtocol) bool { return q.Name == p.Name }) {
			m.protocols = append(m.protocols, kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
		}
	}
}

// says says whether a request repeats the member's protocols.
func (m *classicMember) says(req *kmsg.JoinGroupRequest) bool {
	return slices.EqualFunc(m.protocols, req.Protocols, func(a, b kmsg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// update takes over what a member says in a later JoinGroup, and has it wait for the answer.
func (c *classic) update(s *step, m *classicMember, r *Request, req *kmsg.JoinGroupRequest) {
	c.count(m, -1)
	m.told(req)
	c.count(m, 1)
	c.wait(s, m, r)
}

// wait has a member wait for the answer of a JoinGroup.
func (c *classic) wait(s *step, m *classicMember, r *Request) {
	if m.join.on {
		c.endJoin(s, m, codeRebalanceInProgress, m.id)
	}
	c.joining++
	m.join = waiter{on: true, token: r.Token, version: r.Body.GetVersion()}
}

// endJoin gives a waiting JoinGroup an error, if one waits.
func (c *classic) endJoin(s *step, m *classicMember, code int16, memberID string) {
	if resp := c.takeJoin(m); resp != nil {
		resp.resp.MemberID, resp.resp.ErrorCode = memberID, code
		s.refuse(resp.token, resp.resp, code)
	}
}

// joinAnswer is an answer of JoinGroup that is due.
type joinAnswer struct {
	token Token
	resp  *kmsg.JoinGroupResponse
}

// takeJoin ends a member's waiting for JoinGroup; nil if nobody waits for the answer.
func (c *classic) takeJoin(m *classicMember) *joinAnswer {
	w := m.join
	if !w.on {
		return nil
	}
	m.join = waiter{}
	c.joining--
	if w.gone {
		return nil
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = w.version
	return &joinAnswer{w.token, resp}
}

// rejoin is a JoinGroup of somebody with a member id.
func (c *classic) rejoin(s *step, r *Request, req *kmsg.JoinGroupRequest) {
	if c.pending[req.MemberID] != nil {
		if instanceOf(req) != "" {
			// A member that named an instance id was never sent away with an id.
			refuseJoin(s, r, req.MemberID, codeUnknownServerError)
			return
		}
		c.join(s, r, req, req.MemberID)
		return
	}
	m, code := c.find(req.MemberID, req.InstanceID)
	if code != codeNone {
		refuseJoin(s, r, req.MemberID, code)
		return
	}
	switch {
	case c.state == phaseEmpty: // not reached: a member is in no empty group
		refuseJoin(s, r, req.MemberID, codeUnknownMemberID)
	case c.state == phasePreparing, !m.says(req), c.state == phaseStable && m == c.leader:
		// The leader may see what the group cannot, such as more partitions, so it can always have a rebalance.
		why := "rebalance: a member joins again with other protocols"
		if m == c.leader {
			why = "rebalance: the leader joins again"
		}
		c.update(s, m, r, req)
		c.rebalanceOrGoOn(s, why, m, req.Reason)
	default:
		// It did not get the answer, or is a follower that asks for no reason.
		resp := r.Body.ResponseKind().(*kmsg.JoinGroupResponse)
		c.tell(resp, m, c.state == phaseCompleting && m == c.leader)
		s.later(r.Token, resp)
	}
}

// tell fills an answer of JoinGroup with the generation.
func (c *classic) tell(resp *kmsg.JoinGroupResponse, m *classicMember, members bool) {
	resp.MemberID, resp.Generation = m.id, c.generation
	resp.ProtocolType, resp.Protocol = new(c.kindOf), new(c.protocol)
	if c.leader != nil {
		resp.LeaderID = c.leader.id
	}
	if members {
		resp.Members = c.joined()
	}
}

// joined are the members as the leader is told of them.
func (c *classic) joined() []kmsg.JoinGroupResponseMember {
	out := make([]kmsg.JoinGroupResponseMember, len(c.order))
	for i, m := range c.order {
		out[i] = kmsg.NewJoinGroupResponseMember()
		out[i].MemberID, out[i].InstanceID, out[i].ProtocolMetadata = m.id, m.instanceID(), m.metadata(c.protocol)
	}
	return out
}

// replace lets a static member that came back without its id take the place of what it was (KIP-345), under a new id. Who
// still uses the old id is fenced. While the group is stable and the protocol stays, nobody has to rebalance.
func (c *classic) replace(s *step, r *Request, req *kmsg.JoinGroupRequest, old *classicMember) {
	ledBy := c.leader
	m := c.rename(s, old, newMemberID(old.instance, r.NewMemberID))
	c.update(s, m, r, req)
	c.sessions.extend(m.clock, s.now, m.session)
	switch {
	case c.state == phaseStable && c.selectProtocol() == c.protocol:
		m.save(s)
		a := c.takeJoin(m)
		leads := m == c.leader
		if req.Version >= 9 {
			c.tell(a.resp, m, leads) // it must be told that it leads, or never sees to changes of the topics (KIP-814)
			a.resp.SkipAssignment = leads
		} else if c.tell(a.resp, m, false); leads {
			a.resp.LeaderID = ledBy.id // before version 9 a leader would assign again
		}
		s.later(a.token, a.resp)
	case c.state == phaseStable, c.state == phaseCompleting:
		// The leader may have been told of the old id, and would assign nothing to the new one.
		m.save(s)
		s.note("rebalance: a static member is back under another id", m.id, req.Reason)
		c.prepare(s)
	default:
		m.save(s)
		c.goOn(s)
	}
}

// rename puts a member with another id in an old one's place. Requests that wait under the old id are fenced.
func (c *classic) rename(s *step, old *classicMember, id string) *classicMember {
	c.endJoin(s, old, codeFencedInstanceID, old.id)
	c.endSync(s, old, codeFencedInstanceID)
	m := &classicMember{}
	*m = *old
	m.id, m.clock, m.isNew, m.saved, m.dirty = id, newSession(id), false, false, true
	c.sessions.stop(old.clock)
	delete(c.byID, old.id)
	c.byID[id], c.static[m.instance] = m, m
	c.order[slices.Index(c.order, old)] = m
	if c.leader == old {
		c.leader = m
	}
	if old.saved {
		s.dropMember(old.id)
	}
	s.saveGroup()
	s.membersChanged()
	return m
}
