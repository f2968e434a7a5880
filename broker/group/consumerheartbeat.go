package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// refusal is an error answer.
type refusal struct {
	code    int16
	message string
}

func refuse(code int16, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// answer answers a ConsumerGroupHeartbeat with the refusal.
func (e *refusal) answer(s *step, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) {
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.ErrorCode, resp.ErrorMessage = e.code, &e.message
	s.refuse(r.Token, resp, e.code)
}

func keepsName(s string) bool { return len(s) <= catalog.MaxMemberID && isText(s) }

func blank(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }

// checkHeartbeat checks the fields of a request by themselves, in the order of Kafka's coordinator.
func checkHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest, cfg *Config) *refusal {
	invalid := func(what string) *refusal { return refuse(codeInvalidRequest, "%s.", what) }
	epoch := req.MemberEpoch
	switch {
	case (req.Version >= 1 || epoch > epochJoin || epoch == epochLeave) && blank(&req.MemberID):
		return invalid("MemberId is empty")
	case blank(&req.Group):
		return invalid("GroupId is empty")
	case blank(req.InstanceID):
		return invalid("InstanceId is empty")
	case blank(req.RackID):
		return invalid("RackId is empty")
	case epoch == epochJoin && req.RebalanceTimeoutMillis == -1:
		return invalid("A member that joins gives a RebalanceTimeoutMs")
	case epoch == epochJoin && (req.Topics == nil || len(req.Topics) > 0):
		return invalid("A member that joins owns no TopicPartitions: they have to be an empty list")
	case epoch == epochJoin && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return invalid("A member that joins gives SubscribedTopicNames or a SubscribedTopicRegex")
	case epoch == epochStaticLeave && req.InstanceID == nil:
		return invalid("A member that leaves for a while has an InstanceId")
	case epoch < epochStaticLeave:
		return invalid("MemberEpoch is below -2")
	case !keepsName(req.MemberID) || req.InstanceID != nil && !keepsName(*req.InstanceID) || req.RackID != nil && !keepsName(*req.RackID):
		return invalid("MemberId, InstanceId or RackId is too long, or no text") // ours: Kafka keeps any
	case req.ServerAssignor != nil && !slices.Contains(cfg.ConsumerAssignors, *req.ServerAssignor):
		return refuse(codeUnsupportedAssignor, "ServerAssignor %s is not supported; supported are %s.",
			*req.ServerAssignor, strings.Join(cfg.ConsumerAssignors, ", "))
	}
	return nil
}

// admit finds the member that a heartbeat is of, or makes one for a member that joins, and refuses one that is not its present
// self. Nothing is changed yet. replaces is the member that a new one takes the instance id of.
func (c *consumer) admit(r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) (m, replaces *consumerMember, _ *refusal) {
	join := req.MemberEpoch == epochJoin
	id := req.MemberID
	if id == "" {
		id = r.NewMemberID
	}
	known := c.members[id]
	if req.InstanceID != nil {
		known = c.static[*req.InstanceID]
	}
	if full := c.g.cfg.ConsumerMaxSize; join && known == nil && len(c.members) >= full {
		return nil, nil, refuse(codeGroupMaxSizeReached, "The group has %d members, which is the most it can have.", full)
	}
	switch {
	case known == nil && !join:
		return nil, nil, refuse(codeUnknownMemberID, "There is no such member of group %s.", c.g.id)
	case known == nil:
		fresh := newConsumerMember(id)
		if req.InstanceID != nil {
			fresh.instance = *req.InstanceID
			if c.members[id] != nil { // of another instance, or of none: an id is of one member
				return nil, nil, refuse(codeFencedMemberEpoch, "Member %s of group %s has no instance id %s.", id, c.g.id, fresh.instance)
			}
		}
		return fresh, nil, nil
	case req.InstanceID == nil:
		return known, nil, c.checkMemberEpoch(known, req)
	case join:
		if known.classic == nil && known.epoch != epochStaticLeave && known.id != id {
			return nil, nil, refuse(codeUnreleasedInstanceID, "Instance id %s is that of member %s.", known.instance, known.id)
		}
		switch {
		case known.id == id && known.classic == nil && known.epoch != epochStaticLeave:
			return known, nil, c.checkMemberEpoch(known, req) // it may not have got the answer to its first heartbeat
		case known.id != id && c.members[id] != nil:
			return nil, nil, refuse(codeFencedMemberEpoch, "Member %s of group %s has another instance id.", id, c.g.id)
		}
		next := known.successor(id)
		return next, known, nil
	case known.id != id:
		return nil, nil, refuse(codeFencedInstanceID, "Instance id %s is that of another member now.", known.instance)
	}
	return known, nil, c.checkMemberEpoch(known, req)
}

