package group

import (
	"cmp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// States of a consumer group, beside Empty and Stable.
const (
	phaseAssigning   = "Assigning"   // the target is older than the group epoch
	phaseReconciling = "Reconciling" // members are on their way to the target
)

// consumer is the membership of a consumer group (KIP-848).
//
// The group epoch grows with each change that a target depends on: members, subscriptions, topics. The target (each member's
// target) is made for a group epoch, the assignment epoch, by a server-side assignor. Each member follows on its own, in
// its heartbeats: reconcile.go.
//
// Files: consumerheartbeat.go is what a heartbeat does, reconcile.go how a member gets to its target, target.go subscriptions and
// targets, consumerclassic.go the members that speak the classic protocol, consumerstate.go rows, migrate.go the way from
// and to a classic group.
type consumer struct {
	g *Group

	groupEpoch    int32
	assignedEpoch int32 // that of the targets

	members map[string]*consumerMember
	sorted  []*consumerMember // by id
	static  map[string]*consumerMember
	classic int // members that speak the classic protocol
	// behind counts members that are not reconciled with the targets; valid if groupEpoch is the assignment epoch.
	behind int

	held holdings
	subs map[string]*subscription // by key
	// seen are the topics that regular expressions were matched with; topicsHash is of the topics subscribed to as of the
	// group epoch (see subscribedHash).
	seen       Topics
	topicsHash uint64
	stale      bool // topics may have changed since

	// A target that costs much is made at most so often: lastTarget is when one was made, targetDue (if not zero) when the
	// next will be. See assign.
	lastTarget, targetDue time.Time

	sessions sessions
	dirty    []*consumerMember // whose row has to be written in this step
	was      string            // the phase before this step
}

// memberState is where a member is on its way to its target.
type memberState string

const (
	// memberStable has what its target of its epoch says.
	memberStable memberState = "stable"
	// memberUnrevoked was told to give partitions up, and has not said yet that it did.
	memberUnrevoked memberState = "unrevoked"
	// memberUnreleased waits for partitions that others have not given up.
	memberUnreleased memberState = "unreleased"
)

// Member epochs that are no epochs.
const (
	epochJoin        = 0
	epochLeave       = -1
	epochStaticLeave = -2
)

// consumerMember is a member of a consumer group.
type consumerMember struct {
	id, instance, rack string
	client             Client
	rebalance          time.Duration // within which it has to revoke, or to rejoin in the classic protocol
	assignor           string        // its choice; empty: none
	sub                *subscription

	epoch, previous int32 // previous: the one before, which it may still name if it did not hear of the new one
	state           memberState
	assigned        assignor.Assignment // what it may use
	revoking        assignor.Assignment // what it was told to give up
	target          assignor.Assignment
	waits           time.Time // since when it is where it is on its way to it; zero: not known

	classic *classicPart // nil: it speaks the consumer protocol

	// Whichever of these is over throws the member out: its session; the time to give partitions up; the time of a member of the
	// classic protocol to rejoin, and to send SyncGroup after that.
	session, revoke, rejoin, resync *session

	dirty bool
	write uint64 // of its row, when it was last saved
}

// classicPart is what a member that speaks the classic protocol has beside.
type classicPart struct {
	session   time.Duration
	protocols []kmsg.JoinGroupRequestProtocol // at least one
}

// newConsumerMember makes a member without clocks that run.
func newConsumerMember(id string) *consumerMember {
	m := &consumerMember{id: id, state: memberStable}
	m.newClocks()
	return m
}

func (m *consumerMember) newClocks() {
	m.session, m.revoke, m.rejoin, m.resync = newSession(m.id), newSession(m.id), newSession(m.id), newSession(m.id)
}

// newConsumer makes a consumer group without members.
func newConsumer(g *Group, epoch int32) *consumer {
	return &consumer{
		g: g, groupEpoch: epoch, assignedEpoch: epoch,
		members: map[string]*consumerMember{}, static: map[string]*consumerMember{},
		held: holdings{}, subs: map[string]*subscription{}, seen: g.topics, was: phaseEmpty,
	}
}

func (*consumer) kind() catalog.GroupKind { return catalog.GroupConsumer }
func (*consumer) protocolType() string    { return consumerProtocolType }
func (c *consumer) epoch() int32          { return c.groupEpoch }
func (c *consumer) idle() bool            { return len(c.members) == 0 }
func (c *consumer) size() int             { return len(c.members) }
func (*consumer) abandoned(Token)         {} // no answer waits for anything but writes
func (*consumer) configChanged(*step)     {} // each heartbeat reads the config

func (c *consumer) phase() string {
	switch {
	case len(c.members) == 0:
		return phaseEmpty
	case c.groupEpoch > c.assignedEpoch:
		return phaseAssigning
	case c.behind > 0:
		return phaseReconciling
	}
	return phaseStable
}

// reconciled says whether a member has arrived at its target.
func (c *consumer) reconciled(m *consumerMember) bool {
	return m.state == memberStable && m.epoch == c.assignedEpoch
}

// request answers requests of the classic protocol; heartbeats of KIP-848 come by [Group.consumerHeartbeat].
func (c *consumer) request(s *step, r *Request) {
	switch body := r.Body.(type) {
	case *kmsg.JoinGroupRequest:
		c.joinClassic(s, r, body)
	case *kmsg.SyncGroupRequest:
		c.syncClassic(s, r, body)
	case *kmsg.HeartbeatRequest:
		c.heartbeatClassic(s, r, body)
	case *kmsg.LeaveGroupRequest:
		c.leaveClassic(s, r, body)
	}
	c.flush(s)
}

// topicsChanged makes the next heartbeat look at what is subscribed to. Nothing is done at once: a topic made in a big cluster
// would else write rows of thousands of groups at the same time.
func (c *consumer) topicsChanged(*step) { c.stale = true }

// flush ends a step: it writes the rows of members that changed, and the group's where its phase did.
func (c *consumer) flush(s *step) {
	if c.g.m != machine(c) {
		return // the group became a classic one, which wrote everything
	}
	for _, m := range c.dirty {
		if m.dirty { // else it is gone
			s.saveMember(m.row())
			m.dirty, m.write = false, c.g.write+1
		}
	}
	c.dirty = c.dirty[:0]
	if phase := c.phase(); phase != c.was {
		c.was, c.g.changedAt = phase, s.now
		s.saveGroup()
	}
}

// tick throws out members whose time is over, and makes the target that was put off.
func (c *consumer) tick(s *step) {
	var late []*consumerMember
	for over := c.sessions.over(s.now); over != nil; over = c.sessions.over(s.now) {
		m := c.members[over.id]
		if slices.Contains(late, m) {
			continue
		}
		late = append(late, m)
		switch over {
		case m.session:
			s.note("member removed: its session is over", m.id, nil)
		case m.revoke:
			s.note("member removed: it did not give up partitions in its rebalance timeout", m.id, nil)
		case m.rejoin:
			s.note("member removed: it did not join again in its rebalance timeout", m.id, nil)
		case m.resync:
			s.note("member removed: it did not sync in its rebalance timeout", m.id, nil)
		}
	}
	c.fence(s, late...)
	if c.g.m != machine(c) {
		return
	}
	if !c.targetDue.IsZero() && !s.now.Before(c.targetDue) {
		c.assign(s, true)
	}
	c.flush(s)
}

// next is when tick has something to do.
func (c *consumer) next() time.Time { return minTime(c.sessions.next(), c.targetDue) }

// resumed gives every member its full time again.
func (c *consumer) resumed(s *step) { c.sessions.restart(s.now) }

// touch begins a member's session anew.
func (c *consumer) touch(s *step, m *consumerMember) {
	span := c.g.cfg.ConsumerSessionTimeout
	if m.classic != nil {
		span = m.classic.session
	}
	c.sessions.extend(m.session, s.now, span)
}

// save makes flush write a member's row.
func (c *consumer) save(m *consumerMember) {
	if !m.dirty {
		m.dirty = true
		c.dirty = append(c.dirty, m)
	}
}

func byID(m *consumerMember, id string) int { return cmp.Compare(m.id, id) }

// add makes a member part of the group: its epoch, assignment and subscription are set.
func (c *consumer) add(m *consumerMember) {
	c.members[m.id] = m
	i, _ := slices.BinarySearchFunc(c.sorted, m.id, byID)
	c.sorted = slices.Insert(c.sorted, i, m)
	if m.instance != "" {
		c.static[m.instance] = m
	}
	if m.classic != nil {
		c.classic++
	}
	if !c.reconciled(m) {
		c.behind++
	}
	c.held.add(m.assigned)
	c.held.add(m.revoking)
}

// remove takes a member out: what it held is free.
func (c *consumer) remove(s *step, m *consumerMember) {
	delete(c.members, m.id)
	i, _ := slices.BinarySearchFunc(c.sorted, m.id, byID)
	c.sorted = slices.Delete(c.sorted, i, i+1)
	if c.static[m.instance] == m {
		delete(c.static, m.instance)
	}
	if m.classic != nil {
		c.classic--
	}
	if !c.reconciled(m) {
		c.behind--
	}
	c.held.remove(m.assigned)
	c.held.remove(m.revoking)
	c.release(m.sub)
	m.dirty = false
	for _, clock := range []*session{m.session, m.revoke, m.rejoin, m.resync} {
		c.sessions.stop(clock)
	}
	s.dropMember(m.id)
	s.membersChanged()
}

// fence takes members out and bumps the group epoch; if only members of the classic protocol are left, the group may become a
// classic one.
func (c *consumer) fence(s *step, members ...*consumerMember) {
	if len(members) == 0 {
		return
	}
	for _, m := range members {
		c.remove(s, m)
	}
	if c.downgrade(s) {
		return
	}
	c.refresh()
	c.bump(s)
}

// bump begins a new group epoch.
func (c *consumer) bump(s *step) {
	c.groupEpoch++
	s.saveGroup()
}

// commit decides whether a client may commit offsets (KIP-848: only at its present epoch).
func (c *consumer) commit(_ *step, req *kmsg.OffsetCommitRequest) int16 {
	generation := generationOf(req)
	if generation < 0 && len(c.members) == 0 {
		return codeNone // an admin client, or a consumer that assigns its partitions itself
	}
	m := c.members[req.MemberID]
	switch {
	case m == nil:
		return codeUnknownMemberID
	case m.classic == nil && req.Version < 9:
		return codeUnsupportedVersion // its client would not know the codes
	}
	return m.checkEpoch(generation)
}

func (c *consumer) fetch(memberID *string, epoch int32) int16 {
	if memberID == nil && epoch < 0 {
		return codeNone
	}
	var m *consumerMember
	if memberID != nil {
		m = c.members[*memberID]
	}
	if m == nil {
		return codeUnknownMemberID
	}
	return m.checkEpoch(epoch)
}

func (m *consumerMember) checkEpoch(epoch int32) int16 {
	switch {
	case epoch == m.epoch:
		return codeNone
	case m.classic != nil:
		return codeIllegalGeneration
	}
	return codeStaleMemberEpoch
}

// subscribed says whether any member subscribes to a topic.
func (c *consumer) subscribed(topic string) bool {
	for _, sub := range c.subs {
		if sub.has(topic) {
			return true
		}
	}
	return false
}

func (*consumer) deletable() int16 { return codeNone }

// retention: offsets of topics that nobody subscribes to expire by the time of their commit, whatever the state of the group.
func (*consumer) retention() (time.Time, bool) { return time.Time{}, true }

// describe is for DescribeGroups, which knows classic groups only.
func (*consumer) describe(*kmsg.DescribeGroupsResponseGroup) {}

func (c *consumer) each(f func(Member)) {
	for _, m := range c.sorted {
		f(Member{ID: m.id, InstanceID: m.instance, Client: m.client, Partitions: named(m.assigned, c.g.topics)})
	}
}
