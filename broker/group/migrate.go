package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
)

// How groups go from one kind to the other.
//
// An empty group becomes what its first member speaks. A classic group of consumers becomes a consumer group when a member of KIP-848
// joins, and a consumer group a classic one when the last such member is gone, if group.consumer.migration.policy lets them.
// Members keep their partitions and epochs go on: the generation is the group epoch. All rows are written anew in one change.

func (m Migration) upgrades() bool { return m == MigrationUpgrade || m == MigrationBidirectional }

func (m Migration) downgrades() bool { return m == MigrationDowngrade || m == MigrationBidirectional }

// consumerHeartbeat answers ConsumerGroupHeartbeat, versions 0 and 1, to a group of any kind.
//
// Deviations: a static member whose first answer was lost may join again with its member id (Kafka: UNRELEASED_INSTANCE_ID, until
// its session is over); ids and subscriptions that are no text or too long to be kept are INVALID_REQUEST; regular
// expressions are matched at once, and not with internal topics; members that wait for partitions are told a shorter heartbeat
// interval than others.
func (g *Group) consumerHeartbeat(s *step, r *Request, req *kmsg.ConsumerGroupHeartbeatRequest) {
	refused := checkHeartbeat(req, &g.cfg)
	c, is := g.m.(*consumer)
	if refused == nil && !is {
		c, refused = g.candidate(req)
	}
	if refused != nil {
		refused.answer(s, r, req)
		return
	}
	if req.MemberEpoch == epochLeave || req.MemberEpoch == epochStaticLeave {
		c.leave(s, r, req)
		c.flush(s)
		return
	}
	m, replaces, refused := c.admit(r, req)
	var changed bool
	if refused == nil {
		changed, refused = c.update(m, r, req)
	}
	if refused != nil {
		refused.answer(s, r, req) // a candidate is dropped: nothing was changed
		return
	}
	if k, ok := g.m.(*classic); ok {
		k.giveWay(s)
		g.become(s, c)
		if len(c.sorted) > 0 {
			s.note("the group becomes a consumer group: a member of that protocol joins", m.id, nil)
			s.dropMembers()
			changed = true // a new target: the leader may have left out partitions
		}
		for _, old := range c.sorted {
			c.save(old)
			c.touch(s, old)
		}
	}
	c.proceed(s, r, req, m, replaces, changed)
	c.flush(s)
}

// candidate is the consumer group that a classic one would become for a member that joins.
func (g *Group) candidate(req *kmsg.ConsumerGroupHeartbeatRequest) (*consumer, *refusal) {
	k := g.m.(*classic)
	switch {
	case req.MemberEpoch != epochJoin && !g.exists():
		return nil, refuse(codeGroupIDNotFound, "Group %s does not exist.", g.id)
	case req.MemberEpoch != epochJoin:
		return nil, refuse(codeGroupIDNotFound, "Group %s is not a consumer group.", g.id)
	case len(k.order) == 0:
		return newConsumer(g, k.generation), nil
	case !g.cfg.Migration.upgrades():
		return nil, refuse(codeGroupIDNotFound, "Group %s is a classic group, which may not become a consumer group.", g.id)
	case k.kindOf != consumerProtocolType:
		return nil, refuse(codeGroupIDNotFound, "Group %s is a classic group, and not one of consumers.", g.id)
	case len(k.order) > g.cfg.ConsumerMaxSize:
		return nil, refuse(codeGroupIDNotFound, "Group %s is a classic group with more members than a consumer group may have.", g.id)
	}
	c := newConsumer(g, k.generation)
	protocol := k.protocol
	if protocol == "" {
		protocol = k.selectProtocol()
	}
	for _, old := range k.order {
		m, ok := c.fromClassic(old, protocol)
		if !ok {
			return nil, refuse(codeGroupIDNotFound,
				"Group %s is a classic group, of which the subscription or the assignment of member %s cannot be read or kept.", g.id, old.id)
		}
		c.add(m)
	}
	c.refresh()
	return c, nil
}

// fromClassic makes a member out of one of a classic group: what the leader gave it is its assignment and its target.
//
// With what the member said it owned when it last joined. While a classic group rebalances its assignments are void, but cooperative
// clients go on with what they have; and they may not yet have given up what the leader took from them. To take either for
// free would give it two owners. (Kafka goes by the assignments alone.)
func (c *consumer) fromClassic(old *classicMember, protocol string) (*consumerMember, bool) {
	sub, ok := readSubscription(old.metadata(protocol))
	given, known := c.readAssignment(old.assignment)
	if !ok || !known || len(old.protocols) == 0 {
		return nil, false
	}
	m := newConsumerMember(old.id)
	m.instance, m.client, m.rebalance, m.rack = old.instance, old.client, old.rebalance, sub.rack
	m.epoch, m.previous = c.groupEpoch, c.groupEpoch
	m.assigned = given.Plus(sub.ownedOf(c.g.topics))
	m.target = m.assigned
	m.classic = &classicPart{session: old.session, protocols: old.protocols}
	m.sub, _ = c.subscribe(sub.topics, "")
	return m, true
}

// readAssignment reads what a leader assigned, as far as it exists. ok is false if it cannot be read, or has user data: only the
// group's own assignor can write that.
func (c *consumer) readAssignment(b []byte) (_ assignor.Assignment, ok bool) {
	if len(b) == 0 {
		return nil, true
	}
	w := wire{b: b}
	w.int16()
	var ps []assignor.Partitions
	for n := w.int32(); n > 0 && !w.bad; n-- {
		t, live := c.g.topics.ByName(w.string())
		of := assignor.Partitions{Topic: t.ID}
		for k := w.int32(); k > 0 && !w.bad; k-- {
			if p := w.int32(); live && p >= 0 && p < t.Partitions {
				of.Partitions = append(of.Partitions, p)
			}
		}
		ps = append(ps, of)
	}
	data := w.int32()
	return assignor.Of(ps...), !w.bad && data <= 0
}

// giveWay ends what members of a classic group wait for: they ask again, and find a consumer group.
func (c *classic) giveWay(s *step) {
	for _, m := range c.order {
		c.endJoin(s, m, codeRebalanceInProgress, m.id)
		c.endSync(s, m, codeRebalanceInProgress)
	}
}

// downgrade makes a classic group of one whose members all speak the classic protocol, and has them rejoin: none of them knows yet
// that it leads. Until then they keep what they have.
func (c *consumer) downgrade(s *step) bool {
	g := c.g
	switch {
	case len(c.members) == 0 || c.classic < len(c.members):
		return false
	case !g.cfg.Migration.downgrades() || len(c.members) > g.cfg.MaxSize:
		return false
	}
	k := newClassic(g, c.groupEpoch)
	k.state, k.kindOf = phaseStable, consumerProtocolType
	for _, m := range c.sorted {
		old := &classicMember{
			id: m.id, instance: m.instance, client: m.client, session: m.classic.session, rebalance: m.rebalance,
			protocols: m.classic.protocols, clock: newSession(m.id),
		}
		k.add(old)
		k.sessions.extend(old.clock, s.now, old.session)
	}
	k.protocol = k.selectProtocol()
	s.dropMembers()
	for i, m := range c.sorted {
		k.order[i].assignment = writeAssignment(k.order[i].metadata(k.protocol), m.target, g.topics)
		k.order[i].save(s)
	}
	k.readTopics()
	s.saveGroup()
	s.note("the group becomes a classic group: the last member of the consumer protocol is gone", "", nil)
	g.become(s, k)
	k.prepare(s)
	return true
}