// successor is a static member that comes back, maybe under another id, in the place of what it was: with its partitions.
func (m *consumerMember) successor(id string) *consumerMember {
	next := &consumerMember{}
	*next = *m
	next.id, next.epoch, next.previous, next.dirty = id, epochJoin, epochJoin, false
	next.newClocks()
	return next
}

// checkMemberEpoch refuses a member that is behind or before what the group knows of it. One that names its previous epoch may
// not have heard of the present one: that is fine if it owns nothing beyond its assignment. One that joins again under its id owns
// nothing: it did not get the answer to its first heartbeat, or it was refused here and gave everything up.
func (c *consumer) checkMemberEpoch(m *consumerMember, req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	if req.MemberEpoch == m.epoch || req.MemberEpoch == epochJoin {
		return nil
	}
	if req.MemberEpoch == m.previous && req.MemberEpoch < m.epoch {
		if own := ownedOf(req.Topics); own.known && len(own.parts.Minus(m.assigned)) == 0 {
			return nil
		}
	}
	return refuse(codeFencedMemberEpoch,
		"Member %s is at epoch %d, not %d: it has to give up its partitions and to join again.", m.id, m.epoch, req.MemberEpoch)
}

// ownedOf is what a heartbeat says that the member owns.
func ownedOf(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) owned {
	if topics == nil {
		return owned{}
	}
	ps := make([]assignor.Partitions, len(topics))
	for i, t := range topics {
		ps[i] = assignor.Partitions{Topic: t.TopicID, Partitions: t.Partitions}
	}
	return owned{known: true, parts: assignor.Of(ps...)}
}

// update takes over what a heartbeat says of the member, and says whether it subscribes to something else now. A member not yet
// of the group has no row that could differ. If it is refused, nothing was changed.
func (c *consumer) update(m *consumerMember, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) (changed bool, _ *refusal) {
	if req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil || m.sub == nil {
		var names []string
		var regex string
		if m.sub != nil {
			names, regex = m.sub.names, m.sub.regex
		}
		if req.SubscribedTopicNames != nil {
			names = req.SubscribedTopicNames
		}
		if req.SubscribedTopicRegex != nil {
			regex = *req.SubscribedTopicRegex
		}
		if n, most := memberBytes(m, names, regex), c.g.cfg.MaxMemberBytes; n > most {
			return false, refuse(codeInvalidRequest, "The member's subscription has %d bytes; at most %d are kept.", n, most)
		}
		if !isText(regex) || slices.ContainsFunc(names, func(name string) bool { return !isText(name) }) {
			return false, refuse(codeInvalidRequest, "The member's subscription is no text.")
		}
		var refused *refusal
		if changed, refused = c.resubscribe(m, names, regex); refused != nil {
			return false, refused
		}
	}
	client := clientOf(r)
	save := changed || m.client != client || m.classic != nil
	m.client = client
	if m.classic != nil {
		if c.members[m.id] == m {
			c.classic--
		}
		m.classic = nil
		c.sessions.stop(m.rejoin)
		c.sessions.stop(m.resync)
	}
	set := func(field, v *string) {
		if v != nil && *field != *v {
			*field, save = *v, true
		}
	}
	set(&m.rack, req.RackID)
	set(&m.assignor, req.ServerAssignor)
	if ms := req.RebalanceTimeoutMillis; ms != -1 && m.rebalance != time.Duration(ms)*time.Millisecond {
		m.rebalance, save = time.Duration(ms)*time.Millisecond, true
	}
	if save {
		c.save(m)
	}
	return changed, nil
}

// resubscribe makes a member subscribe to names and a regular expression, and says whether that is something else than before.
func (c *consumer) resubscribe(m *consumerMember, names []string, regex string) (changed bool, _ *refusal) {
	sub, err := c.subscribe(slices.Clone(names), regex)
	if err != nil {
		return false, refuse(codeInvalidRegularExpression, "%s", invalidRegex(regex, err))
	}
	before := m.sub
	m.sub = sub
	if before == nil {
		return len(sub.names) > 0 || regex != "", nil
	}
	if c.members[m.id] == m { // else it has it from the member it takes the place of, which releases it itself
		c.release(before)
	}
	return sub != before, nil
}

// memberBytes is what a member's row takes, about.
func memberBytes(m *consumerMember, names []string, regex string) int {
	n := len(m.id) + len(m.instance) + len(m.rack) + len(regex)
	for _, name := range names {
		n += len(name)
	}
	return n
}

// proceed is what follows from a heartbeat that is in order: the member is of the group, the group epoch grows if anything that a
// target depends on has changed, a target is made for it, and the member goes towards its own.
func (c *consumer) proceed(
	s *step, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest, m, replaces *consumerMember, changed bool,
) {
	known := c.enter(s, m, replaces)
	before := m.assigned
	c.advance(s, m, changed, known, func() owned { return ownedOf(req.Topics) })
	c.touch(s, m)

	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.MemberID, resp.MemberEpoch = &m.id, m.epoch
	resp.HeartbeatIntervalMillis = millis(c.interval(s.now, m))
	full := req.MemberEpoch == epochJoin || req.RebalanceTimeoutMillis != -1 && req.Topics != nil &&
		(req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil)
	if full || !m.assigned.Equal(before) {
		resp.Assignment = heartbeatAssignment(m.assigned)
	}
	if m.dirty || m.write > c.g.durable {
		s.later(r.Token, resp) // it tells what is not durable yet
	} else {
		s.answer(r.Token, resp)
	}
}

// enter makes a new member part of the group, in the place of another where it replaces one, and says whether it was before.
func (c *consumer) enter(s *step, m, replaces *consumerMember) (known bool) {
	if replaces != nil {
		c.remove(s, replaces)
	}
	if c.members[m.id] == m {
		return true
	}
	c.add(m)
	c.save(m)
	s.membersChanged()
	return false
}

// advance brings group and member forward: see proceed. own is asked only when it matters.
func (c *consumer) advance(s *step, m *consumerMember, changed, known bool, own func() owned) {
	bump := changed || c.groupEpoch == 0
	if changed || c.stale {
		bump = c.refresh() || bump
	}
	switch {
	case bump && !known:
		s.note("rebalance: a member joins", m.id, nil)
	case bump && changed:
		s.note("rebalance: a member subscribes to something else", m.id, nil)
	case bump:
		s.note("rebalance: topics changed", "", nil)
	}
	if bump {
		c.bump(s)
	}
	// A member that asks for other topics may not keep what it had by a target made before: it has a new one at once.
	c.assign(s, known && changed)
	if c.reconciled(m) {
		return
	}
	before := m.assigned
	moved := c.reconcile(m, own())
	if moved || m.waits.IsZero() {
		m.waits = s.now
	}
	if !moved {
		return
	}
	c.save(m)
	if !m.assigned.Equal(before) {
		s.membersChanged()
	}
	if m.state == memberUnrevoked && m.classic == nil {
		c.sessions.extend(m.revoke, s.now, m.rebalance)
	} else {
		c.sessions.stop(m.revoke)
	}
}

// interval is when the member should send its next heartbeat. One that waits for others to give partitions up, or for a target, is
// asked to look again soon: with Kafka's five seconds most of a rebalance would be this wait. The longer it has waited, the
// longer it waits again, by half: others may take minutes to give up. In a big group it is longer, so that those who
// wait send a thousand heartbeats a second at most.
func (c *consumer) interval(now time.Time, m *consumerMember) time.Duration {
	usual := c.g.cfg.ConsumerHeartbeatInterval
	least := max(50*time.Millisecond, time.Duration(len(c.members))*time.Millisecond)
	switch {
	case !c.targetDue.IsZero():
		return min(usual, max(least, c.targetDue.Sub(now)))
	case m.state == memberUnreleased:
		return min(usual, max(least, now.Sub(m.waits)/2))
	}
	return usual
}

func heartbeatAssignment(a assignor.Assignment) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	out := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	out.Topics = make([]kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic, len(a))
	for i, ps := range a {
		t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		t.TopicID, t.Partitions = ps.Topic, ps.Partitions
		out.Topics[i] = t
	}
	return &out
}

// leave is a heartbeat with epoch -1, or with -2 of a static member that comes back: it keeps its partitions for its session.
func (c *consumer) leave(s *step, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) {
	m := c.members[req.MemberID]
	if req.InstanceID != nil {
		m = c.static[*req.InstanceID]
	}
	switch {
	case m == nil:
		refuse(codeUnknownMemberID, "There is no such member of group %s.", c.g.id).answer(s, r, req)
		return
	case m.id != req.MemberID:
		refuse(codeFencedInstanceID, "Instance id %s is that of another member now.", m.instance).answer(s, r, req)
		return
	case req.MemberEpoch == epochLeave:
		s.note("member removed: it leaves", m.id, nil)
		c.fence(s, m)
	default:
		if c.reconciled(m) {
			c.behind++
		}
		c.held.remove(m.revoking)
		c.sessions.stop(m.revoke)
		m.revoking, m.epoch = nil, epochStaticLeave
		c.save(m)
	}
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.MemberID, resp.MemberEpoch = &m.id, req.MemberEpoch
	s.later(r.Token, resp)
}
